//! `#[metered]`: a function whose calls are measured.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, ExprClosure, ItemFn, LitStr};

use super::{answer, answers_result};
use crate::support::args::{self, Form, Said, form, read_tokens};
use crate::support::{Errors, check_name, default_crate};

const FORMS: &[Form] = &[
    form("name", "name = \"carrier.book\""),
    form("kind", "kind = |error| error.kind()"),
    form("meter", "meter = self.meter"),
    form("crate", "crate = ::aftercommit"),
];

#[derive(Default)]
struct Args {
    name: Option<Said<LitStr>>,
    kind: Option<Said<Expr>>,
    meter: Option<Said<Expr>>,
}

pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    super::attribute("metered", item, |function| expand(args, function))
}

fn expand(tokens: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut krate = default_crate();
    let mut args = Args::default();
    read_tokens(tokens, FORMS, &mut errors, |name, input, _| {
        match &*name.to_string() {
            "name" => args.name = args::said(name, input)?,
            "kind" => args.kind = args::said(name, input)?,
            "meter" => args.meter = args::said(name, input)?,
            _ => krate = args::path(input)?,
        }
        Ok(())
    });
    let is_result = answers_result(function);
    match &args.name {
        Some(name) => check_name("the name of what is metered", &name.value, &mut errors),
        None => errors
            .push(&function.sig.ident, "say under which name it is metered: `#[metered(name = \"carrier.book\")]`"),
    }
    if let Some(kind) = &args.kind {
        if !is_result {
            errors.push(&kind.name, "what answers no `Result` has no kinds of failures: drop `kind`");
        }
        if let Expr::Closure(ExprClosure { inputs, .. }) = &kind.value
            && inputs.len() != 1
        {
            errors.push(&kind.value, "the kind is told by the error: write `kind = |error| ..`");
        }
    }
    if let Some(constness) = &function.sig.constness {
        errors.push(constness, "a call is measured when the program runs: drop `const`");
    }
    errors.finish()?;
    let name = args.name.as_ref().map(|said| &said.value);
    let meter = match &args.meter {
        Some(Said { value, .. }) => quote!((#value)),
        None => quote!(#krate::observe::Meter::process()),
    };
    let (body, answer) = (&function.block, answer(function));
    let called = match function.sig.asyncness {
        Some(_) => quote!(async move #body.await),
        None => quote!((move || #body)()),
    };
    let kind = match &args.kind {
        Some(Said { value, .. }) => quote!(#value),
        None => quote!(#krate::observe::kind_of),
    };
    let end = if is_result { quote!(end_with(&__aftercommit_answer, #kind)) } else { quote!(end()) };
    Ok(quote! {
        let __aftercommit_metering = #meter.begin(#name);
        let __aftercommit_answer: #answer = #called;
        __aftercommit_metering.#end;
        __aftercommit_answer
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::expand;
    use crate::around::with_body;
    use crate::support::budget;

    #[test]
    fn a_metered_function_is_four_lines_longer() {
        let function = parse_quote! {
            async fn book(&self, slip: u32) -> Result<u32, Refused> {
                self.carrier.book(slip).await
            }
        };
        let args = quote!(name = "carrier.book", kind = |error| error.kind());
        budget::check(with_body(&function, &expand(args, &function).expect("legal")), 12);
    }
}
