//! The versions of an event's stored form: which there are, and the steps between them.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, LitInt, Path, Token, parenthesized};

use super::Stored;
use crate::support::{Errors, located, ours};

/// `1 => from_v1`: the version it takes, and the function.
pub(super) struct Step {
    from: LitInt,
    function: Expr,
}

impl Parse for Step {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let from = input.parse()?;
        input.parse::<Token![=>]>()?;
        Ok(Self { from, function: input.parse()? })
    }
}

/// `(1 => from_v1, 2 => from_v2)`.
pub(super) fn steps(input: ParseStream<'_>) -> syn::Result<Vec<Step>> {
    let within;
    parenthesized!(within in input);
    Ok(Punctuated::<Step, Token![,]>::parse_terminated(&within)?.into_iter().collect())
}

/// Each version from the oldest on leads to the next, by one step.
pub(super) fn check(stored: &Stored, errors: &mut Errors) {
    let said = stored.version.as_ref().map(|said| &said.value);
    let oldest_said = stored.oldest.as_ref().map(|said| &said.value);
    let (Some(version), Some(oldest)) = (number(said, errors), number(oldest_said, errors)) else { return };
    if let Some(at) = oldest_said.filter(|_| oldest > version) {
        errors.push(at, format!("its version is {version}, so that none is as new as {oldest}"));
        return;
    }
    let steps = stored.upcasts.as_ref().map_or(&[][..], |said| &said.value);
    let mut known: Vec<u32> = Vec::new();
    for Step { from, .. } in steps {
        let Some(number) = number(Some(from), errors) else { return };
        if known.contains(&number) {
            errors.push(from, format!("two steps lead from version {number}: keep one of them"));
        } else if number >= version {
            let next = number.saturating_add(1);
            errors.push(
                from,
                format!("its version is {version}: a step from {number} leads to none, write `version = {next}`"),
            );
        } else if number < oldest {
            errors.push(from, format!("its oldest version is {oldest}: drop this step, or write `oldest = {number}`"));
        }
        known.push(number);
    }
    if let Some(missing) = (oldest..version).find(|from| !known.contains(from)) {
        let next = missing + 1;
        let told = format!(
            "no step leads from version {missing} to {next}: add `upcast({missing} => from_v{missing})`, \
             or write `oldest = {next}` if nothing older is stored any more"
        );
        match said {
            Some(at) => errors.push(at, told),
            None => errors.push(oldest_said, told),
        }
    }
}

/// The version that was said, 1 if none was; `None` if it is no version.
fn number(said: Option<&LitInt>, errors: &mut Errors) -> Option<u32> {
    let Some(said) = said else { return Some(1) };
    match said.base10_parse::<u32>() {
        Ok(0) => errors.push(said, "versions begin at 1"),
        Ok(number) => return Some(number),
        Err(error) => errors.add(error),
    }
    None
}

pub(super) fn glue(krate: &Path, steps: &[Step]) -> TokenStream {
    let steps = steps.iter().map(|Step { from, function }| {
        // At the function, so that one that is no step is reported there.
        let at = ours(function.span());
        let krate = located(krate, at);
        quote_spanned!(at=> #krate::event::Upcast { from: #from, step: |body| #krate::event::upcast(body, #function) })
    });
    quote::quote!(&[#(#steps),*])
}
