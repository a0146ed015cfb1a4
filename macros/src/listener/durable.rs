//! What an attribute says of a durable listener: read, and written as its declaration.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Expr, Path, Token, Type, bracketed, parenthesized};

use super::args::Args;
use crate::support::Errors;
use crate::support::args::{self, Form, form, read_within};

const REDELIVER: &[Form] = &[
    form("attempts", "attempts = 5"),
    form("backoff", "backoff = exponential(Duration::from_millis(100))"),
    form("within", "within = Duration::from_secs(3600)"),
    form("on", "on = [std::io::Error]"),
    form("when", "when = |error| error.is::<std::io::Error>()"),
    form("never_on", "never_on = [std::num::ParseIntError]"),
    form("stop_on", "stop_on = [Unconfigured]"),
    form("fallback", "fallback = tell_support"),
];

const PARK: &[Form] = &[
    Form { values: &FOLLOWERS, ..form("followers", "followers = Pass") },
    form("sequences", "sequences = 100"),
    form("length", "length = 1000"),
    Form { values: &FULL, ..form("full", "full = Discard") },
];

const BATCH: &[Form] = &[form("max", "max = 100"), form("linger", "linger = Duration::from_millis(50)")];

const FOLLOWERS: [&str; 3] = ["Park", "Pass", "Stop"];
const FULL: [&str; 2] = ["Stop", "Discard"];
pub(crate) const SEQUENCES: [&str; 3] = ["PerKey", "Total", "Unordered"];

/// A variant of one of our enums: its name, and what stands in its parentheses.
pub(crate) struct Word {
    pub(crate) name: Ident,
    pub(crate) with: Vec<Expr>,
}

/// The variants one may write, each as it is written.
type Words = &'static [&'static str];

pub(crate) const ACK: Words = &[
    "Record",
    "Batch",
    "Count(100)",
    "Time(Duration::from_secs(1))",
    "CountOrTime(100, Duration::from_secs(1))",
    "Manual",
    "ManualImmediate",
];
pub(crate) const START: Words = &["Now", "Beginning", "Time(Timestamp(0))"];

#[derive(Default)]
pub(crate) struct Redeliver {
    pub(crate) attempts: Option<Expr>,
    backoff: Option<Expr>,
    within: Option<Expr>,
    on: Vec<Type>,
    when: Option<Expr>,
    never_on: Vec<Type>,
    stop_on: Vec<Type>,
    fallback: Option<Expr>,
}

#[derive(Default)]
pub(crate) struct Park {
    followers: Option<Word>,
    pub(crate) sequences: Option<Expr>,
    pub(crate) length: Option<Expr>,
    full: Option<Word>,
}

#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) max: Option<Expr>,
    linger: Option<Expr>,
}

/// `= Word`, or a path that ends in one, or `= Word(..)`.
pub(crate) fn word(
    input: ParseStream<'_>,
    what: &str,
    words: &[&str],
    errors: &mut Errors,
) -> syn::Result<Option<Word>> {
    let path: Path = args::value(input)?;
    let mut with = Punctuated::<Expr, Token![,]>::new();
    if input.peek(syn::token::Paren) {
        let within;
        parenthesized!(within in input);
        with = Punctuated::parse_terminated(&within)?;
    }
    let Some(last) = path.segments.last() else { return Ok(None) };
    let name = last.ident.to_string();
    let written = words.iter().find(|word| word.split('(').next() == Some(&name));
    let legal = || words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let Some(written) = written else {
        let path = quote!(#path).to_string().replace(' ', "");
        errors.push(&last.ident, format!("unknown {what} `{path}`; expected one of: {}", legal()));
        return Ok(None);
    };
    let expected = if written.contains('(') { written.split(", ").count() } else { 0 };
    if with.len() != expected {
        errors.push(&last.ident, format!("write `{written}`"));
        return Ok(None);
    }
    Ok(Some(Word { name: last.ident.clone(), with: with.into_iter().collect() }))
}

fn types(input: ParseStream<'_>) -> syn::Result<Vec<Type>> {
    input.parse::<Token![=]>()?;
    let list;
    bracketed!(list in input);
    Ok(Punctuated::<Type, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}

pub(crate) fn redeliver(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Redeliver> {
    let within;
    parenthesized!(within in input);
    let mut redeliver = Redeliver::default();
    read_within(&within, REDELIVER, errors, |name, input, _| {
        match &*name.to_string() {
            "attempts" => redeliver.attempts = Some(args::value(input)?),
            "backoff" => redeliver.backoff = Some(args::value(input)?),
            "within" => redeliver.within = Some(args::value(input)?),
            "on" => redeliver.on = types(input)?,
            "when" => redeliver.when = Some(args::value(input)?),
            "never_on" => redeliver.never_on = types(input)?,
            "stop_on" => redeliver.stop_on = types(input)?,
            _ => redeliver.fallback = Some(args::value(input)?),
        }
        Ok(())
    });
    Ok(redeliver)
}

pub(crate) fn park(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Park> {
    let within;
    parenthesized!(within in input);
    let mut park = Park::default();
    read_within(&within, PARK, errors, |name, input, errors| {
        match &*name.to_string() {
            "followers" => park.followers = word(input, "answer to what follows", &FOLLOWERS, errors)?,
            "sequences" => park.sequences = Some(args::value(input)?),
            "length" => park.length = Some(args::value(input)?),
            _ => park.full = word(input, "answer to a full list", &FULL, errors)?,
        }
        Ok(())
    });
    Ok(park)
}

pub(crate) fn batch(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Batch> {
    let within;
    parenthesized!(within in input);
    let mut batch = Batch::default();
    read_within(&within, BATCH, errors, |name, input, _| {
        let value = Some(args::value(input)?);
        if name == "max" {
            batch.max = value;
        } else {
            batch.linger = value;
        }
        Ok(())
    });
    Ok(batch)
}

/// The declaration of what was said; what asks something of the event stands at `at`.
pub(crate) fn declaration(args: &Args, at: Span) -> TokenStream {
    let krate = &args.krate;
    let durable = args.durable.iter().map(|_| quote_spanned!(at=> durable));
    let formerly = args.formerly.iter().flat_map(|said| &said.value);
    let sequence = args.sequence.iter().map(|said| variant(krate, "Sequence", &said.value));
    let concurrency = args.concurrency.iter().map(|said| &said.value);
    let look_ahead = args.look_ahead.iter().map(|said| &said.value);
    let time_limit = args.time_limit.iter().map(|said| &said.value);
    let redeliver = args.redeliver.iter().map(|said| redelivery(krate, &said.value, at));
    let park = args.park.iter().map(|said| parking(krate, &said.value));
    let ack = args.ack.iter().map(|said| variant(krate, "AckMode", &said.value));
    let batch = args.batch.iter().map(|said| batches(krate, &said.value));
    let start = args.start.iter().map(|said| variant(krate, "StartAt", &said.value));
    quote_spanned! {at=>
        #(.#durable())*
        #(.formerly(#formerly))*
        #(.sequence(#sequence))*
        #(#redeliver)*
        #(.parking(#park))*
        #(.concurrency(#concurrency))*
        #(.look_ahead(#look_ahead))*
        #(.ack(#ack))*
        #(.batch(#batch))*
        #(.start_at(#start))*
        #(.time_limit(#time_limit))*
    }
}

fn variant(krate: &Path, of: &str, word: &Word) -> TokenStream {
    let of = Ident::new(of, Span::call_site());
    let Word { name, with } = word;
    let with = (!with.is_empty()).then(|| quote!((#(#with),*)));
    quote!(#krate::listener::#of::#name #with)
}

fn redelivery(krate: &Path, said: &Redeliver, at: Span) -> TokenStream {
    let Redeliver { attempts, backoff, within, on, when, never_on, stop_on, fallback } = said;
    let attempts = attempts.iter();
    let backoff = backoff.iter().map(|backoff| {
        quote!({
            #[allow(unused_imports)]
            use #krate::listener::{exponential, fixed, linear};
            #backoff
        })
    });
    let within = within.iter();
    let policy =
        quote!(#krate::listener::Redeliver::new() #(.attempts(#attempts))* #(.backoff(#backoff))* #(.within(#within))*);
    let has_rules = !on.is_empty() || when.is_some() || !never_on.is_empty() || !stop_on.is_empty();
    let when = when.iter();
    let rules = has_rules.then(|| {
        quote_spanned! {at=>
            .errors(#krate::listener::ErrorRules::new()
                #(.redeliver_on::<#on>())*
                #(.redeliver_if(#when))*
                #(.never_on::<#never_on>())*
                #(.stop_on::<#stop_on>())*)
        }
    });
    let fallback = fallback.iter();
    quote_spanned!(at=> .redeliver(#policy) #rules #(.fallback(#fallback))*)
}

fn parking(krate: &Path, said: &Park) -> TokenStream {
    let Park { followers, sequences, length, full } = said;
    let followers = followers.iter().map(|word| variant(krate, "Followers", word));
    let full = full.iter().map(|word| variant(krate, "WhenFull", word));
    let (sequences, length) = (sequences.iter(), length.iter());
    quote!(#krate::listener::Parking::new()
        #(.followers(#followers))* #(.sequences(#sequences))* #(.length(#length))* #(.when_full(#full))*)
}

fn batches(krate: &Path, said: &Batch) -> TokenStream {
    let max = said.max.as_ref().map_or_else(|| quote!(100), |max| quote!(#max));
    let linger = said.linger.as_ref().map_or_else(|| quote!(::core::time::Duration::ZERO), |linger| quote!(#linger));
    quote!(#krate::listener::Batch::new(#max, #linger))
}
