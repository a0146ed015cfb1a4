//! `#[derive(Event)]`: a type's name, versions and key, and its slot in the registry.

mod versions;

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, GenericParam, LitInt, LitStr, Path, Token, Type, WherePredicate, parse_quote};

use crate::support::args::{self, Form, Said, form, read_attributes, read_within};
use crate::support::{Errors, check_name, default_crate, located, member, ours, peel};
use versions::Step;

const NAME: Form = form("name", "name = \"shop.order-placed\"");
const VERSION: Form = form("version", "version = 1");
const FORMERLY: Form = form("formerly", "formerly = [\"shop.order-made\"]");
const UPCAST: Form = form("upcast", "upcast(1 => from_v1, 2 => from_v2)");
const OLDEST: Form = form("oldest", "oldest = 2");
const LOGGED: Form = form("logged", "logged");

const ON_TYPE: &[Form] = &[
    NAME,
    VERSION,
    UPCAST,
    OLDEST,
    FORMERLY,
    LOGGED,
    Form {
        name: "instance",
        written: "instance(Wrapper<i64>, name = \"shop.wrapper-i64\", version = 1)",
        repeats: true,
        values: &[],
    },
    form("crate", "crate = ::aftercommit"),
];
const ON_INSTANCE: &[Form] = &[NAME, VERSION, UPCAST, OLDEST, FORMERLY, LOGGED];
const ON_FIELD: &[Form] = &[form("key", "key")];

/// What was said about the stored form.
#[derive(Default)]
struct Stored {
    name: Option<Said<LitStr>>,
    version: Option<Said<LitInt>>,
    upcasts: Option<Said<Vec<Step>>>,
    oldest: Option<Said<LitInt>>,
    formerly: Option<Said<Vec<LitStr>>>,
    logged: Option<Said<()>>,
}

struct Model<'a> {
    input: &'a DeriveInput,
    krate: Path,
    stored: Stored,
    instances: Vec<(Type, Stored)>,
    /// The key fields in the order of declaration.
    key: Vec<(TokenStream, &'a Type)>,
}

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let model = Model::new(input, &mut errors);
    check(&model, &mut errors);
    errors.finish()?;
    Ok(glue(&model))
}

impl<'a> Model<'a> {
    fn new(input: &'a DeriveInput, errors: &mut Errors) -> Self {
        let mut model =
            Model { input, krate: default_crate(), stored: Stored::default(), instances: Vec::new(), key: Vec::new() };
        read_attributes(&input.attrs, "event", ON_TYPE, errors, |name, input, errors| {
            if name == "crate" {
                model.krate = args::path(input)?;
            } else if name == "instance" {
                model.instances.push(instance(input, errors)?);
            } else {
                model.stored.read(name, input)?;
            }
            Ok(())
        });
        if let Data::Struct(data) = &input.data {
            for (index, field) in data.fields.iter().enumerate() {
                if is_key(field, errors) {
                    model.key.push((member(index, field), &field.ty));
                }
            }
        }
        model
    }
}

fn instance(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<(Type, Stored)> {
    let within;
    syn::parenthesized!(within in input);
    let ty = within.parse()?;
    let mut stored = Stored::default();
    within.parse::<Option<Token![,]>>()?;
    read_within(&within, ON_INSTANCE, errors, |name, input, _| stored.read(name, input));
    Ok((ty, stored))
}

impl Stored {
    fn read(&mut self, name: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        let name = name.clone();
        match &*name.to_string() {
            "name" => self.name = Some(Said { name, value: args::value(input)? }),
            "version" => self.version = Some(Said { name, value: args::value(input)? }),
            "upcast" => self.upcasts = Some(Said { name, value: versions::steps(input)? }),
            "oldest" => self.oldest = Some(Said { name, value: args::value(input)? }),
            "formerly" => self.formerly = Some(Said { name, value: args::strings(input)? }),
            _ => self.logged = Some(Said { name, value: () }),
        }
        Ok(())
    }

    /// What is said about a stored form, by the names of the arguments.
    fn said(&self) -> Vec<&Ident> {
        let said = [
            self.name.as_ref().map(|said| &said.name),
            self.version.as_ref().map(|said| &said.name),
            self.upcasts.as_ref().map(|said| &said.name),
            self.oldest.as_ref().map(|said| &said.name),
            self.formerly.as_ref().map(|said| &said.name),
            self.logged.as_ref().map(|said| &said.name),
        ];
        said.into_iter().flatten().collect()
    }
}

fn is_key(field: &Field, errors: &mut Errors) -> bool {
    let mut is_key = false;
    read_attributes(&field.attrs, "event", ON_FIELD, errors, |_, _, _| {
        is_key = true;
        Ok(())
    });
    is_key
}

fn is_generic(input: &DeriveInput) -> bool {
    input.generics.params.iter().any(|param| !matches!(param, GenericParam::Lifetime(_)))
}

fn check(model: &Model<'_>, errors: &mut Errors) {
    let name = &model.input.ident;
    match &model.input.data {
        Data::Struct(_) => {}
        Data::Enum(data) => {
            for field in data.variants.iter().flat_map(|variant| &variant.fields) {
                if let Some(attribute) = field.attrs.iter().find(|attribute| attribute.path().is_ident("event")) {
                    errors.push(attribute, "an enum has no key: its variants share no field; make the event a struct with a key and the enum a field of it");
                }
            }
        }
        Data::Union(data) => errors.push(data.union_token, "a union is no event: use a struct or an enum"),
    }
    for lifetime in model.input.generics.lifetimes() {
        errors.push(
            lifetime,
            "an event outlives its publisher, so it borrows nothing: own the data, as `String` or `Arc<str>`",
        );
    }
    check_stored(&model.stored, errors);
    if is_generic(model.input) {
        for said in model.stored.said() {
            errors.push(said, format!("a generic event is named for each instance: write `#[event(instance({name}<i64>, name = \"shop.{}-i64\"))]`", name.to_string().to_lowercase()));
        }
    }
    for (ty, stored) in &model.instances {
        if !is_generic(model.input) {
            errors.push(ty, format!("`{name}` is not generic: write `#[event(name = \"..\")]`"));
        } else if !names(ty, name) {
            errors.push(ty, format!("expected an instance of `{name}`, such as `{name}<i64>`"));
        }
        check_stored(stored, errors);
        if stored.said().is_empty() {
            errors.push(ty, "an instance has a name: write `instance(.., name = \"shop.wrapper-i64\")`");
        }
    }
}

fn names(ty: &Type, name: &Ident) -> bool {
    matches!(peel(ty), Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == *name))
}

fn check_stored(stored: &Stored, errors: &mut Errors) {
    let formerly = stored.formerly.iter().flat_map(|said| &said.value);
    for old in formerly.clone() {
        check_name("the former name of an event", old, errors);
    }
    match &stored.name {
        Some(name) => {
            versions::check(stored, errors);
            check_name("the name of an event", &name.value, errors);
            for old in formerly.filter(|old| old.value() == name.value.value()) {
                errors.push(old, "this is its name now: list only the names it had before");
            }
        }
        None => {
            for said in stored.said() {
                errors.push(
                    said,
                    format!(
                        "`{said}` is about the stored form, which needs a name: add `name = \"shop.order-placed\"`"
                    ),
                );
            }
        }
    }
}

fn glue(model: &Model<'_>) -> TokenStream {
    let name = &model.input.ident;
    if !model.instances.is_empty() {
        return model.instances.iter().map(|(ty, stored)| impl_event(model, &quote!(#ty), stored)).collect();
    }
    if !is_generic(model.input) {
        return impl_event(model, &quote!(#name), &model.stored);
    }
    let krate = &model.krate;
    let key = impl_key(model);
    let key_types = model.key.iter().map(|(_, ty)| ty);
    let mut generics = model.input.generics.clone();
    let bounds = &mut generics.make_where_clause().predicates;
    bounds.push(parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static));
    bounds.extend(key_types.map(|ty| -> WherePredicate { parse_quote!(#ty: #krate::key::Key) }));
    let (params, args, bounds) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #params #krate::Event for #name #args #bounds {
            #key
        }
    }
}

fn impl_event(model: &Model<'_>, ty: &TokenStream, stored: &Stored) -> TokenStream {
    let krate = &model.krate;
    let key = impl_key(model);
    let private = quote!(#krate::__private);
    let form = stored.name.as_ref().map(|name| {
        let name = &name.value;
        let version = stored.version.iter().map(|said| &said.value);
        let oldest = stored.oldest.iter().map(|said| &said.value);
        let upcasts = stored.upcasts.iter().map(|said| versions::glue(krate, &said.value));
        let formerly = stored.formerly.iter().map(|said| &said.value);
        let logged = stored.logged.iter().map(|said| &said.name);
        // The name's span, so that a missing serde trait is reported where storing was asked for.
        let at = ours(name.span());
        let located = located(krate, at);
        let json = quote_spanned!(at=> #located::__private::Stored::<Self>::json(#name));
        quote! {
            const STORED: ::core::option::Option<#private::Stored<Self>> = ::core::option::Option::Some(
                #json #(.version(#version))* #(.oldest(#oldest))* #(.upcasts(#upcasts))* #(.formerly(&[#(#formerly),*]))* #(.#logged())*
            );
        }
    });
    let stored_event = form.is_some().then(|| {
        quote! {
            #[automatically_derived]
            impl #krate::event::StoredEvent for #ty {}
        }
    });
    quote! {
        #[automatically_derived]
        impl #krate::Event for #ty {
            #form
            #key
            fn slot() -> ::core::option::Option<&'static #private::EventSlot> {
                static SLOT: #private::EventSlot = #private::EventSlot::new();
                ::core::option::Option::Some(&SLOT)
            }
        }
        #stored_event
    }
}

fn impl_key(model: &Model<'_>) -> Option<TokenStream> {
    if model.key.is_empty() {
        return None;
    }
    let fields = model.key.iter().map(|(member, ty)| {
        // At the field's type, so that one that is no key is reported there. An instance does not know the type by this name.
        let at = ours(ty.span());
        let krate = located(&model.krate, at);
        quote_spanned!(at=> #krate::key::Key::encode(&self.#member, out);)
    });
    Some(quote! {
        fn key(&self, out: &mut ::std::vec::Vec<u8>) -> bool {
            #(#fields)*
            true
        }
    })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::derive;
    use crate::support::budget;

    #[test]
    fn a_stored_event_with_a_key_stays_within_its_budget() {
        let event = parse_quote! {
            #[event(name = "shop.order-placed", version = 2, upcast(1 => from_v1), formerly = ["shop.order-made"], logged)]
            struct OrderPlaced {
                #[event(key)]
                order: u64,
                total: u64,
            }
        };
        budget::check(derive(&event).expect("legal"), 40);
    }

    #[test]
    fn an_event_in_memory_expands_to_few_lines() {
        budget::check(
            derive(&parse_quote!(
                struct Ping;
            ))
            .expect("legal"),
            9,
        );
    }
}
