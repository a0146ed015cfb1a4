//! Mistakes, collected so that the user sees all of them at once.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Notes a mistake at the tokens given.
    pub(crate) fn push(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.add(syn::Error::new_spanned(at, message));
    }

    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// An error if anything was noted.
    pub(crate) fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// `item` followed by `result`, or by its errors; the item stays in place either way.
pub(crate) fn beside(item: TokenStream, result: syn::Result<TokenStream>) -> TokenStream {
    let mut out = item;
    out.extend(result.unwrap_or_else(syn::Error::into_compile_error));
    out
}
