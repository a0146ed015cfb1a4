//! Which units of a log are applied already.

use std::iter::Peekable;

use aftercommit::prelude::*;
use aftercommit::table::{Read, Scan};

/// A row for each unit that was applied, by its number; written in the unit of work that applies it.
const APPLIED: Table<u64, ()> = Table::new("shop.applied-units");

/// Says, in this unit of work, that the log's unit is applied.
pub(super) fn mark(tx: &mut Tx, unit: u64) -> Result<(), Error> {
    APPLIED.put(tx, &unit, &())
}

/// The marks, walked beside the log: a page of them at a time is in memory.
///
/// Marks of this run may come into view, all of them behind the walk: units are begun in the order of their numbers.
pub(super) struct Markers<'r> {
    ahead: Peekable<Scan<'r, u64, ()>>,
}

impl<'r> Markers<'r> {
    pub(super) fn new(rows: &'r mut impl Read) -> Self {
        Self { ahead: APPLIED.iter(rows).peekable() }
    }

    /// Whether a unit is applied. Asked by ascending number.
    pub(super) fn has(&mut self, unit: u64) -> Result<bool, Error> {
        let behind = |mark: &Result<(u64, ()), Error>| matches!(mark, Ok((marked, ())) if *marked < unit);
        while self.ahead.next_if(behind).is_some() {}
        match self.ahead.next_if(|mark| mark.is_err()) {
            Some(failed) => failed.map(|_| false),
            None => Ok(matches!(self.ahead.peek(), Some(Ok((marked, ()))) if *marked == unit)),
        }
    }
}
