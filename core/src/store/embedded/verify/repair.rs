//! Mending what can be mended without a loss, on a store that nobody has open.

use super::report::{Problem, Remedy, Report};
use crate::error::StoreError;
use crate::store::embedded::engine::Batch;
use crate::store::embedded::layout::{
    CLEAN, CURSOR, FREE, LOG, LOG_ENDS, PARKED, REDELIVERY, SUSPECT, all_of, chunk_id, chunk_key, delivery_of, frame,
    free_key, unframe_inline,
};
use crate::store::embedded::log::Pack;
use crate::store::embedded::progress::decode_cursor;
use crate::store::embedded::shared::Shared;
use crate::store::{Direction, Durability};

/// Whether a repair mends `problem` of the entry at `key`.
///
/// Of a delivery that waits, or was suspected, only the count of its calls is lost: it is made as if for the first time.
pub(super) fn mends(key: &[u8], problem: &Problem) -> bool {
    match problem {
        Problem::OrphanPieces { .. } | Problem::ListedToSweep { .. } | Problem::PrunedPastEnd { .. } => true,
        Problem::Damaged { .. } => match key {
            CLEAN | LOG_ENDS => true,
            _ => matches!(key.first(), Some(&REDELIVERY | &SUSPECT | &FREE)),
        },
        Problem::NoCursor { .. } | Problem::Settled { .. } | Problem::PastEnd { .. } => {
            matches!(key.first(), Some(&REDELIVERY | &SUSPECT))
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
                Problem::ListedToSweep { id } => drop(batch.insert(free_key(*id), None)),
                _ if key == CLEAN => drop(batch.insert(key.clone(), Some(frame(key, &[0])))),
                _ if key == LOG_ENDS => {
                    let ends = [end_of(shared)?.to_be_bytes(), 0u64.to_be_bytes()].concat();
                    batch.insert(key.clone(), Some(frame(key, &ends)));
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
