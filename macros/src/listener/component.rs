//! `#[listeners]`: the listeners of a component, which are the marked methods of an impl block.
//!
//! The component is given to the bus as a state; each method is called with it as `&self`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, ImplItem, ImplItemFn, ItemImpl, Meta, Path, Type};

use super::args::Args;
use super::model::Model;
use super::{check, glue};
use crate::support::args::{Form, form, path, read_tokens};
use crate::support::{Errors, beside, default_crate};

const FORMS: &[Form] = &[form("crate", "crate = ::aftercommit")];

/// The block without the marks, and what is written beside it.
pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    match syn::parse2(item.clone()) {
        Ok(block) => {
            let expansion = expand(args, &block);
            beside(unmarked(block).into_token_stream(), expansion)
        }
        Err(_) => {
            let error = syn::Error::new_spanned(
                &item,
                "`#[listeners]` goes on the impl block of a component: `impl Mailer { .. }`; a free `fn` takes `#[listener]`",
            );
            beside(item, Err(error))
        }
    }
}

/// The marks are read here; as attributes of their own they would be refused.
fn unmarked(mut block: ItemImpl) -> ItemImpl {
    for item in &mut block.items {
        if let ImplItem::Fn(method) = item {
            method.attrs.retain(|attribute| !is_listener(attribute));
        }
    }
    block
}

/// What is written beside the block.
pub(crate) fn expand(args: TokenStream, block: &ItemImpl) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut krate = default_crate();
    read_tokens(args, FORMS, &mut errors, |_, input, _| {
        krate = path(input)?;
        Ok(())
    });
    check_block(block, &mut errors);
    let methods = block.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) => method.attrs.iter().find(|attribute| is_listener(attribute)).map(|said| (said, method)),
        _ => None,
    });
    let registrations: Vec<_> =
        methods.map(|(said, method)| registration(&krate, said, method, &block.self_ty, &mut errors)).collect();
    if registrations.is_empty() {
        errors.push(&block.self_ty, "no method of this block is a listener: mark its listeners with `#[listener(..)]`");
    }
    errors.finish()?;
    let component = &block.self_ty;
    Ok(glue::declared(&krate, &quote!(#component), &glue::conditions(&block.attrs), &registrations))
}

fn is_listener(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "listener")
}

fn check_block(block: &ItemImpl, errors: &mut Errors) {
    if let Some((_, of, _)) = &block.trait_ {
        errors.push(
            of,
            "`#[listeners]` goes on an inherent impl block, not on one of a trait: write `impl Mailer { .. }`",
        );
    }
    if !block.generics.params.is_empty() {
        errors.push(&block.generics, "a generic component cannot be listed, for the program has no one type of it: write the block for one type, as `impl Component<Mail> { .. }`");
    }
}

fn registration(
    krate: &Path,
    said: &Attribute,
    method: &ImplItemFn,
    component: &Type,
    errors: &mut Errors,
) -> TokenStream {
    let tokens = match &said.meta {
        Meta::Path(_) => TokenStream::new(),
        Meta::List(list) => list.tokens.clone(),
        Meta::NameValue(meta) => {
            errors.push(meta, "write `#[listener]` or `#[listener(phase = AfterCommit)]`");
            TokenStream::new()
        }
    };
    let mut args = Args::read(tokens, errors);
    args.krate = krate.clone();
    match method.sig.receiver() {
        Some(receiver)
            if receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none() => {}
        Some(receiver) => {
            errors.push(receiver, "a component is shared by all calls: take it as `&self`");
        }
        None => errors.push(
            &method.sig.ident,
            "a listener of a component takes `&self`; without one it is a free `fn`, outside this block",
        ),
    }
    let model = Model::new(args, &method.sig, Some(component), errors);
    check::all(&model, errors);
    let cfg = glue::conditions(&method.attrs);
    if let Some(cfg) = cfg.first() {
        errors.push(
            cfg,
            "a listener of a component is there or not together with its block: put `#[cfg(..)]` on the block",
        );
    }
    glue::registration(&model)
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::expand;
    use crate::support::budget;

    #[test]
    fn a_component_with_two_listeners_stays_within_its_budget() {
        let block = parse_quote! {
            impl Mailer {
                #[listener]
                fn count(&self, event: &OrderPlaced) {}
                #[listener(spawn)]
                async fn send(&self, event: &OrderPlaced, bus: Bus) -> Result<(), MailError> {}
            }
        };
        budget::check(expand(quote!(), &block).expect("legal"), 48);
    }
}
