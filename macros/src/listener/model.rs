//! What the signature means: the event, the unit of work, and what else is taken from the call.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::{FnArg, GenericArgument, PatType, Path, PathArguments, ReturnType, Signature, Type, TypeReference};

use super::args::Args;
use crate::support::{Errors, peel};

/// A listener as its attribute and signature declare it.
pub(crate) struct Model<'a> {
    pub(crate) args: Args,
    pub(crate) signature: &'a Signature,
    /// The component, for a method of one.
    pub(crate) component: Option<&'a Type>,
    /// The event's type; `None` only if a mistake was noted.
    pub(crate) event: Option<&'a Type>,
    /// Whether it takes several at once, as `&[Delivered<E>]`.
    pub(crate) takes_batch: bool,
    /// The parameters after the event.
    pub(crate) parameters: Vec<Parameter<'a>>,
}

/// A parameter beside the event.
pub(crate) enum Parameter<'a> {
    /// `&mut Tx`.
    Tx(&'a PatType),
    /// `Delivery`.
    Delivery(&'a PatType),
    /// `Ack`.
    Ack(&'a PatType),
    /// Whatever else the call gives.
    Other(&'a PatType),
}

impl<'a> Model<'a> {
    pub(crate) fn new(args: Args, signature: &'a Signature, component: Option<&'a Type>, errors: &mut Errors) -> Self {
        let mut typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        let event = match typed.next() {
            Some(first) => event(first, errors),
            None => {
                errors.push(
                    &signature.ident,
                    "a listener takes an event: write its first parameter as `event: &OrderPlaced`",
                );
                None
            }
        };
        let parameters = typed.filter_map(|typed| parameter(typed, errors)).collect();
        let one_of_batch = event.and_then(delivered);
        let (event, takes_batch) = (one_of_batch.or(event), one_of_batch.is_some());
        Model { args, signature, component, event, takes_batch, parameters }
    }

    pub(crate) fn is_async(&self) -> bool {
        self.signature.asyncness.is_some()
    }

    pub(crate) fn tx(&self) -> Option<&'a PatType> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Tx(tx) => Some(*tx),
            _ => None,
        })
    }

    pub(crate) fn delivery(&self) -> Option<&'a PatType> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Delivery(delivery) => Some(*delivery),
            _ => None,
        })
    }

    pub(crate) fn ack(&self) -> Option<&'a PatType> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Ack(ack) => Some(*ack),
            _ => None,
        })
    }

    /// The `Decision` that it answers, or answers as a `Result` of.
    pub(crate) fn decision(&self) -> Option<&'a Type> {
        let answer = self.answer()?;
        let of_result = || match peel(answer) {
            Type::Path(path) if ends_in(answer, "Result") => first_argument(&path.path),
            _ => None,
        };
        [Some(answer), of_result()].into_iter().flatten().find(|ty| ends_in(ty, "Decision"))
    }

    /// The type of the answer, if one is written.
    pub(crate) fn answer(&self) -> Option<&'a Type> {
        match &self.signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some(ty),
        }
    }
}

fn event<'a>(first: &'a PatType, errors: &mut Errors) -> Option<&'a Type> {
    match peel(&first.ty) {
        Type::Reference(TypeReference { mutability: None, elem, .. }) => return Some(elem),
        ty if is_tx(ty) => {
            errors.push(ty, "the event comes first: write `event: &OrderPlaced, tx: &mut Tx`");
        }
        Type::Reference(TypeReference { mutability: Some(_), elem, .. }) => {
            errors.push(first, format!("an event is shared by all its listeners: take it as `&{}`", written(elem)));
        }
        ty => {
            errors.push(first, format!("the first parameter is the event, by reference: write `&{}`", written(ty)));
        }
    }
    None
}

fn parameter<'a>(typed: &'a PatType, errors: &mut Errors) -> Option<Parameter<'a>> {
    match peel(&typed.ty) {
        ty if is_tx(ty) => return Some(Parameter::Tx(typed)),
        ty if ends_in(ty, "Tx") => {
            errors.push(ty, "the unit of work is lent to the listener: write `tx: &mut Tx`");
        }
        Type::Reference(reference) if ends_in(&reference.elem, "Tx") => {
            errors.push(reference, "the unit of work is lent to the listener: write `tx: &mut Tx`");
        }
        Type::Reference(TypeReference { mutability: None, .. }) => {
            errors.push(typed, "a listener takes one event, its first parameter; further ones are `tx: &mut Tx` or owned, as `State<T>`");
        }
        Type::Reference(_) => {
            errors.push(
                typed,
                "only the unit of work is taken by `&mut`, as `tx: &mut Tx`; other parameters are owned, as `State<T>`",
            );
        }
        ty if ends_in(ty, "Delivery") => return Some(Parameter::Delivery(typed)),
        ty if ends_in(ty, "Ack") => return Some(Parameter::Ack(typed)),
        _ => return Some(Parameter::Other(typed)),
    }
    None
}

fn is_tx(ty: &Type) -> bool {
    matches!(ty, Type::Reference(TypeReference { mutability: Some(_), elem, .. }) if ends_in(elem, "Tx"))
}

fn ends_in(ty: &Type, name: &str) -> bool {
    matches!(peel(ty), Type::Path(path) if path.qself.is_none() && last(&path.path).is_some_and(|last| last == name))
}

/// The event's type of `[Delivered<E>]`.
fn delivered(ty: &Type) -> Option<&Type> {
    let Type::Slice(slice) = peel(ty) else { return None };
    match peel(&slice.elem) {
        Type::Path(path) if ends_in(&slice.elem, "Delivered") => first_argument(&path.path),
        _ => None,
    }
}

/// The first type between the angle brackets at the end of a path.
fn first_argument(path: &Path) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &path.segments.last()?.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn last(path: &Path) -> Option<&Ident> {
    path.segments.last().map(|last| &last.ident)
}

/// The type as one would write it.
pub(crate) fn written(ty: &Type) -> String {
    ty.to_token_stream().to_string().replace(" :: ", "::").replace(":: ", "::").replace(" < ", "<").replace(" >", ">")
}
