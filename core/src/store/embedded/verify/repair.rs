//! Mending what can be mended without a loss, on a store that nobody has open.

use super::report::{Problem, Remedy, Report};
use crate::error::StoreError;
use crate::store::embedded::engine::Batch;
use crate::store::embedded::layout::{
    CLEAN, CURSOR, EXPIRY, FREE, GIVEN_UP, LISTENER, LOG, LOG_ENDS, LogEnds, NEXT_SCHEDULED, PARKED, REDELIVERY,
    SCHEDULED, SCHEDULED_ID, SUSPECT, all_of, chunk_id, chunk_key, delivery_of, expiry_key, frame, free_key,
    scheduled_at, scheduled_id_key, unframe_inline,
};
use crate::store::embedded::log::Pack;
use crate::store::embedded::progress::decode_cursor;
use crate::store::embedded::shared::Shared;
use crate::store::embedded::waiting::{decode_remembered, decode_scheduled, encode_place};
use crate::store::{Direction, Durability, Position, Scheduled};

/// Whether a repair mends `problem` of the entry at `key`.
///
/// Of a delivery that waits, or was suspected, only the count of its calls is lost: it is made as if for the first time.
/// Of one that was given up, only the note of it is lost. What is known of a listener may say that it is paused: that is for its
/// owner to decide.
pub(super) fn mends(key: &[u8], problem: &Problem) -> bool {
    match problem {
        Problem::OrphanPieces { .. } | Problem::ListedToSweep { .. } | Problem::PrunedPastEnd { .. } => true,
        Problem::Unlinked | Problem::Dangling | Problem::OrderNotTaken { .. } => true,
        Problem::Damaged { .. } => match key {
            CLEAN | LOG_ENDS | NEXT_SCHEDULED => true,
            // The entry that a place or an expiry belongs to is linked anew.
            _ => matches!(key.first(), Some(&REDELIVERY | &SUSPECT | &FREE | &GIVEN_UP | &SCHEDULED_ID | &EXPIRY)),
        },
        Problem::NoCursor { .. } | Problem::Settled { .. } | Problem::PastEnd { .. } => {
            matches!(key.first(), Some(&REDELIVERY | &SUSPECT | &GIVEN_UP | &LISTENER))
        }
        _ => false,
    }
}

/// How many findings are mended in one batch.
const STEP: usize = 64;
/// How many orphaned pieces go in one batch.
const PIECES: u32 = 32;

/// Mends what can be mended.
pub(super) fn mend(shared: &Shared, report: &mut Report) -> Result<(), StoreError> {
    let engine = shared.engine()?;
    let mut sound: Vec<_> = report.findings.iter_mut().filter(|one| one.remedy == Remedy::Repair).collect();
    for some in sound.chunks_mut(STEP) {
        let mut batch = Batch::new();
        for finding in some.iter_mut() {
            let key = &finding.key;
            match &finding.problem {
                Problem::OrphanPieces { count } => {
                    let id = chunk_id(key).unwrap_or(0);
                    let from = key.last_chunk().map_or(0, |number| u32::from_be_bytes(*number));
                    let mut next = from;
                    while next < from.saturating_add(*count) {
                        let upto = next.saturating_add(PIECES).min(from.saturating_add(*count));
                        let pieces: Batch = (next..upto).map(|number| (chunk_key(id, number), None)).collect();
                        engine.apply(pieces)?;
                        engine.sync(Durability::Sync)?;
                        next = upto;
                    }
                }
                Problem::Unlinked => batch.extend(link(shared, key)?),
                Problem::OrderNotTaken { .. } => batch.extend(next_scheduled(shared)?),
                Problem::ListedToSweep { id } => drop(batch.insert(free_key(*id), None)),
                _ if key == CLEAN => drop(batch.insert(key.clone(), Some(frame(key, &[0])))),
                _ if key == NEXT_SCHEDULED => batch.extend(next_scheduled(shared)?),
                _ if key == LOG_ENDS => {
                    let ends = LogEnds { next: Position(end_of(shared)?), ..LogEnds::default() };
                    batch.insert(key.clone(), Some(frame(key, &ends.encode())));
                }
                _ => drop(batch.insert(key.clone(), None)),
            }
            finding.remedy = Remedy::Mended;
        }
        engine.apply(batch)?;
        engine.sync(Durability::Sync)?;
    }
    Ok(())
}

/// The second entry of the one at `key`.
fn link(shared: &Shared, key: &[u8]) -> Result<Batch, StoreError> {
    let Some(body) = shared.get(key)? else { return Ok(Batch::new()) };
    let (link, body) = if key.first() == Some(&SCHEDULED) {
        let Scheduled { due, envelope } = decode_scheduled(key, &body)?;
        (scheduled_id_key(envelope.header.metadata.id), encode_place(due).to_vec())
    } else {
        (expiry_key(decode_remembered(key, &body)?.until, key), Vec::new())
    };
    let value = frame(&link, &body);
    Ok(Batch::from([(link, Some(value))]))
}

/// An order above those of all scheduled events, as the next one's.
fn next_scheduled(shared: &Shared) -> Result<Batch, StoreError> {
    let mut next = 1;
    for (key, _) in shared.scan_raw(&all_of(SCHEDULED), Direction::Forward, usize::MAX)? {
        next = next.max(scheduled_at(&key).map_or(0, |due| due.order.saturating_add(1)));
    }
    let value = frame(NEXT_SCHEDULED, &next.to_be_bytes());
    Ok(Batch::from([(NEXT_SCHEDULED.to_vec(), Some(value))]))
}

/// A position above everything that the store speaks of.
fn end_of(shared: &Shared) -> Result<u64, StoreError> {
    let mut end = 1;
    if let Some((key, value)) = shared.scan_raw(&all_of(LOG), Direction::Backward, 1)?.pop()
        && let Ok(pack) = Pack::decode(key, value)
    {
        end = pack.end().0;
    }
    for (key, value) in shared.scan_raw(&all_of(CURSOR), Direction::Forward, usize::MAX)? {
        if let Ok((_, cursor)) = unframe_inline(&key, value).and_then(|body| decode_cursor(&key, &body)) {
            end = end.max(cursor.done_above().last().map_or(cursor.low(), |range| range.end));
        }
    }
    for kind in [REDELIVERY, SUSPECT, PARKED] {
        for (key, _) in shared.scan_raw(&all_of(kind), Direction::Forward, usize::MAX)? {
            if let Ok((_, position)) = delivery_of(&key) {
                end = end.max(position.next().0);
            }
        }
    }
    Ok(end)
}
