//! `#[derive(Ranked)]`: for which item an event counts in rankings, and how much.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, ExprClosure, Field, LitStr, Pat, Path, Type};

use crate::support::args::{self, Form, form, read_attributes};
use crate::support::{Errors, check_name, default_crate, located, member, ours};

const ON_TYPE: &[Form] = &[
    form("source", "source = \"view\""),
    form("points", "points = |event| ln_1p(event.price * event.units)"),
    form("crate", "crate = ::aftercommit"),
];
const ON_FIELD: &[Form] = &[form("item", "item"), form("at", "at")];

struct Model<'a> {
    input: &'a DeriveInput,
    krate: Path,
    source: Option<LitStr>,
    points: Option<ExprClosure>,
    item: Option<(TokenStream, &'a Type)>,
    at: Option<(TokenStream, &'a Type)>,
}

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut model = Model { input, krate: default_crate(), source: None, points: None, item: None, at: None };
    read_attributes(&input.attrs, "ranked", ON_TYPE, &mut errors, |name, input, _| {
        match &*name.to_string() {
            "source" => model.source = Some(args::value(input)?),
            "points" => model.points = Some(args::value(input)?),
            _ => model.krate = args::path(input)?,
        }
        Ok(())
    });
    match &input.data {
        Data::Struct(data) => {
            data.fields.iter().enumerate().for_each(|(index, field)| model.read(index, field, &mut errors));
        }
        Data::Enum(data) => errors.push(data.enum_token, by_hand(input)),
        Data::Union(data) => errors.push(data.union_token, by_hand(input)),
    }
    model.check(&mut errors);
    let glue = model.glue();
    errors.finish()?;
    Ok(glue.unwrap_or_default())
}

fn by_hand(input: &DeriveInput) -> String {
    format!("`Ranked` is derived for structs; write `impl Ranked<Item> for {}` and match in `credit`", input.ident)
}

impl<'a> Model<'a> {
    fn read(&mut self, index: usize, field: &'a Field, errors: &mut Errors) {
        let mut given = Vec::new();
        read_attributes(&field.attrs, "ranked", ON_FIELD, errors, |name, _, _| {
            given.push(name.clone());
            Ok(())
        });
        for name in given {
            let place = if name == "item" { &mut self.item } else { &mut self.at };
            if place.is_some() {
                errors.push(
                    &name,
                    format!("two fields are `{name}`: an event counts for one; for several write `impl Ranked`"),
                );
            }
            *place = Some((member(index, field), &field.ty));
        }
    }

    fn check(&self, errors: &mut Errors) {
        match &self.source {
            Some(source) => check_name("the name of a source", source, errors),
            None => errors.push(
                &self.input.ident,
                "say what its measures are called: `#[ranked(source = \"view\")]`; the name is stored with them",
            ),
        }
        if self.item.is_none() && matches!(self.input.data, Data::Struct(_)) {
            errors.push(&self.input.ident, "say for which item it counts: `#[ranked(item)]` on one of its fields");
        }
        if let Some(points) = &self.points
            && !(points.inputs.len() == 1
                && matches!(points.inputs[0], Pat::Ident(_) | Pat::Wild(_) | Pat::Struct(_) | Pat::TupleStruct(_)))
        {
            errors.push(points, "write `points = |event| ..`: a function of the event");
        }
    }

    fn glue(&self) -> Option<TokenStream> {
        let Self { input, krate, points, at, .. } = self;
        let (source, (item, ty)) = (self.source.as_ref()?, self.item.as_ref()?);
        let name = &input.ident;
        let (params, args, bounds) = input.generics.split_for_impl();
        let at = at.as_ref().map(|(field, ty)| {
            let here = ours(ty.span());
            let krate = located(krate, here);
            quote_spanned!(here=> credits.at(<#krate::clock::Timestamp as ::core::convert::From<#ty>>::from(self.#field));)
        });
        let item = quote!(<#ty as ::core::clone::Clone>::clone(&self.#item));
        let add = match points {
            // Through a function, so that the closure's parameter needs no type.
            Some(points) => quote! {
                fn points<E>(event: &E, points: impl ::core::ops::Fn(&E) -> f64) -> f64 {
                    points(event)
                }
                credits.points(#item, points(self, #points));
            },
            None => quote!(credits.one(#item);),
        };
        Some(quote! {
            #[automatically_derived]
            impl #params #krate::ranking::Ranked<#ty> for #name #args #bounds {
                const SOURCE: &'static str = #source;
                fn credit(&self, credits: &mut #krate::ranking::Credits<#ty>) {
                    #at
                    #add
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::derive;
    use crate::support::budget;

    #[test]
    fn an_event_that_is_ranked_stays_within_its_budget() {
        let event = parse_quote!(
            #[ranked(source = "sale", points = |event| event.amount)]
            struct Sold {
                #[ranked(item)]
                product: u64,
                amount: f64,
                #[ranked(at)]
                at: Timestamp,
            }
        );
        budget::check(derive(&event).expect("legal"), 20);
    }
}
