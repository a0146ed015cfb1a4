//! The stored forms of what is kept for single deliveries.

use serde::{Deserialize, Serialize};

use super::layout::{damaged, delivery_of};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::{Ending, GivenUp, Parked, ParkedCause};

/// What is kept of a parked event beside the event.
#[derive(Serialize, Deserialize)]
struct ParkedHead {
    attempts: u32,
    cause: ParkedCause,
    parked_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
}

/// What is kept of a delivery that was given up, beside the event's header.
#[derive(Serialize, Deserialize)]
struct GivenUpHead {
    attempts: u32,
    how: Ending,
    reason: String,
    at: Timestamp,
}

pub(super) fn encode_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|cause| StoreError::backend("write a record in its stored form", cause))
}

pub(super) fn decode_json<T: serde::de::DeserializeOwned>(key: &[u8], body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|cause| damaged(key, &cause.to_string()))
}

/// A parked event: its order among the parked, the length of its head, the head, the event.
pub(super) fn encode_parked(order: u64, parked: &Parked) -> Result<Vec<u8>, StoreError> {
    let Parked { attempts, parked_at, asked, .. } = *parked;
    let head = ParkedHead { attempts, cause: parked.cause.clone(), parked_at, asked };
    let mut out = order.to_be_bytes().to_vec();
    put_head(&mut out, &head)?;
    parked.envelope.encode(&mut out);
    Ok(out)
}

/// Appends a head behind its length.
fn put_head(out: &mut Vec<u8>, head: &impl Serialize) -> Result<(), StoreError> {
    let head = encode_json(head)?;
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&head);
    Ok(())
}

/// Splits a head from what follows it.
fn split_head<'a>(key: &[u8], body: Option<&'a [u8]>) -> Result<(&'a [u8], &'a [u8]), StoreError> {
    let parts = body
        .and_then(|rest| rest.split_first_chunk())
        .and_then(|(len, rest)| rest.split_at_checked(u32::from_be_bytes(*len) as usize));
    parts.ok_or_else(|| damaged(key, "it ends early"))
}

/// A delivery that was given up: the length of its head, the head, the event's stored form without its body.
pub(super) fn encode_given_up(given_up: &GivenUp) -> Result<Vec<u8>, StoreError> {
    let GivenUp { attempts, how, at, .. } = *given_up;
    let mut out = Vec::new();
    put_head(&mut out, &GivenUpHead { attempts, how, reason: given_up.reason.clone(), at })?;
    Envelope { header: given_up.header.clone(), body: Vec::new() }.encode(&mut out);
    Ok(out)
}

/// Reads what [`encode_given_up`] wrote.
pub(super) fn decode_given_up(key: &[u8], body: &[u8]) -> Result<GivenUp, StoreError> {
    let (listener, position) = delivery_of(key)?;
    let (head, event) = split_head(key, Some(body))?;
    let GivenUpHead { attempts, how, reason, at } = decode_json(key, head)?;
    Ok(GivenUp { listener, position, attempts, how, reason, at, header: Envelope::decode(event)?.header })
}

/// The order of a parked event among the parked.
pub(super) fn parked_order(key: &[u8], body: &[u8]) -> Result<u64, StoreError> {
    let (order, _) = body.split_first_chunk().ok_or_else(|| damaged(key, "it ends early"))?;
    Ok(u64::from_be_bytes(*order))
}

/// Reads what [`encode_parked`] wrote, with its order.
pub(super) fn decode_parked(key: &[u8], body: &[u8]) -> Result<(u64, Parked), StoreError> {
    let (listener, position) = delivery_of(key)?;
    let order = parked_order(key, body)?;
    let (head, event) = split_head(key, body.get(8..))?;
    let ParkedHead { attempts, cause, parked_at, asked } = decode_json(key, head)?;
    let envelope = Envelope::decode(event)?;
    Ok((order, Parked { listener, position, attempts, cause, parked_at, asked, envelope }))
}
