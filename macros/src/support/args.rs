//! Reading arguments: `name`, `name = value` and `name(..)`, separated by commas.
//!
//! This is the one place that refuses an unknown argument, one given twice, and one in the wrong form.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, LitStr, Meta, Token, bracketed};

use super::Errors;

/// An argument: its name, and how it is written.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) written: &'static str,
    /// Whether it may be given more than once.
    pub(crate) repeats: bool,
    /// All its values, where they are known words: one of them alone is a sign that the name was left out.
    pub(crate) values: &'static [&'static str],
}

/// An argument that is given at most once.
pub(crate) const fn form(name: &'static str, written: &'static str) -> Form {
    Form { name, written, repeats: false, values: &[] }
}

/// An argument that was given: its name where it stands, and its value.
pub(crate) struct Said<T> {
    pub(crate) name: Ident,
    pub(crate) value: T,
}

/// What reads one argument's value; an error means that it is not in its form.
pub(crate) trait Read: FnMut(&Ident, ParseStream<'_>, &mut Errors) -> syn::Result<()> {}
impl<F: FnMut(&Ident, ParseStream<'_>, &mut Errors) -> syn::Result<()>> Read for F {}

/// Reads all arguments, each through `read`; what cannot be read is noted and passed over.
pub(crate) fn read_tokens(tokens: TokenStream, forms: &[Form], errors: &mut Errors, mut read: impl Read) {
    read_into(tokens, forms, &mut Vec::new(), errors, &mut read);
}

/// Reads the arguments of every attribute of this name.
pub(crate) fn read_attributes(
    attributes: &[Attribute],
    name: &str,
    forms: &[Form],
    errors: &mut Errors,
    mut read: impl Read,
) {
    let mut given = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
        match &attribute.meta {
            Meta::List(list) => read_into(list.tokens.clone(), forms, &mut given, errors, &mut read),
            meta => errors.push(meta, format!("write `#[{name}(..)]` with one of: {}", names(forms))),
        }
    }
}

/// As [`read_tokens`], from within parentheses.
pub(crate) fn read_within(input: ParseStream<'_>, forms: &[Form], errors: &mut Errors, mut read: impl Read) {
    read_all(input, forms, &mut Vec::new(), errors, &mut read);
}

fn read_into(tokens: TokenStream, forms: &[Form], given: &mut Vec<Ident>, errors: &mut Errors, read: &mut impl Read) {
    let parser = |input: ParseStream<'_>| {
        read_all(input, forms, given, errors, read);
        Ok(())
    };
    // Every mistake is noted on the way, and nothing is left over that this could complain about.
    let _ = parser.parse2(tokens);
}

fn read_all(input: ParseStream<'_>, forms: &[Form], given: &mut Vec<Ident>, errors: &mut Errors, read: &mut impl Read) {
    while !input.is_empty() {
        if let Err(error) = read_one(input, forms, given, errors, read) {
            errors.add(error);
            skip(input, forms);
        }
        let _ = input.parse::<Option<Token![,]>>();
    }
}

fn read_one(
    input: ParseStream<'_>,
    forms: &[Form],
    given: &mut Vec<Ident>,
    errors: &mut Errors,
    read: &mut impl Read,
) -> syn::Result<()> {
    let Ok(name) = Ident::parse_any(input) else {
        return Err(input.error(format!("expected an argument, one of: {}", names(forms))));
    };
    let Some(form) = forms.iter().find(|form| name == form.name) else {
        return Err(syn::Error::new(name.span(), unknown(&name, forms)));
    };
    if given.contains(&name) && !form.repeats {
        return Err(syn::Error::new(name.span(), format!("`{name}` is given twice")));
    }
    given.push(name.clone());
    read(&name, input, errors).map_err(|error| wrong_form(error, &name, form))?;
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    Err(wrong_form(input.error(""), &name, form))
}

/// What syn expected is of no help to the user; the legal form is.
fn wrong_form(error: syn::Error, name: &Ident, form: &Form) -> syn::Error {
    // Where the input ended syn points at the whole attribute; the argument's name is nearer.
    let at = if error.to_string().starts_with("unexpected end") { name.span() } else { error.span() };
    syn::Error::new(at, format!("write `{}`", form.written))
}

fn unknown(name: &Ident, forms: &[Form]) -> String {
    let named = forms.iter().find(|form| form.values.iter().any(|value| name == value));
    let hint = named.map_or(String::new(), |form| format!("write `{} = {name}`; ", form.name));
    format!("unknown argument `{name}`; {hint}expected one of: {}", names(forms))
}

fn names(forms: &[Form]) -> String {
    let names: Vec<String> = forms.iter().map(|form| format!("`{}`", form.name)).collect();
    names.join(", ")
}

/// Goes to the next comma that an argument follows; the commas in `|a, b| ..` and `f::<A, B>` are none of these.
fn skip(input: ParseStream<'_>, forms: &[Form]) {
    while !input.is_empty() {
        if input.peek(Token![,]) {
            let ahead = input.fork();
            let _ = ahead.parse::<Token![,]>();
            let legal = Ident::parse_any(&ahead).is_ok_and(|name| forms.iter().any(|form| name == form.name));
            if ahead.is_empty() || legal {
                return;
            }
        }
        let _ = input.parse::<TokenTree>();
    }
}

/// `= value`.
pub(crate) fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `= value`, kept with the name it was given to.
pub(crate) fn said<T: Parse>(name: &Ident, input: ParseStream<'_>) -> syn::Result<Option<Said<T>>> {
    Ok(Some(Said { name: name.clone(), value: value(input)? }))
}

/// `= crate::path`.
pub(crate) fn path(input: ParseStream<'_>) -> syn::Result<syn::Path> {
    input.parse::<Token![=]>()?;
    input.call(syn::Path::parse_mod_style)
}

/// `= ["a", "b"]`.
pub(crate) fn strings(input: ParseStream<'_>) -> syn::Result<Vec<LitStr>> {
    input.parse::<Token![=]>()?;
    let list;
    bracketed!(list in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}

/// Whether this integer literal is zero; an expression that is none is left to the compiler.
pub(crate) fn is_zero(expr: &syn::Expr) -> bool {
    matches!(expr, syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(int), .. })
        if int.base10_parse::<u128>().is_ok_and(|int| int == 0))
}
