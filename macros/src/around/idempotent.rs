//! `#[idempotent]`: a function that runs once for each request.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ItemFn, LitStr, Type};

use super::{answer, answers_nothing, ends_in, parameter, tx};
use crate::support::args::{self, Form, Said, form, read_tokens};
use crate::support::{Errors, check_name, default_crate, ours, peel};

const FORMS: &[Form] = &[
    form("key", "key = request"),
    form("body", "body = order"),
    form("name", "name = \"shop.place-order\""),
    form("retention", "retention = Duration::from_secs(86_400)"),
    form("guard", "guard = PLACE_ORDER"),
    form("bus", "bus = self.bus"),
    form("keep_errors", "keep_errors = |error| error.is_final()"),
    form("crate", "crate = ::aftercommit"),
];

#[derive(Default)]
struct Args {
    key: Option<Said<Expr>>,
    body: Option<Said<Expr>>,
    name: Option<Said<LitStr>>,
    retention: Option<Said<Expr>>,
    guard: Option<Said<Expr>>,
    bus: Option<Said<Expr>>,
    keep_errors: Option<Said<Expr>>,
}

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    super::attribute("idempotent", item, |function| expand(args, function))
}

fn expand(tokens: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut krate = default_crate();
    let mut args = Args::default();
    read_tokens(tokens, FORMS, &mut errors, |name, input, _| {
        match &*name.to_string() {
            "key" => args.key = args::said(name, input)?,
            "body" => args.body = args::said(name, input)?,
            "name" => args.name = args::said(name, input)?,
            "retention" => args.retention = args::said(name, input)?,
            "guard" => args.guard = args::said(name, input)?,
            "bus" => args.bus = args::said(name, input)?,
            "keep_errors" => args.keep_errors = args::said(name, input)?,
            _ => krate = args::path(input)?,
        }
        Ok(())
    });
    let tx = tx(function);
    let bus_parameter = parameter(function, is_bus);
    check(&args, tx, bus_parameter, function, &mut errors);
    errors.finish()?;
    let expr = |said: &Option<Said<Expr>>| said.as_ref().map(|said| said.value.clone());
    let (Some(key), Some(body)) = (expr(&args.key), expr(&args.body)) else { return Ok(quote!()) };
    let guard = match (&args.guard, &args.name, &args.retention) {
        (Some(guard), ..) => {
            let guard = &guard.value;
            quote!(#guard)
        }
        (None, name, retention) => {
            let (name, retention) = (name.as_ref().map(|said| &said.value), retention.as_ref().map(|said| &said.value));
            quote!(#krate::bus::Idempotency::new(#name, #retention))
        }
    };
    let at = ours(key.span());
    // The parts of a tuple are looked at, not moved into it.
    let body = match &body {
        Expr::Tuple(parts) => {
            let parts = parts.elems.iter();
            quote!((#(&(#parts),)*))
        }
        body => quote!(#body),
    };
    let request = quote_spanned!(at=> let __aftercommit_request = #guard.request(&(#key), &(#body))?;);
    let (block, answer) = (&function.block, answer(function));
    if let Some(tx) = tx {
        return Ok(quote! {
            #request
            if let ::core::option::Option::Some(__aftercommit_answer) = __aftercommit_request.recall(#tx).await? {
                return ::core::result::Result::Ok(__aftercommit_answer);
            }
            let __aftercommit_answer: #answer = async #block.await;
            if let ::core::result::Result::Ok(answer) = &__aftercommit_answer {
                __aftercommit_request.keep(#tx, answer).await?;
            }
            __aftercommit_answer
        });
    }
    let bus = match (&args.bus, bus_parameter) {
        (Some(Said { value, .. }), _) => quote!(&(#value)),
        (None, bus) => quote!(&#bus),
    };
    let bus = quote!(&::core::clone::Clone::clone(#bus));
    // At the answer, so that one that cannot be stored is reported there.
    let answered = ours(function.sig.output.span());
    let work = quote!(async || -> #answer #block);
    let ran = match &args.keep_errors {
        Some(Said { value, .. }) => quote_spanned!(answered=> call_keeping(#bus, #value, #work)),
        None => quote_spanned!(answered=> call(#bus, #work)),
    };
    Ok(quote! {
        #request
        __aftercommit_request.#ran.await.map(#krate::bus::Ran::into_inner)
    })
}

/// `Bus` or `&Bus`.
fn is_bus(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => ends_in(peel(&reference.elem), "Bus"),
        ty => ends_in(ty, "Bus"),
    }
}

fn check(args: &Args, tx: Option<&Ident>, bus: Option<&Ident>, function: &ItemFn, errors: &mut Errors) {
    let name = &function.sig.ident;
    if args.key.is_none() {
        errors.push(name, "say what a request is known by: `key = request`");
    }
    if args.body.is_none() {
        errors.push(name, "say what must be the same when the request comes again: `body = order`, several as `body = (order, units)`, nothing as `body = ()`");
    }
    match (&args.guard, &args.name, &args.retention) {
        (Some(_), None, None) => {}
        (Some(guard), ..) => errors.push(&guard.name, "the guard has a name and a retention: drop these, or `guard`"),
        (None, Some(_), Some(_)) => {}
        (None, ..) => errors.push(
            name,
            "say under which name answers are stored and for how long: `name = \"shop.place-order\", retention = Duration::from_secs(86_400)`, or `guard = PLACE_ORDER`, an `Idempotency`",
        ),
    }
    if let Some(name) = &args.name {
        check_name("the name of a guard", &name.value, errors);
    }
    if function.sig.asyncness.is_none() {
        errors.push(function.sig.fn_token, "who comes again waits for who came first: make it an `async fn`");
    }
    match (tx, &args.bus, bus) {
        (Some(_), Some(bus), _) => errors.push(&bus.name, "the unit of work has a bus: drop `bus`, or the `tx`"),
        (None, None, None) => errors.push(
            name,
            "say where answers are stored: take `bus: &Bus`, or write `bus = self.bus`; or take the unit of work, as `tx: &mut Tx`",
        ),
        _ => {}
    }
    if let (Some(_), Some(keep)) = (tx, &args.keep_errors) {
        errors.push(
            &keep.name,
            "an error rolls the unit of work back, and what it would store with it: drop `keep_errors`, or the `tx`",
        );
    }
    if answers_nothing(function) {
        errors.push(name, "a request can be refused: answer a `Result<_, E>` with `E: From<aftercommit::Error>`");
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
    fn an_idempotent_function_stays_within_its_budget() {
        let args = quote!(key = request, body = order, name = "shop.pay", retention = DAY);
        let function = parse_quote! {
            async fn pay(&self, bus: &Bus, request: String, order: Order) -> Result<Receipt, PayError> {
                self.gateway.pay(order).await
            }
        };
        budget::check(with_body(&function, &expand(args.clone(), &function).expect("legal")), 20);
        let function = parse_quote! {
            async fn pay(tx: &mut Tx, request: String, order: Order) -> Result<Receipt, PayError> {
                book(tx, order)
            }
        };
        budget::check(with_body(&function, &expand(args, &function).expect("legal")), 24);
    }
}
