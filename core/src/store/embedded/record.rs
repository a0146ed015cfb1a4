//! The stored forms of what is kept for single deliveries.

use serde::{Deserialize, Serialize};

use super::layout::{damaged, delivery_of};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::{Parked, ParkedCause};

/// What is kept of a parked event beside the event.
#[derive(Serialize, Deserialize)]
struct ParkedHead {
    attempts: u32,
    cause: ParkedCause,
    parked_at: Timestamp,
}

pub(super) fn encode_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|cause| StoreError::backend("write a record in its stored form", cause))
}

pub(super) fn decode_json<T: serde::de::DeserializeOwned>(key: &[u8], body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|cause| damaged(key, &cause.to_string()))
}

/// A parked event: its order among the parked, the length of its head, the head, the event.
pub(super) fn encode_parked(order: u64, parked: &Parked) -> Result<Vec<u8>, StoreError> {
    let head = ParkedHead { attempts: parked.attempts, cause: parked.cause.clone(), parked_at: parked.parked_at };
    let head = encode_json(&head)?;
    let mut out = order.to_be_bytes().to_vec();
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&head);
    parked.envelope.encode(&mut out);
    Ok(out)
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
    let parts = body
        .get(8..)
        .and_then(|rest| rest.split_first_chunk())
        .and_then(|(len, rest)| rest.split_at_checked(u32::from_be_bytes(*len) as usize));
    let (head, event) = parts.ok_or_else(|| damaged(key, "it ends early"))?;
    let head: ParkedHead = decode_json(key, head)?;
    let envelope = Envelope::decode(event)?;
    let ParkedHead { attempts, cause, parked_at } = head;
    Ok((order, Parked { listener, position, attempts, cause, parked_at, envelope }))
}
