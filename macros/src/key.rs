//! `#[derive(Key)]`: a struct of keys is a key, field by field.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, GenericParam, Path, WherePredicate, parse_quote, parse_quote_spanned};

use crate::support::args::{self, Form, form, read_attributes};
use crate::support::{Errors, default_crate, located, member, ours};

const ON_TYPE: &[Form] = &[form("crate", "crate = ::aftercommit")];

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut krate = default_crate();
    read_attributes(&input.attrs, "key", ON_TYPE, &mut errors, |_, input, _| {
        krate = args::path(input)?;
        Ok(())
    });
    let fields = check(input, &mut errors);
    errors.finish()?;
    Ok(glue(&krate, input, &fields))
}

fn check<'a>(input: &'a DeriveInput, errors: &mut Errors) -> Vec<&'a Field> {
    let name = &input.ident;
    for lifetime in input.generics.lifetimes() {
        errors.push(
            lifetime,
            "a key is read back from bytes, so it borrows nothing: own the data, as `String` or `Vec<u8>`",
        );
    }
    match &input.data {
        Data::Struct(data) if data.fields.is_empty() => {
            errors.push(name, "a key has at least one field: without one, all keys would be equal");
            Vec::new()
        }
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => {
            errors.push(
                data.enum_token,
                format!("`Key` is derived for structs: reordering variants would reorder stored keys; write `impl Key for {name}` with bytes that stay"),
            );
            Vec::new()
        }
        Data::Union(data) => {
            errors.push(data.union_token, "`Key` is derived for structs");
            Vec::new()
        }
    }
}

fn glue(krate: &Path, input: &DeriveInput, fields: &[&Field]) -> TokenStream {
    let name = &input.ident;
    let key = quote!(#krate::key::Key);
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let mut generics = input.generics.clone();
    let owned = generics.params.iter().filter_map(|param| match param {
        GenericParam::Type(param) => Some(&param.ident),
        _ => None,
    });
    let owned: Vec<WherePredicate> =
        owned.map(|param| parse_quote!(#param: ::core::marker::Send + ::core::marker::Sync + 'static)).collect();
    // The bounds stand here and not only in the bodies, so that a field that is no key is reported once, at its type.
    let bounds = &mut generics.make_where_clause().predicates;
    bounds.extend(owned);
    bounds.extend(types.iter().map(|ty| -> WherePredicate {
        let at = ours(ty.span());
        let krate = located(krate, at);
        parse_quote_spanned!(at=> #ty: #krate::key::Key)
    }));
    let (params, args, bounds) = generics.split_for_impl();

    let members: Vec<_> = fields.iter().enumerate().map(|(index, field)| member(index, field)).collect();
    let shapes = types.iter().map(|ty| quote!(<#ty as #key>::shape(out);));
    let shape = if let [_] = fields {
        quote!(#(#shapes)*)
    } else {
        let separators = (0..fields.len()).map(|index| if index == 0 { "(" } else { ", " });
        quote! {
            #(out.push_str(#separators); #shapes)*
            out.push(')');
        }
    };
    quote! {
        #[automatically_derived]
        impl #params #key for #name #args #bounds {
            fn shape(out: &mut ::std::string::String) {
                #shape
            }
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                #(<#types as #key>::encode(&self.#members, out);)*
            }
            fn decode(input: &mut &[u8]) -> ::core::result::Result<Self, #krate::error::KeyError> {
                ::core::result::Result::Ok(Self { #(#members: <#types as #key>::decode(input)?),* })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::derive;
    use crate::support::budget;

    #[test]
    fn a_key_of_three_fields_stays_within_its_budget() {
        let key = parse_quote!(
            struct Seat {
                hall: String,
                row: u16,
                number: u16,
            }
        );
        budget::check(derive(&key).expect("legal"), 45);
    }
}
