//! Scheduled events and remembered ids: their stored forms, and what of them comes first.
//!
//! A scheduled event stands under its due time, and a second entry says where, by the event's id.
//! A remembered id stands under itself, and a second entry under the time at which it is free again, so that the expired are found
//! without looking at the others.

use uuid::Uuid;

use super::layout::{
    EXPIRY, SCHEDULED, all_of, damaged, decode_due, encode_due, expiry_of, remembered_of, scheduled_at, scheduled_key,
};
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::{Direction, Due, Remembered, Scheduled, Upcoming};

/// How many scheduled events are read at once.
const READ_AHEAD: usize = 16;

/// Scheduled events from `from` on, within the limits; at least one if there is one.
pub(super) fn scheduled(
    shared: &Shared,
    mut from: Due,
    max_events: usize,
    max_bytes: usize,
) -> Result<Vec<Scheduled>, StoreError> {
    let mut out: Vec<Scheduled> = Vec::new();
    let mut bytes = 0usize;
    while out.len() < max_events {
        let limit = READ_AHEAD.min(max_events - out.len());
        let rows = shared.scan_raw(&(scheduled_key(from)..all_of(SCHEDULED).end), Direction::Forward, limit)?;
        let Some((last, _)) = rows.last() else { break };
        from = scheduled_at(last)?.next();
        for (key, value) in rows {
            // One by one, as each may be large; those that went meanwhile are left out.
            for (key, body) in shared.open_rows(vec![(key, value)])? {
                bytes = bytes.saturating_add(body.len());
                if bytes > max_bytes && !out.is_empty() {
                    return Ok(out);
                }
                out.push(decode_scheduled(&key, &body)?);
            }
        }
    }
    Ok(out)
}

/// Reads a scheduled event's row.
pub(super) fn decode_scheduled(key: &[u8], body: &[u8]) -> Result<Scheduled, StoreError> {
    Ok(Scheduled { due: scheduled_at(key)?, envelope: Envelope::decode(body)? })
}

/// Reads where a scheduled event stands.
pub(super) fn decode_place(key: &[u8], body: &[u8]) -> Result<Due, StoreError> {
    decode_due(body).ok_or_else(|| damaged(key, "it is no due time"))
}

/// Where a scheduled event stands, in its stored form.
pub(super) fn encode_place(due: Due) -> [u8; 16] {
    encode_due(due)
}

/// A remembered id, in its stored form: the event's id, nil if there is none, until when, and what was noted.
pub(super) fn encode_remembered(one: &Remembered) -> Vec<u8> {
    [&one.event.unwrap_or(Uuid::nil()).as_bytes()[..], &one.until.0.to_be_bytes(), &one.note].concat()
}

/// Reads what [`encode_remembered`] wrote.
pub(super) fn decode_remembered(key: &[u8], body: &[u8]) -> Result<Remembered, StoreError> {
    let (scope, id) = remembered_of(key)?;
    let parts = body.split_first_chunk().and_then(|(event, rest)| {
        let (until, note) = rest.split_first_chunk()?;
        Some((Uuid::from_bytes(*event), u64::from_be_bytes(*until), note.to_vec()))
    });
    let (event, until, note) = parts.ok_or_else(|| damaged(key, "it is no id with a time"))?;
    Ok(Remembered { scope, id, event: (!event.is_nil()).then_some(event), note, until: Timestamp(until) })
}

/// When the first of both is due, or free again.
pub(super) fn upcoming(shared: &Shared) -> Result<Upcoming, StoreError> {
    let first = |kind| Ok::<_, StoreError>(shared.scan_raw(&all_of(kind), Direction::Forward, 1)?.pop());
    let due = first(SCHEDULED)?.map(|(key, _)| scheduled_at(&key)).transpose()?;
    let expires = first(EXPIRY)?.map(|(key, _)| expiry_of(&key)).transpose()?;
    Ok(Upcoming { due: due.map(|due| due.time), expires: expires.map(|(until, _)| until) })
}
