//! `#[listener]`: a function that is called with an event; `#[listeners]`: a component whose methods are.
//!
//! [`args`] holds what was said, [`model`] what the signature means, [`check`] what is allowed, [`glue`] what is written;
//! [`durable`] does the first and the last for what only durable listeners have; [`component`] does all of it for each marked
//! method of an impl block.
//! All behaviour lives in `aftercommit`; what is written here could be written by hand.

mod args;
mod check;
pub(crate) mod component;
mod durable;
mod glue;
mod model;

use proc_macro2::TokenStream;
use syn::ItemFn;

use crate::support::{Errors, beside};
use args::Args;
use model::Model;

/// The function, unchanged, and what is written beside it.
pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let expansion = match syn::parse2(item.clone()) {
        Ok(function) => expand(args, &function),
        Err(_) => Err(syn::Error::new_spanned(
            &item,
            "`#[listener]` goes on a free `fn` with a body; the impl block of a component takes `#[listeners]`",
        )),
    };
    beside(item, expansion)
}

/// What is written beside the function.
pub(crate) fn expand(args: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let args = Args::read(args, &mut errors);
    if let Some(receiver) = function.sig.receiver() {
        errors.push(
            receiver,
            "a method is a listener of its component: put `#[listeners]` on the impl block, so that the bus is asked for the component",
        );
    }
    let model = Model::new(args, &function.sig, None, &mut errors);
    check::all(&model, &mut errors);
    errors.finish()?;
    Ok(glue::of_function(&model, function))
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::expand;
    use crate::support::budget;

    #[test]
    fn a_bare_listener_expands_to_few_lines() {
        let function = parse_quote!(
            fn drop_page(event: &PageChanged) {}
        );
        budget::check(expand(quote!(), &function).expect("legal"), 24);
    }

    #[test]
    fn a_durable_listener_with_everything_stays_within_its_budget() {
        let function = parse_quote! {
            async fn book(event: &OrderPlaced, delivery: Delivery, carrier: State<Carrier>) -> Result<Settled, Failed> {}
        };
        let args = quote! {
            durable, id = "shop.book", formerly = ["shop.ship"], condition = |event| event.total > 0, concurrency = 8,
            redeliver(attempts = 5, backoff = exponential(Duration::from_millis(100))), time_limit = Duration::from_secs(5)
        };
        budget::check(expand(args, &function).expect("legal"), 60);
    }
}
