//! A durable listener as its worker sees it, whatever the type of its events.

use std::any::Any;

use super::batch::Delivered;
use super::call::Call;
use super::descriptor::Descriptor;
use super::fallback::GivenUp;
use super::invoke::Listener;
use crate::error::BoxError;
use crate::event::{Envelope, Event};
use crate::lock::AnyKey;
use crate::transaction::Answered;
use crate::transaction::step::{Called, answered};

/// One or several events of the type a listener takes.
pub(crate) type Decoded = Box<dyn Any + Send + Sync>;

/// A durable listener as its worker sees it.
pub(crate) trait Deliver: Send + Sync {
    fn descriptor(&self) -> &Descriptor;
    /// The names its event was ever stored under.
    fn stored_names(&self) -> Vec<&'static str>;
    fn decode(&self, envelope: &Envelope) -> Result<Decoded, BoxError>;
    /// As [`decode`](Self::decode), of events with the number of the call each, up to the first that cannot be decoded:
    /// how many these are, and why there are no more.
    fn decode_batch(&self, events: &[(&Envelope, u32)]) -> (Decoded, usize, Option<BoxError>);
    /// Asks its condition about what [`decode`](Self::decode) gave: for what was published before the listener came.
    fn accepts(&self, event: &(dyn Any + Send + Sync), call: Call<'_>) -> bool;
    /// What is to be locked around a call with what [`decode`](Self::decode) gave, by whoever calls: until it is settled.
    fn lock_of(&self, event: &(dyn Any + Send + Sync)) -> Option<AnyKey>;
    /// Calls it with what [`decode`](Self::decode) gave; its condition was asked at publish.
    fn deliver<'a>(&'a self, event: &'a (dyn Any + Send + Sync), call: Call<'a>) -> Called<'a>;
    /// Calls it with the first `count` of what [`decode_batch`](Self::decode_batch) gave.
    fn deliver_batch<'a>(&'a self, events: &'a (dyn Any + Send + Sync), count: usize, call: Call<'a>) -> Called<'a>;
    /// Calls its fallback with what [`decode`](Self::decode) gave.
    fn fall_back(&self, event: &(dyn Any + Send + Sync), given_up: &GivenUp, call: &mut Call<'_>) -> Answered;
}

impl<E: Event> Deliver for Listener<E> {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn stored_names(&self) -> Vec<&'static str> {
        E::STORED.map_or_else(Vec::new, |stored| {
            std::iter::once(stored.name).chain(stored.formerly.iter().copied()).collect()
        })
    }

    fn decode(&self, envelope: &Envelope) -> Result<Decoded, BoxError> {
        Ok(Box::new(decode::<E>(envelope)?))
    }

    fn decode_batch(&self, events: &[(&Envelope, u32)]) -> (Decoded, usize, Option<BoxError>) {
        let mut batch: Vec<Delivered<E>> = Vec::with_capacity(events.len());
        for (envelope, attempt) in events {
            let header = &envelope.header;
            match decode(envelope) {
                Ok(event) => {
                    let (metadata, key) = (header.metadata, header.key.clone());
                    batch.push(Delivered { event, metadata, key, attempt: *attempt });
                }
                Err(cause) => {
                    let count = batch.len();
                    return (Box::new(batch), count, Some(cause));
                }
            }
        }
        let count = batch.len();
        (Box::new(batch), count, None)
    }

    fn accepts(&self, event: &(dyn Any + Send + Sync), mut call: Call<'_>) -> bool {
        event.downcast_ref::<E>().is_none_or(|event| Listener::accepts(self, event, &mut call))
    }

    fn lock_of(&self, event: &(dyn Any + Send + Sync)) -> Option<AnyKey> {
        let lock = self.lock.as_ref()?;
        event.downcast_ref::<E>().map(lock)
    }

    fn deliver<'a>(&'a self, event: &'a (dyn Any + Send + Sync), call: Call<'a>) -> Called<'a> {
        match event.downcast_ref::<E>() {
            Some(event) => self.invoke_unlocked(event, || call),
            None => answered(Err(format!("what was decoded is no `{}`", E::name()).into())),
        }
    }

    fn deliver_batch<'a>(&'a self, events: &'a (dyn Any + Send + Sync), count: usize, call: Call<'a>) -> Called<'a> {
        match events.downcast_ref::<Vec<Delivered<E>>>().and_then(|events| events.get(..count)) {
            Some(events) => self.invoke_batch(events, call),
            None => answered(Err(format!("what was decoded are no `{}`s", E::name()).into())),
        }
    }

    fn fall_back(&self, event: &(dyn Any + Send + Sync), given_up: &GivenUp, call: &mut Call<'_>) -> Answered {
        match (event.downcast_ref::<E>(), &self.fallback) {
            (Some(event), Some(fallback)) => fallback(event, given_up, call),
            _ => Err("it has no fallback".into()),
        }
    }
}

fn decode<E: Event>(envelope: &Envelope) -> Result<E, BoxError> {
    let Some(stored) = E::STORED else {
        return Err(format!("`{}` has no stored form", E::name()).into());
    };
    Ok(stored.open(envelope)?)
}
