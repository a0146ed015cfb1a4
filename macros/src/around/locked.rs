//! `#[locked]`: a function that runs while it holds the lock of a key.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ItemFn};

use super::{answers_nothing, tx};
use crate::support::args::{self, Form, Said, form, read_tokens};
use crate::support::{Errors, default_crate, ours};

const FORMS: &[Form] = &[
    form("key", "key = order"),
    form("keys", "keys = [from, to]"),
    form("on", "on = self.accounts"),
    form("wait", "wait = Duration::from_secs(5)"),
    form("shared", "shared"),
    form("crate", "crate = ::aftercommit"),
];

#[derive(Default)]
struct Args {
    key: Option<Said<Expr>>,
    keys: Option<Said<Expr>>,
    on: Option<Said<Expr>>,
    wait: Option<Said<Expr>>,
    shared: Option<Ident>,
}

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    super::attribute("locked", item, |function| expand(args, function))
}

fn expand(tokens: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut krate = default_crate();
    let mut args = Args::default();
    read_tokens(tokens, FORMS, &mut errors, |name, input, _| {
        match &*name.to_string() {
            "key" => args.key = args::said(name, input)?,
            "keys" => args.keys = args::said(name, input)?,
            "on" => args.on = args::said(name, input)?,
            "wait" => args.wait = args::said(name, input)?,
            "shared" => args.shared = Some(name.clone()),
            _ => krate = args::path(input)?,
        }
        Ok(())
    });
    let tx = tx(function);
    check(&args, tx, function, &mut errors);
    errors.finish()?;
    let is_async = function.sig.asyncness.is_some();
    let wait = args.wait.iter().map(|said| &said.value);
    let shared = args.shared.iter().map(|name| quote_spanned!(name.span()=> shared));
    let options = quote!(#(.#shared())* #(.within(#wait))*);
    let several = args.keys.is_some();
    let Some(key) = args.key.as_ref().or(args.keys.as_ref()).map(|said| &said.value) else { return Ok(quote!()) };
    // At the key, so that one that is none is reported there.
    let at = ours(key.span());
    let body = &function.block.stmts;
    if let Some(tx) = tx {
        let call = match (is_async, several) {
            (true, false) => quote_spanned!(at=> key(#key).await),
            (true, true) => quote_spanned!(at=> keys(#key).await),
            (false, false) => quote_spanned!(at=> key_blocking(#key)),
            (false, true) => quote_spanned!(at=> keys_blocking(#key)),
        };
        return Ok(quote! {
            #tx.locking()#options.#call?;
            #(#body)*
        });
    }
    let on = args.on.as_ref().map(|said| &said.value);
    let request = if several { quote_spanned!(at=> request_all(#key)) } else { quote_spanned!(at=> request(#key)) };
    let wait = if is_async { quote!(wait().await) } else { quote!(wait_blocking()) };
    let held = match args.wait {
        Some(_) => quote!((#on).#request #options.#wait.map_err(#krate::Error::from)?),
        None => quote!(#krate::__private::obtained((#on).#request #options.#wait)),
    };
    Ok(quote! {
        let __aftercommit_held = #held;
        #(#body)*
    })
}

fn check(args: &Args, tx: Option<&Ident>, function: &ItemFn, errors: &mut Errors) {
    match (&args.key, &args.keys) {
        (None, None) => {
            errors.push(&function.sig.ident, "say what is locked: `#[locked(key = order)]`, or `keys = [from, to]`")
        }
        (Some(_), Some(keys)) => errors.push(&keys.name, "`keys` are all that is locked: add the `key` to them"),
        _ => {}
    }
    match (&args.on, tx) {
        (Some(on), Some(_)) => errors.push(
            &on.name,
            "with a `tx` the lock is the unit of work's, held until its outcome is durable: drop `on`, or the `tx`",
        ),
        (None, None) => errors.push(
            &function.sig.ident,
            "say whose lock it is: `on = self.accounts`, a `KeyedLock`; or take the unit of work, as `tx: &mut Tx`",
        ),
        _ => {}
    }
    if answers_nothing(function) {
        if let Some(wait) = &args.wait {
            errors.push(
                &wait.name,
                "who waits so long at most may not get the lock: answer a `Result<_, E>` with `E: From<aftercommit::Error>`, or drop `wait`",
            );
        } else if let Some(tx) = tx {
            errors.push(
                tx,
                "the lock of a unit of work is waited for as long as the bus says: answer a `Result<_, E>` with `E: From<aftercommit::Error>`",
            );
        }
    }
    if let Some(constness) = &function.sig.constness {
        errors.push(constness, "a lock is taken when the program runs: drop `const`");
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::expand;
    use crate::around::with_body;
    use crate::support::budget;

    #[test]
    fn a_locked_method_is_three_lines_longer() {
        let function = parse_quote! {
            async fn pay(&self, from: u64, to: u64) -> Result<(), Error> {
                self.move_money(from, to).await
            }
        };
        let args = quote!(keys = [from, to], on = self.accounts, wait = Duration::from_secs(1), shared);
        budget::check(with_body(&function, &expand(args, &function).expect("legal")), 10);
    }
}
