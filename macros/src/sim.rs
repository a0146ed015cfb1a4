//! `#[sim_test]`: a test over many seeds.
//!
//! What runs, and what a seed decides, is `aftercommit::testing::sim`; what is written here is one call of its `check`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{ItemFn, LitInt, ReturnType};

use crate::support::args::{self, Form, Said, form, read_tokens};
use crate::support::{Errors, default_crate, ours};

const FORMS: &[Form] = &[form("seeds", "seeds = 100"), form("crate", "crate = ::aftercommit")];

/// How many seeds a test runs with if it does not say.
const SEEDS: u64 = 100;

/// The test, with the function in it.
pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let expansion = match syn::parse2(item.clone()) {
        Ok(function) => expand(args, &function),
        Err(_) => Err(syn::Error::new_spanned(
            &item,
            "`#[sim_test]` goes on a `fn(sim: &mut Sim)`, or an `async fn(life: Life)`",
        )),
    };
    expansion.unwrap_or_else(|error| [item, error.into_compile_error()].into_iter().collect())
}

fn expand(args: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut krate = default_crate();
    let mut seeds: Option<Said<LitInt>> = None;
    read_tokens(args, FORMS, &mut errors, |name, input, _| {
        if name == "crate" {
            krate = args::path(input)?;
        } else {
            seeds = Some(Said { name: name.clone(), value: args::value(input)? });
        }
        Ok(())
    });
    let sig = &function.sig;
    if let Some(seeds) = &seeds
        && seeds.value.base10_parse::<u64>().ok().is_none_or(|seeds| seeds == 0)
    {
        errors.push(&seeds.value, "without a seed nothing runs: write `seeds = 100`");
    }
    if sig.inputs.len() != 1 {
        errors.push(
            sig,
            "a simulation is given one thing: a `fn` takes `sim: &mut Sim`, an `async fn` takes `life: Life`",
        );
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        errors.push(ty, "a simulation answers nothing: what is wrong panics");
    }
    if sig.generics.lt_token.is_some() {
        errors.push(&sig.generics, "nobody says what these parameters are: drop them");
    }
    errors.finish()?;
    let (name, seeds) = (&sig.ident, seeds.map_or(SEEDS, |seeds| seeds.value.base10_parse().unwrap_or(SEEDS)));
    // At the parameter, so that one of another type is reported there.
    let at = ours(sig.inputs.first().map_or_else(|| name.span(), syn::spanned::Spanned::span));
    let test = match sig.asyncness {
        Some(_) => quote_spanned!(at=> |sim: &mut #krate::testing::sim::Sim| sim.lives(#name)),
        None => quote_spanned!(at=> #name),
    };
    Ok(quote! {
        #[test]
        fn #name() {
            #function
            #krate::testing::sim::check(::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)), #seeds, #test);
        }
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::expand;
    use crate::support::budget;

    #[test]
    fn a_simulation_expands_to_one_call() {
        let function = parse_quote!(
            async fn counts(life: Life) {}
        );
        budget::check(expand(quote!(seeds = 500), &function).expect("legal"), 9);
    }
}
