//! `#[resilient]`: a function whose body is called through a pipeline of policies.
//!
//! What the policies do is `aftercommit::resilience`; what is written here is one call of it, and one of a fallback.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Block, Expr, ExprPath, FnArg, ImplItemFn, Pat, Path, Receiver, ReturnType, Token, Type, parenthesized};

use crate::support::args::{self, Form, Said, form, read_tokens};
use crate::support::{Errors, default_crate, located, ours, peel};

const FORMS: &[Form] = &[
    form("with", "with = GATEWAY"),
    form("limit", "limit = PER_USER, key = user"),
    form("key", "limit = PER_USER, key = user"),
    form("fallback", "fallback = last_price` or `fallback(PriceError::Down => last_price)"),
    form("crate", "crate = ::aftercommit"),
];

/// How many arguments a function with a fallback may have, `self` counted.
const ARGUMENTS: usize = 8;

/// What was said in the attribute.
struct Args {
    krate: Path,
    with: Option<Expr>,
    /// A rate limiter for each key, and the key.
    limit: Option<Said<Expr>>,
    key: Option<Said<Expr>>,
    fallback: Option<Said<Fallback>>,
}

enum Fallback {
    /// For every error.
    Every(ExprPath),
    /// For the first pattern that the error meets.
    Match(Vec<Arm>),
}

struct Arm {
    pattern: Pat,
    guard: Option<Expr>,
    function: ExprPath,
}

impl Parse for Arm {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let pattern = Pat::parse_multi_with_leading_vert(input)?;
        let guard = input.parse::<Option<Token![if]>>()?.map(|_| input.parse()).transpose()?;
        input.parse::<Token![=>]>()?;
        Ok(Arm { pattern, guard, function: input.parse()? })
    }
}

/// The function with its body in the pipeline; as it is where there are mistakes.
pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    // A free function is a method without a visibility of its own kind: one form for both.
    let expansion = match syn::parse2(item.clone()) {
        Ok(function) => expand(args, &function),
        Err(_) => Err(syn::Error::new_spanned(
            &item,
            "`#[resilient]` goes on a `fn` or an `async fn` with a body, also in an impl block",
        )),
    };
    expansion.unwrap_or_else(|error| [item, error.into_compile_error()].into_iter().collect())
}

fn expand(args: TokenStream, function: &ImplItemFn) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let args = read(args, function, &mut errors);
    let parameters = check(function, &args, &mut errors);
    errors.finish()?;
    let Some(with) = &args.with else { return Ok(function.to_token_stream()) };
    let mut resilient = function.clone();
    for (input, parameter) in resilient.sig.inputs.iter_mut().filter_map(typed).zip(&parameters) {
        *input.pat = syn::parse_quote_spanned!(ours(input.pat.span())=> #parameter);
    }
    let body = body(function, &args, with, &parameters);
    resilient.block = syn::parse2::<Block>(quote!({ #body }))?;
    Ok(resilient.into_token_stream())
}

fn typed(input: &mut FnArg) -> Option<&mut syn::PatType> {
    match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    }
}

fn read(tokens: TokenStream, function: &ImplItemFn, errors: &mut Errors) -> Args {
    let mut read = Args { krate: default_crate(), with: None, limit: None, key: None, fallback: None };
    read_tokens(tokens, FORMS, errors, |name, input, errors| {
        match &*name.to_string() {
            "with" => read.with = Some(args::value(input)?),
            "limit" => read.limit = args::said(name, input)?,
            "key" => read.key = args::said(name, input)?,
            "fallback" => {
                let value = fallback(input, errors)?;
                read.fallback = Some(Said { name: name.clone(), value });
            }
            _ => read.krate = args::path(input)?,
        }
        Ok(())
    });
    if read.with.is_none() {
        errors.push(&function.sig.ident, "through which policies is it called? write `#[resilient(with = GATEWAY)]`");
    }
    match (&read.limit, &read.key) {
        (Some(limit), None) => errors.push(&limit.name, "whose permit is it? write `limit = PER_USER, key = user`"),
        (None, Some(key)) => errors.push(
            &key.name,
            "a key of which limiter? write `limit = PER_USER, key = user`, where `PER_USER` is a `KeyedRateLimiter`",
        ),
        _ => {}
    }
    read
}

fn fallback(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Fallback> {
    if input.peek(Token![=]) {
        return Ok(Fallback::Every(args::value(input)?));
    }
    let within;
    parenthesized!(within in input);
    let arms: Vec<Arm> = Punctuated::<Arm, Token![,]>::parse_terminated(&within)?.into_iter().collect();
    let written = |arm: &Arm| arm.pattern.to_token_stream().to_string();
    for (at, arm) in arms.iter().enumerate() {
        let unguarded = |before: &&Arm| before.guard.is_none();
        if let Some(before) = arms[..at].iter().filter(unguarded).find(|before| written(before) == written(arm)) {
            let function = before.function.to_token_stream();
            errors.push(&arm.pattern, format!("`{function}` answers to this pattern already: leave one of them out"));
        } else if arms[..at].iter().filter(unguarded).any(|before| matches!(before.pattern, Pat::Wild(_))) {
            errors.push(&arm.pattern, "`_` before it meets every error: put it last");
        }
    }
    Ok(Fallback::Match(arms))
}

/// Answers the name that each parameter has in the signature.
fn check(function: &ImplItemFn, args: &Args, errors: &mut Errors) -> Vec<Ident> {
    let sig = &function.sig;
    if let Some(constness) = &sig.constness {
        errors.push(constness, "policies keep time and count: make it a `fn` or an `async fn`, not a `const fn`");
    }
    if let Some(unsafety) = &sig.unsafety {
        errors.push(unsafety, "policies call it again as they like, which upholds no contract: make it a safe `fn`");
    }
    match &sig.output {
        ReturnType::Default => errors.push(
            &sig.ident,
            "a policy may have to answer with an error in its place: let it answer `Result<T, E>`, where `E` can hold a `PolicyError`",
        ),
        ReturnType::Type(_, ty) if is_impl(ty) => errors.push(ty, "write the type of the answer: `Result<T, E>`"),
        ReturnType::Type(..) => {}
    }
    if let Some(receiver) = sig.receiver().filter(|receiver| !is_shared(receiver)) {
        errors.push(receiver, "another attempt needs it again: take `&self`");
    }
    if let Some(said) = &args.fallback
        && sig.inputs.len() > ARGUMENTS
    {
        errors.push(
            &said.name,
            format!("a fallback goes with up to {ARGUMENTS} arguments: put some of them in a struct"),
        );
    }
    let mut names = Vec::new();
    for (at, input) in sig.inputs.iter().enumerate() {
        let FnArg::Typed(typed) = input else { continue };
        if let Type::Reference(reference) = peel(&typed.ty)
            && let Some(mutability) = &reference.mutability
        {
            errors.push(mutability, "another attempt would find what this one changed: take it by `&`, or by value");
        }
        names.push(match &*typed.pat {
            Pat::Ident(pat) if pat.subpat.is_none() && pat.by_ref.is_none() => pat.ident.clone(),
            other => format_ident!("__argument_{at}", span = other.span()),
        });
    }
    names
}

fn is_impl(ty: &Type) -> bool {
    matches!(peel(ty), Type::ImplTrait(_))
}

fn is_shared(receiver: &Receiver) -> bool {
    matches!(&*receiver.ty, Type::Reference(reference) if reference.mutability.is_none())
}

fn body(function: &ImplItemFn, args: &Args, with: &Expr, parameters: &[Ident]) -> TokenStream {
    let (sig, block, krate) = (&function.sig, &function.block, &args.krate);
    let private = quote!(#krate::__private::resilient);
    let ReturnType::Type(_, answer) = &sig.output else { return block.to_token_stream() };
    let patterns = sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(&typed.pat),
        FnArg::Receiver(_) => None,
    });
    let patterns = quote!((#(#patterns,)*));
    let held = held(function, args, answer);
    let at = ours(with.span());
    let located = located(krate, at);
    let pipeline = quote_spanned!(at=> let __pipeline: &#located::resilience::Pipeline = &#with;);
    let arguments = quote!((#(#parameters,)*));
    let (given, kept) = match &args.fallback {
        Some(_) => {
            let receiver = sig.receiver().map(|_| quote!(self,));
            let kept = quote!(let __arguments = (#receiver #(#parameters,)*););
            let given = (0..parameters.len()).map(|at| syn::Index::from(at + usize::from(sig.receiver().is_some())));
            (quote!((#(::core::clone::Clone::clone(&__arguments.#given),)*)), kept)
        }
        None => (arguments, TokenStream::new()),
    };
    // A parameter that only the key needs is used.
    let used = args.key.as_ref().map(|Said { value, .. }| quote!(let _ = || { let _ = &(#value); };));
    let called = match sig.asyncness {
        // What the block answers is said by a `return` that is never made, so that `?` in it knows its error.
        Some(_) => quote! {
            #private::call(__pipeline, #given, |#patterns| async move {
                #[allow(unreachable_code, clippy::diverging_sub_expression, clippy::needless_return)]
                if false {
                    let __never: #answer = ::core::unreachable!();
                    return __never;
                }
                #used
                #block
            }).await
        },
        None => quote!(#private::call_blocking(__pipeline, #given, |#patterns| -> #answer { #used #block })),
    };
    let (limited, called) = limited(args, called, sig.asyncness.is_some());
    match &args.fallback {
        None => quote!(#held #limited #pipeline #called),
        Some(said) => {
            let fallen = fallen(&said.value, &args.krate, answer, sig.asyncness.is_some());
            quote! {
                #held
                #limited
                #pipeline
                #kept
                let __answer: #answer = #called;
                match __answer {
                    ::core::result::Result::Err(__error) => #fallen,
                    __answer => __answer,
                }
            }
        }
    }
}

/// A permit of the key that is asked for first, and the call if there is one.
fn limited(args: &Args, called: TokenStream, is_async: bool) -> (TokenStream, TokenStream) {
    let (Some(Said { value: limit, .. }), Some(Said { value: key, .. })) = (&args.limit, &args.key) else {
        return (TokenStream::new(), called);
    };
    let at = ours(limit.span());
    let krate = located(&args.krate, at);
    let limiter = quote_spanned!(at=> let __limiter: &#krate::resilience::KeyedRateLimiter<_> = &#limit;);
    // At the key, so that one of another type is reported there.
    let permit = match is_async {
        true => quote_spanned!(ours(key.span())=> let __permit = __limiter.acquire(&(#key)).await;),
        false => quote_spanned!(ours(key.span())=> let __permit = __limiter.acquire_blocking(&(#key));),
    };
    let called = quote! {
        match __permit {
            ::core::result::Result::Ok(()) => #called,
            ::core::result::Result::Err(refused) => ::core::result::Result::Err(::core::convert::From::from(refused)),
        }
    };
    (quote!(#limiter #permit), called)
}

/// What the types must be, said where they are written.
fn held(function: &ImplItemFn, args: &Args, answer: &Type) -> TokenStream {
    let held = |ty: &Type, what: &str| {
        let at = ours(ty.span());
        let (krate, what) = (located(&args.krate, at), Ident::new(what, at));
        quote_spanned!(at=> #krate::__private::resilient::#what::<#ty>();)
    };
    let owned = function.sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) if !is_impl(&typed.ty) && !matches!(peel(&typed.ty), Type::Reference(_)) => {
            Some(&*typed.ty)
        }
        _ => None,
    });
    let owned = owned.map(|ty| held(ty, "repeatable"));
    let answer = held(answer, "answers");
    quote!(#answer #(#owned)*)
}

fn fallen(fallback: &Fallback, krate: &Path, answer: &Type, is_async: bool) -> TokenStream {
    let call = |function: &ExprPath| {
        let at = ours(function.span());
        let krate = located(krate, at);
        let private = quote_spanned!(at=> #krate::__private::resilient);
        match is_async {
            true => quote_spanned! {at=>
                #private::fall_back_async::<#answer, _, _, _, _>(__arguments, __error, #function).await
            },
            false => quote_spanned! {at=>
                #private::fall_back::<#answer, _, _, _, _>(__arguments, __error, #function)
            },
        }
    };
    match fallback {
        Fallback::Every(function) => call(function),
        Fallback::Match(arms) => {
            let arms = arms.iter().map(|Arm { pattern, guard, function }| {
                let guard = guard.as_ref().map(|guard| quote!(if #guard));
                let call = call(function);
                quote!(#pattern #guard => #call,)
            });
            quote! {{
                #[allow(unreachable_patterns, unused_variables)]
                let __fallen: #answer = match &__error {
                    #(#arms)*
                    _ => ::core::result::Result::Err(__error),
                };
                __fallen
            }}
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::expand;
    use crate::support::budget;

    #[test]
    fn a_function_expands_to_one_call_and_one_of_its_fallback() {
        let function = parse_quote!(
            fn price(product: u32) -> Result<u64, PriceError> {}
        );
        budget::check(expand(quote!(with = GATEWAY), &function).expect("legal"), 12);
        let function = parse_quote!(
            async fn price(product: u32, currency: &str) -> Result<u64, PriceError> {}
        );
        let args = quote!(with = GATEWAY, fallback(PriceError::Down => last_price));
        budget::check(expand(args, &function).expect("legal"), 48);
    }
}
