//! Attributes that put something around a function's body: `#[locked]`, `#[idempotent]`, `#[metered]`.
//!
//! The signature stays what it is, and so does the body; what stands around it are calls of `aftercommit` that could be written
//! by hand. They go on free functions and on methods, in any impl block.

mod idempotent;
mod locked;
mod metered;

pub(crate) use idempotent::attribute as idempotent;
pub(crate) use locked::attribute as locked;
pub(crate) use metered::attribute as metered;

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{FnArg, ItemFn, Pat, ReturnType, Type, TypeReference};

use crate::support::peel;

/// The function with what stands around its body; where a mistake was made, the function as it is, and the mistakes.
fn attribute(name: &str, item: TokenStream, expand: impl FnOnce(&ItemFn) -> syn::Result<TokenStream>) -> TokenStream {
    let expansion = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => expand(&function).map(|body| with_body(&function, &body)),
        Err(_) => Err(syn::Error::new_spanned(&item, format!("`#[{name}(..)]` goes on a `fn` with a body"))),
    };
    expansion.unwrap_or_else(|error| [item, error.into_compile_error()].into_iter().collect())
}

fn with_body(function: &ItemFn, body: &TokenStream) -> TokenStream {
    let ItemFn { attrs, vis, sig, .. } = function;
    quote! {
        #(#attrs)*
        #vis #sig {
            #body
        }
    }
}

/// The name of the parameter `tx: &mut Tx`, if there is one.
fn tx(function: &ItemFn) -> Option<&Ident> {
    parameter(
        function,
        |ty| matches!(ty, Type::Reference(TypeReference { mutability: Some(_), elem, .. }) if ends_in(elem, "Tx")),
    )
}

/// The name of the first parameter whose type is wanted.
fn parameter(function: &ItemFn, is_wanted: impl Fn(&Type) -> bool) -> Option<&Ident> {
    function.sig.inputs.iter().find_map(|input| match input {
        FnArg::Typed(typed) if is_wanted(peel(&typed.ty)) => match &*typed.pat {
            Pat::Ident(name) => Some(&name.ident),
            _ => None,
        },
        _ => None,
    })
}

/// Whether the type is `Tx`, `Result<..>` or whatever else by the last word of its path.
fn ends_in(ty: &Type, name: &str) -> bool {
    matches!(peel(ty), Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

/// The type of the answer.
fn answer(function: &ItemFn) -> TokenStream {
    match &function.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => quote!(#ty),
    }
}

/// Whether nothing can be told with `?`: there is no answer, or one that is plainly no `Result`.
fn answers_nothing(function: &ItemFn) -> bool {
    match &function.sig.output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(peel(ty), Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

/// Whether the answer is a `Result`, as far as its name says so.
fn answers_result(function: &ItemFn) -> bool {
    matches!(&function.sig.output, ReturnType::Type(_, ty) if ends_in(ty, "Result"))
}
