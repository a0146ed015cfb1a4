//! What all macros share: reading arguments, and collecting mistakes.
//!
//! It knows no argument's meaning; each macro brings its own list of legal forms.

pub(crate) mod args;
#[cfg(test)]
pub(crate) mod budget;
mod errors;

pub(crate) use errors::{Errors, beside};

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Field, Index, Path, Type, parse_quote};

/// The crate that expansions name, unless `crate = ..` says otherwise.
pub(crate) fn default_crate() -> Path {
    parse_quote!(::aftercommit)
}

/// The type without the invisible groups that `macro_rules` puts around it.
pub(crate) fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        _ => ty,
    }
}

/// The crate's path as if it stood at `at`, so that what the compiler finds there is reported there.
pub(crate) fn located(krate: &Path, at: Span) -> TokenStream {
    fn moved(tokens: TokenStream, at: Span) -> TokenStream {
        let tokens = tokens.into_iter().map(|mut token| {
            if let TokenTree::Group(group) = &token {
                token = Group::new(group.delimiter(), moved(group.stream(), at)).into();
            }
            token.set_span(token.span().located_at(at));
            token
        });
        tokens.collect()
    }
    moved(krate.to_token_stream(), at)
}

/// A span for tokens of ours at `at`: their names mean what they mean in the expansion.
pub(crate) fn ours(at: Span) -> Span {
    Span::call_site().located_at(at)
}

/// Refuses a name that would be unreadable in a store or a log.
pub(crate) fn check_name(what: &str, name: &syn::LitStr, errors: &mut Errors) {
    let value = name.value();
    if value.is_empty() {
        errors.push(name, format!("{what} is empty; write one such as \"shop.order-placed\""));
    } else if value.contains(char::is_whitespace) {
        errors.push(name, format!("{what} contains white space; write one such as \"shop.order-placed\""));
    }
}

/// The field as it stands after `self.`.
pub(crate) fn member(index: usize, field: &Field) -> TokenStream {
    match &field.ident {
        Some(name) => name.to_token_stream(),
        None => Index::from(index).to_token_stream(),
    }
}
