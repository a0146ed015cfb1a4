//! Is the store whole? Reads everything in slices, and says what does not fit; mends what can be mended without a loss.
//!
//! On a store that is open entries change under the scan. So what looks wrong is looked at again between two groups, when
//! nothing moves, and told only if it still is.

mod entry;
mod repair;
mod report;

pub use report::{Contents, Finding, ListenerContents, LogContents, Problem, Remedy, Report, TableContents};

use std::collections::{BTreeMap, BTreeSet};

use super::commit::Horizon;
use super::layout::{
    CHUNK, CLEAN, Chunks, FREE, LOG, LOG_ENDS, PARKED, REDELIVERY, REMEMBERED, ROW, SCHEDULED, SUSPECT, after, all_of,
    chunk_id, chunk_key, describe, free_key, pack_first, split_row_key, unframe_inline,
};
use super::log::Pack;
use super::shared::Shared;
use crate::error::StoreError;
use crate::store::{Direction, Position};
use entry::{Seen, Sight, slice};

/// A second look, to be taken between two groups; answers what is still wrong.
pub(super) type Second = Box<dyn FnOnce(&Shared, Horizon) -> Result<Vec<Finding>, StoreError> + Send>;

/// How many entries, and about how many bytes, are read at once.
const ENTRIES: usize = 256;
const BYTES: usize = 256 * 1024;
/// How many findings are looked at again in one turn.
const AGAIN: usize = 32;

/// Verifies a store that is open; `turn` takes a second look between two groups.
pub(super) fn running(
    shared: &Shared,
    horizon: Horizon,
    turn: impl Fn(Second) -> Result<Vec<Finding>, StoreError>,
) -> Result<Report, StoreError> {
    let mut scan = Scan::new(shared, horizon)?;
    scan.all()?;
    let mut report = scan.report;
    let suspected = std::mem::take(&mut report.findings);
    let mut rest = suspected.into_iter().peekable();
    while rest.peek().is_some() {
        let some: Vec<Finding> = rest.by_ref().take(AGAIN).collect();
        report.findings.extend(turn(Box::new(move |shared, horizon| again(shared, horizon, some)))?);
    }
    Ok(report)
}

/// Verifies a store that nobody has open.
pub(super) fn closed(shared: &Shared, repair: bool) -> Result<Report, StoreError> {
    let mut scan = Scan::new(shared, horizon_of(shared)?)?;
    scan.all()?;
    let mut report = scan.report;
    if repair {
        repair::mend(shared, &mut report)?;
    }
    Ok(report)
}

/// How far a store that is not open has come, as far as it can be told; without limit where it cannot.
pub(super) fn horizon_of(shared: &Shared) -> Result<Horizon, StoreError> {
    let last = shared.scan_raw(&all_of(LOG), Direction::Backward, 1)?.pop();
    let packed = match last.map(|(key, value)| Pack::decode(key, value)) {
        None => Some(Position(1)),
        Some(Ok(pack)) => Some(pack.end()),
        Some(Err(_)) => None,
    };
    let recorded = match shared.get_raw(LOG_ENDS)?.map(|value| unframe_inline(LOG_ENDS, value)) {
        None => Some(Position(1)),
        Some(body) => body.ok().and_then(|body| body.first_chunk().map(|next| Position(u64::from_be_bytes(*next)))),
    };
    let position = packed.zip(recorded).map_or(Position(u64::MAX), |(packed, recorded)| packed.max(recorded));
    Ok(Horizon { position, chunk: u64::MAX })
}

/// Looks again at what looked wrong.
fn again(shared: &Shared, horizon: Horizon, suspected: Vec<Finding>) -> Result<Vec<Finding>, StoreError> {
    let mut sight = Sight::new(shared, horizon)?;
    let mut still = Vec::new();
    for finding in suspected {
        let problem = match &finding.problem {
            // Nothing that is written makes or unmakes these two.
            Problem::SharedPieces { .. } => Some(finding.problem.clone()),
            Problem::NoMark => shared.get_raw(CLEAN)?.is_none().then_some(Problem::NoMark),
            Problem::OrphanPieces { .. } => {
                let listed = chunk_id(&finding.key).map(|id| shared.get_raw(&free_key(id))).transpose()?.flatten();
                let stands = listed.is_none() && shared.get_raw(&finding.key)?.is_some();
                stands.then(|| finding.problem.clone())
            }
            _ => match shared.get_raw(&finding.key)? {
                Some(value) => sight.look(&finding.key, value)?.problem,
                None => None,
            },
        };
        still.extend(problem.map(|problem| make(finding.key, problem)));
    }
    Ok(still)
}

fn make(key: Vec<u8>, problem: Problem) -> Finding {
    let remedy = if repair::mends(&key, &problem) { Remedy::Repair } else { Remedy::Restore };
    Finding { entry: describe(&key), problem, remedy, key }
}

/// One pass over all entries.
struct Scan<'a> {
    sight: Sight<'a>,
    report: Report,
    tables: BTreeMap<u32, (u64, u64)>,
    listeners: BTreeMap<String, ListenerContents>,
    /// Large values whose pieces were seen: id, and the number after the last.
    pieces: Vec<(u64, u32)>,
    /// Large values that are listed to be swept.
    listed: BTreeSet<u64>,
    /// Large values that something refers to, with their number of pieces.
    referred: Vec<(u64, u32)>,
}

impl<'a> Scan<'a> {
    fn new(shared: &'a Shared, horizon: Horizon) -> Result<Self, StoreError> {
        Ok(Self {
            sight: Sight::new(shared, horizon)?,
            report: Report::default(),
            tables: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pieces: Vec::new(),
            listed: BTreeSet::new(),
            referred: Vec::new(),
        })
    }

    fn all(&mut self) -> Result<(), StoreError> {
        let shared = self.sight.shared;
        if shared.get_raw(CLEAN)?.is_none() {
            self.find(CLEAN.to_vec(), Problem::NoMark);
        }
        // Pieces stand before whatever refers to them, so that a reference that came since the pieces were seen is seen too.
        let mut from = Vec::new();
        let mut limit = 1;
        loop {
            let rows = slice(shared, &from, limit)?;
            let Some((last, _)) = rows.last() else { break };
            from = after(last);
            let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
            limit = (BYTES * rows.len() / bytes.max(1)).clamp(1, ENTRIES);
            for (key, value) in rows {
                self.entry(key, value)?;
            }
        }
        self.large_values();
        self.contents();
        Ok(())
    }

    fn entry(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let bytes = (key.len() + value.len()) as u64;
        let seen = self.sight.look(&key, value)?;
        self.report.contents.entries += 1;
        self.report.contents.bytes += bytes;
        self.count(&key, bytes, &seen);
        self.referred.extend(seen.large.iter().map(|chunks: &Chunks| (chunks.id, chunks.count)));
        if let Some(problem) = seen.problem {
            self.find(key, problem);
        }
        Ok(())
    }

    fn count(&mut self, key: &[u8], bytes: u64, seen: &Seen) {
        let log = &mut self.report.contents.log;
        match key.first() {
            Some(&ROW) => {
                let table = split_row_key(key).map_or(0, |(table, _)| table);
                let (rows, total) = self.tables.entry(table).or_default();
                *rows += 1;
                *total += bytes;
            }
            Some(&LOG) => {
                if let Ok(first) = pack_first(key) {
                    log.first = log.first.or(Some(first.0));
                    log.events += seen.end.saturating_sub(first.0 + seen.erased);
                }
                log.erased += seen.erased;
                log.bytes += bytes;
            }
            Some(&CHUNK) => {
                let number = key.last_chunk().map_or(0, |number| u32::from_be_bytes(*number));
                match (chunk_id(key), self.pieces.last_mut()) {
                    (Some(id), Some((last, end))) if *last == id => *end = number.saturating_add(1),
                    (Some(id), _) => self.pieces.push((id, number.saturating_add(1))),
                    (None, _) => {}
                }
            }
            Some(&SCHEDULED) => self.report.contents.scheduled += 1,
            Some(&REMEMBERED) => self.report.contents.remembered += 1,
            Some(&FREE) => self.listed.extend(chunk_id(key)),
            _ => {}
        }
        if let Some(id) = &seen.listener {
            let known = self.listeners.entry(id.clone()).or_default();
            match key.first() {
                Some(&REDELIVERY) => known.waiting += 1,
                Some(&PARKED) => known.parked += 1,
                Some(&SUSPECT) => {}
                _ => {}
            }
            if let Some(cursor) = &seen.cursor {
                let done: u64 = cursor.done_above().iter().map(|range| range.end - range.start).sum();
                known.low = cursor.low();
                known.behind = self.sight.horizon.position.0.saturating_sub(cursor.low()).saturating_sub(done);
            }
        }
    }

    /// Are all pieces of one value, and of one only?
    fn large_values(&mut self) {
        self.referred.sort_unstable();
        self.report.contents.large_values = self.referred.len() as u64;
        let twice: Vec<u64> =
            self.referred.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0).collect();
        for id in twice {
            self.find(chunk_key(id, 0), Problem::SharedPieces { id });
        }
        let horizon = self.sight.horizon.chunk;
        for (id, end) in std::mem::take(&mut self.pieces) {
            if id >= horizon || self.listed.contains(&id) {
                continue;
            }
            let of = self.referred.binary_search_by_key(&id, |(id, _)| *id).map_or(0, |at| self.referred[at].1);
            if end > of {
                self.find(chunk_key(id, of), Problem::OrphanPieces { count: end - of });
            }
        }
    }

    fn contents(&mut self) {
        let contents = &mut self.report.contents;
        contents.log.next = self.sight.horizon.position.0;
        contents.tables = self
            .sight
            .tables
            .values()
            .map(|record| {
                let (rows, bytes) = self.tables.get(&record.id).copied().unwrap_or_default();
                TableContents { name: record.name.clone(), shape: record.shape.clone(), rows, bytes }
            })
            .collect();
        contents.tables.sort_by(|left, right| left.name.cmp(&right.name));
        contents.listeners = std::mem::take(&mut self.listeners)
            .into_iter()
            .map(|(id, known)| ListenerContents { id, ..known })
            .collect();
    }

    fn find(&mut self, key: Vec<u8>, problem: Problem) {
        if self.report.findings.len() < Report::MOST_FINDINGS {
            self.report.findings.push(make(key, problem));
        } else {
            self.report.more_findings += 1;
        }
    }
}
