//! What is written beside the function: its declaration, as one would write it by hand.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, ItemFn, Path};

use super::durable;
use super::model::{Model, Parameter, written};
use crate::support::{located, ours};

/// A hidden type of the function's name, through which `listed![..]` finds it, and its entry in the linked list.
pub(crate) fn of_function(model: &Model<'_>, function: &ItemFn) -> TokenStream {
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let cfg = conditions(&function.attrs);
    let doc = format!("The listener `{name}`, for `listed![..]`.");
    let registration = registration(model);
    let declared = declared(&model.args.krate, &quote!(#name), &cfg, &[registration]);
    quote! {
        #(#cfg)*
        #[doc = #doc]
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, unreachable_pub, clippy::exhaustive_structs)]
        #visibility struct #name {}
        #declared
    }
}

/// The `cfg` attributes that stand after the macro, which rustc has not asked yet.
pub(crate) fn conditions(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
}

/// What makes `name` a declared listener or component, and links it into the program.
pub(crate) fn declared(
    krate: &Path,
    name: &TokenStream,
    cfg: &[&Attribute],
    registrations: &[TokenStream],
) -> TokenStream {
    let private = quote!(#krate::__private);
    quote! {
        #(#cfg)*
        const _: () = {
            #[automatically_derived]
            impl #private::Declared for #name {
                fn registrations() -> ::std::vec::Vec<#private::Registration> {
                    ::std::vec![#(#registrations),*]
                }
            }
            #private::inventory::submit! {
                #private::Linked { registrations: <#name as #private::Declared>::registrations }
            }
        };
    }
}

/// The declaration of one listener.
pub(crate) fn registration(model: &Model<'_>) -> TokenStream {
    let event = model.event;
    let id = id(model);
    // What asks something of the event stands at its type, and first, so that what is missing there is reported there.
    let at = ours(event.span());
    let krate = located(&model.args.krate, at);
    let durable = durable::declaration(&model.args, at);
    let mode = mode(model, at);
    let options = options(model);
    let needs = needs(model);
    let call = call(model);
    quote_spanned! {at=>
        #krate::listener::on::<#event>(#id) #durable #mode .module(::core::module_path!()) #options #needs #call
    }
}

fn id(model: &Model<'_>) -> TokenStream {
    if let Some(id) = &model.args.id {
        return id.value.to_token_stream();
    }
    let function = model.signature.ident.unraw().to_string();
    let component = model.component.map(|component| {
        let component = written(component);
        quote!(#component, "::",)
    });
    quote!(::core::concat!(::core::module_path!(), "::", #component #function))
}

fn mode(model: &Model<'_>, at: Span) -> TokenStream {
    let args = &model.args;
    let mode = match (&args.spawn, &args.blocking) {
        (Some(_), _) => quote_spanned!(at=> spawn),
        (None, Some(_)) => quote_spanned!(at=> blocking),
        (None, None) => return TokenStream::new(),
    };
    // An event that is published by reference is cloned for the background.
    let by_reference = args.is_phase("Immediate") || args.without_tx.is_some();
    let cloning = by_reference.then(|| quote_spanned!(at=> .cloning()));
    quote_spanned!(at=> .#mode() #cloning)
}

fn options(model: &Model<'_>) -> TokenStream {
    let args = &model.args;
    let krate = &args.krate;
    let phase = args.phase.iter().map(|said| &said.value);
    let order = args.order.iter().map(|said| &said.value);
    let condition = args.condition.iter().map(|said| match said.value.inputs.len() {
        1 => (quote!(when), &said.value),
        _ => (quote!(when_with), &said.value),
    });
    let (when, condition): (Vec<_>, Vec<_>) = condition.unzip();
    let lock = args.lock.iter().map(|said| &said.value);
    let without_tx = args.without_tx.iter().map(|_| quote!(#krate::listener::WithoutTx::Run));
    let slow_after = args.slow_after.iter().map(|said| &said.value);
    let resilient = args.resilient.iter().map(|said| &said.value);
    quote! {
        #(.phase(#krate::Phase::#phase))*
        #(.order(#order))*
        #(.#when(#condition))*
        #(.lock(#lock))*
        #(.without_tx(#without_tx))*
        #(.slow_after(#slow_after))*
        #(.resilient(&#resilient))*
    }
}

fn needs(model: &Model<'_>) -> TokenStream {
    let krate = &model.args.krate;
    let component = model.component.map(|component| {
        let at = ours(component.span());
        let krate = located(krate, at);
        quote_spanned!(at=> .needs::<#krate::listener::State<Self>>())
    });
    let parameters = model.parameters.iter().map(|parameter| match parameter {
        Parameter::Tx(_) => quote!(.takes_tx()),
        Parameter::Delivery(_) => quote!(.takes_delivery()),
        Parameter::Ack(_) => quote!(.takes_ack()),
        Parameter::Other(other) => {
            let ty = &other.ty;
            quote!(.needs::<#ty>())
        }
    });
    quote!(#component #(#parameters)*)
}

/// The end of the declaration: how the function is called.
fn call(model: &Model<'_>) -> TokenStream {
    if model.is_async() {
        call_async(model)
    } else if model.component.is_none() && model.parameters.is_empty() && !model.takes_batch {
        let function = &model.signature.ident;
        let answer = answer(model);
        quote!(.call::<#answer, _>(#function))
    } else {
        call_with(model)
    }
}

fn call_with(model: &Model<'_>) -> TokenStream {
    let take = take(model);
    let function = function(model);
    let arguments = arguments(model, &quote!(call.tx()?));
    let answered = answered(model, &quote!(#function(#arguments)));
    let call_with = if model.takes_batch { quote!(call_batch) } else { quote!(call_with) };
    let call = if take.is_empty() && model.tx().is_none() { quote!(_call) } else { quote!(call) };
    quote! {
        .#call_with(|event, #call| {
            #take
            #answered
        })
    }
}

fn call_async(model: &Model<'_>) -> TokenStream {
    let take = take(model);
    // The unit of work is taken last: it uses the call up.
    let tx = model.tx().map(|_| quote!(let tx = call.into_tx()?;));
    let function = function(model);
    let arguments = arguments(model, &quote!(tx));
    let answered = answered(model, &quote!(#function(#arguments).await));
    let call = match (take.is_empty(), &tx) {
        (true, None) => quote!(_call),
        (true, Some(_)) => quote!(call),
        (false, _) => quote!(mut call),
    };
    // At the function, so that a future that cannot be sent between threads is reported there.
    let at = ours(model.signature.ident.span());
    let krate = located(&model.args.krate, at);
    let call_async = if model.takes_batch { quote!(call_batch_async) } else { quote_spanned!(at=> call_async) };
    quote_spanned! {at=>
        .#call_async(|event, #call| #krate::__private::CallFuture::from_or_box(async move {
            #take
            #tx
            #answered
        }))
    }
}

/// The answer of the function in the form that all answers have.
fn answered(model: &Model<'_>, called: &TokenStream) -> TokenStream {
    let krate = &model.args.krate;
    let answer = answer(model);
    let settled = match model.delivery() {
        Some(_) => quote!(#krate::__private::must_settle::<#answer>(#called)),
        None => called.clone(),
    };
    quote!(<#answer as #krate::listener::IntoAnswer>::into_answer(#settled))
}

/// The type of the answer; where none is written it stands at the function's name.
fn answer(model: &Model<'_>) -> TokenStream {
    match model.answer() {
        Some(answer) => answer.to_token_stream(),
        None => quote_spanned!(ours(model.signature.ident.span())=> ()),
    }
}

fn function(model: &Model<'_>) -> TokenStream {
    let function = &model.signature.ident;
    match model.component {
        Some(_) => quote!(Self::#function),
        None => quote!(#function),
    }
}

/// Takes the owned parameters out of the call.
fn take(model: &Model<'_>) -> TokenStream {
    let krate = &model.args.krate;
    let component = model.component.map(|component| {
        let at = ours(component.span());
        let krate = located(krate, at);
        quote_spanned!(at=> let component = call.take::<#krate::listener::State<Self>>()?;)
    });
    let parameters = model.parameters.iter().enumerate().filter_map(|(index, parameter)| {
        let name = format_ident!("parameter_{index}");
        match parameter {
            Parameter::Tx(_) => None,
            Parameter::Delivery(typed) | Parameter::Ack(typed) | Parameter::Other(typed) => {
                let ty = &typed.ty;
                Some(quote!(let #name = call.take::<#ty>()?;))
            }
        }
    });
    quote!(#component #(#parameters)*)
}

fn arguments(model: &Model<'_>, tx: &TokenStream) -> TokenStream {
    let component = model.component.map(|_| quote!(&component,));
    let parameters = model.parameters.iter().enumerate().map(|(index, parameter)| match parameter {
        Parameter::Tx(_) => tx.clone(),
        _ => {
            let name = format_ident!("parameter_{index}");
            quote!(#name)
        }
    });
    quote!(#component event #(, #parameters)*)
}
