//! How far a durable listener has come.
//!
//! A cursor is a low-water mark, below which everything is settled, and the set of positions above it that are settled too.
//! The set is kept as ranges, so that a listener that works in order keeps almost nothing.
//! With it goes which events the listener [`Takes`].

use std::ops::Range;
use std::sync::Arc;

use super::Takes;
use crate::error::StoreError;

/// A durable listener's progress through the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    low: u64,
    /// Disjoint, ascending, never touching each other or `low`.
    done: Vec<Range<u64>>,
    /// Above `low`, or 0.
    unasked: u64,
    /// Shared, because a cursor is copied at each settlement.
    takes: Arc<Takes>,
}

impl Cursor {
    /// A cursor that has settled everything below `low`.
    pub fn at(low: u64) -> Self {
        Self { low, done: Vec::new(), unasked: 0, takes: Arc::default() }
    }

    /// The listener takes these events.
    pub fn taking(mut self, takes: Arc<Takes>) -> Self {
        self.takes = takes;
        self
    }

    /// Which events the listener takes, and took.
    pub fn takes(&self) -> &Arc<Takes> {
        &self.takes
    }

    /// Nobody asked the listener's condition about what is below `unasked`: it was published before the listener came.
    pub fn unasked_below(mut self, unasked: u64) -> Self {
        self.unasked = if unasked > self.low { unasked } else { 0 };
        self
    }

    /// Whether `position` was published before the listener came, so that its condition is still to be asked.
    pub fn is_unasked(&self, position: u64) -> bool {
        position < self.unasked
    }

    /// Up to where the condition is still to be asked.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }

    /// The first position that is not settled.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The settled ranges above the low-water mark, ascending.
    pub fn done_above(&self) -> &[Range<u64>] {
        &self.done
    }

    /// Whether `position` is settled.
    pub fn is_done(&self, position: u64) -> bool {
        position < self.low || {
            let after = self.done.partition_point(|range| range.end <= position);
            self.done.get(after).is_some_and(|range| range.contains(&position))
        }
    }

    /// `position` and the settled positions on both sides that touch it; from 0 on if everything below is settled.
    pub fn stretch(&self, position: u64) -> Range<u64> {
        let above = self.done.partition_point(|range| range.end <= position);
        let start = match above.checked_sub(1).map(|below| &self.done[below]) {
            Some(below) if below.end == position => below.start,
            _ if position <= self.low => 0,
            _ => position,
        };
        let end = match self.done.get(above) {
            Some(range) if range.start <= position + 1 => range.end,
            _ => position + 1,
        };
        start..end
    }

    /// Settles every position of `range`.
    pub fn settle(&mut self, range: Range<u64>) {
        if range.end <= self.low || range.is_empty() {
            return;
        }
        let mut merged = range;
        // Those that touch or overlap the new range: from the first that ends at or after its start, to the last that starts at or before its end.
        let from = self.done.partition_point(|old| old.end < merged.start);
        let to = self.done.partition_point(|old| old.start <= merged.end);
        if from < to {
            merged = merged.start.min(self.done[from].start)..merged.end.max(self.done[to - 1].end);
        }
        if merged.start <= self.low {
            self.low = merged.end;
            self.done.drain(..to);
            if self.unasked <= self.low {
                self.unasked = 0;
            }
        } else {
            self.done.splice(from..to, [merged]);
        }
    }

    /// The stored form: what the listener takes, low-water mark and ranges, as variable-length differences. A difference of 0, which no
    /// range has, says that what comes next is up to where the condition is to be asked.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.done.len() * 4);
        self.takes.encode(&mut out);
        put_varint(&mut out, self.low);
        if self.unasked > 0 {
            put_varint(&mut out, 0);
            put_varint(&mut out, self.unasked);
        }
        let mut last = self.low;
        for range in &self.done {
            put_varint(&mut out, range.start - last);
            put_varint(&mut out, range.end - range.start);
            last = range.end;
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not that.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, StoreError> {
        let takes = Takes::decode(&mut bytes)?;
        let mut cursor = Self::at(take_varint(&mut bytes)?).taking(Arc::new(takes));
        let mut last = cursor.low;
        while !bytes.is_empty() {
            let gap = take_varint(&mut bytes)?;
            if gap == 0 {
                cursor.unasked = take_varint(&mut bytes)?;
                continue;
            }
            let start = last.checked_add(gap).ok_or_else(damaged)?;
            last = start.checked_add(take_varint(&mut bytes)?).ok_or_else(damaged)?;
            cursor.done.push(start..last);
        }
        Ok(cursor)
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, StoreError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(damaged)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged())
}

pub(super) fn damaged() -> StoreError {
    StoreError::Damaged {
        what: "a listener's cursor".to_owned(),
        reason: "it is no list of names and ranges".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_knows_what_a_plain_set_knows(unasked in 0u64..250, steps in prop::collection::vec((0u64..200, 1u64..9), 0..80)) {
            let mut cursor = Cursor::at(1).unasked_below(unasked);
            let mut plain: BTreeSet<u64> = BTreeSet::from([0]);
            for (start, len) in steps {
                cursor.settle(start..start + len);
                plain.extend(start..start + len);
                for position in 0..220 {
                    prop_assert_eq!(cursor.is_done(position), plain.contains(&position), "position {}", position);
                }
                for position in cursor.low()..220 {
                    let stretch = cursor.stretch(position);
                    prop_assert!(stretch.contains(&position));
                    prop_assert!(stretch.clone().all(|near| near == position || plain.contains(&near)));
                    prop_assert!(!plain.contains(&stretch.end) || plain.contains(&position));
                }
                prop_assert!(!plain.contains(&cursor.low()));
                prop_assert_eq!(cursor.is_unasked(cursor.low()), cursor.low() < unasked);
                prop_assert!(cursor.done.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert_eq!(&Cursor::decode(&cursor.encode()).expect("round trip"), &cursor);
            }
        }
    }
}
