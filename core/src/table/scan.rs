//! Walking over rows in pages.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use super::Read;
use super::shape::decode_row_key;
use crate::error::Error;
use crate::key::{Key, encode_key};
use crate::store::{Direction, KeyRange, ReadRows, Row, TableSpec};

/// How a stored value becomes a `V`.
pub(super) type DecodeValue<V> = fn(&TableSpec, key: &[u8], value: &[u8]) -> Result<V, Error>;

/// How many rows a page has, unless said otherwise.
const DEFAULT_PAGE: usize = 256;

/// Walks over the rows of a range, by ascending key; `.rev()` by descending key, and both ends may be taken in turns.
///
/// Rows are read a page at a time when the walk comes to them, at most one page for each end; nothing is read before the first row is asked for.
/// Within a unit of work, what was read is what the commit is validated against, whole pages of it:
/// to read a few rows of a long range, ask for a small [`page`](Self::page).
///
/// # Errors
/// A row that cannot be decoded is an error in its place, and the walk goes on behind it.
/// An error of the store ends the walk.
#[must_use = "a walk reads nothing until its rows are asked for"]
pub struct Scan<'r, K, V> {
    rows: Result<&'r mut dyn ReadRows, Option<Error>>,
    spec: TableSpec,
    decode: DecodeValue<V>,
    /// Read from the low end and not yet given out, ascending.
    low: VecDeque<Row>,
    /// Read from the high end and not yet given out, ascending.
    high: VecDeque<Row>,
    /// What lies between them and has not been read; none once it is known to be empty.
    between: Option<KeyRange>,
    page: usize,
    key: PhantomData<fn() -> K>,
}

impl<'r, K: Key, V> Scan<'r, K, V> {
    pub(super) fn new(
        rows: &'r mut (impl Read + ?Sized),
        spec: TableSpec,
        decode: DecodeValue<V>,
        range: KeyRange,
    ) -> Self {
        Self {
            rows: rows.read_rows().map_err(Some),
            spec,
            decode,
            low: VecDeque::new(),
            high: VecDeque::new(),
            between: non_empty(range),
            page: DEFAULT_PAGE,
            key: PhantomData,
        }
    }

    /// Reads `rows` rows at a time, at least one; 256 by default.
    pub fn page(mut self, rows: usize) -> Self {
        self.page = rows.max(1);
        self
    }

    /// Reads the next page from the end that `direction` names, if anything may be left there.
    fn read_page(&mut self, direction: Direction) -> Result<(), Error> {
        let range = self.between.take();
        let rows = match &mut self.rows {
            Ok(rows) => rows,
            Err(error) => return error.take().map_or(Ok(()), Err),
        };
        let Some(range) = range else { return Ok(()) };
        let mut page = rows.scan(&self.spec, range.clone(), direction, self.page)?;
        let last = page.last().filter(|_| page.len() >= self.page).map(|(key, _)| Bound::Excluded(key.clone()));
        self.between = last.and_then(|last| match direction {
            Direction::Forward => non_empty((last, range.1)),
            Direction::Backward => non_empty((range.0, last)),
        });
        match direction {
            // Only an empty end is read into.
            Direction::Forward => self.low = page.into(),
            Direction::Backward => {
                page.reverse();
                self.high = page.into();
            }
        }
        Ok(())
    }

    fn decoded(&self, (key, value): Row) -> Result<(K, V), Error> {
        Ok((decode_row_key(&self.spec, &key)?, (self.decode)(&self.spec, &key, &value)?))
    }
}

impl<K: Key, V> Iterator for Scan<'_, K, V> {
    type Item = Result<(K, V), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.low.is_empty()
            && let Err(error) = self.read_page(Direction::Forward)
        {
            self.high.clear();
            return Some(Err(error));
        }
        let row = self.low.pop_front().or_else(|| self.high.pop_front())?;
        Some(self.decoded(row))
    }
}

impl<K: Key, V> DoubleEndedIterator for Scan<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.high.is_empty()
            && let Err(error) = self.read_page(Direction::Backward)
        {
            self.low.clear();
            return Some(Err(error));
        }
        let row = self.high.pop_back().or_else(|| self.low.pop_back())?;
        Some(self.decoded(row))
    }
}

impl<K: Key, V> FusedIterator for Scan<'_, K, V> {}

impl<K, V> std::fmt::Debug for Scan<'_, K, V> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Scan").field("table", &self.spec.name).field("between", &self.between).finish_non_exhaustive()
    }
}

/// The stored range of the keys in `range`.
pub(super) fn key_range<K: Key>(range: &impl RangeBounds<K>) -> KeyRange {
    (range.start_bound().map(encode_key), range.end_bound().map(encode_key))
}

/// The stored range of all keys that begin with `prefix`.
pub(super) fn prefix_range<P: Key>(prefix: &P) -> KeyRange {
    let start = encode_key(prefix);
    let end = after_prefix(start.clone()).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(start), end)
}

/// The least bytes behind everything that begins with `prefix`; none if nothing lies behind it.
fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < 0xFF {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

/// `range`, unless its bounds leave no room for a key; a store need not answer to those.
fn non_empty(range: KeyRange) -> Option<KeyRange> {
    use Bound::{Excluded, Included, Unbounded};
    let room = match &range {
        (Included(start), Included(end)) => start <= end,
        (Included(start) | Excluded(start), Included(end) | Excluded(end)) => start < end,
        (Unbounded, Excluded(end)) => !end.is_empty(),
        _ => true,
    };
    room.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreError;
    use crate::table::Table;
    use crate::table::double::Unit;

    const NUMBERS: Table<u64, u64> = Table::new("shop.numbers");

    fn filled(count: u64) -> Unit {
        let mut unit = Unit::default();
        for number in 0..count {
            NUMBERS.put(&mut unit, &number, &(number * 100)).expect("put");
        }
        unit
    }

    fn keys<K, V>(rows: impl Iterator<Item = Result<(K, V), Error>>) -> Vec<K> {
        rows.map(|row| row.expect("a row").0).collect()
    }

    #[test]
    fn what_follows_a_prefix_is_the_least_bytes_behind_all_that_begin_with_it() {
        fn check(prefix: &[u8], expected: Option<&[u8]>) {
            assert_eq!(after_prefix(prefix.to_vec()).as_deref(), expected);
        }
        check(&[1, 2], Some(&[1, 3]));
        check(&[1, 0xFF], Some(&[2]));
        check(&[0xFE, 0xFF, 0xFF], Some(&[0xFF]));
        check(&[0xFF, 0xFF], None);
        check(&[], None);
    }

    #[test]
    fn a_range_without_room_is_empty() {
        use Bound::{Excluded, Included, Unbounded};
        let (a, b) = (vec![1], vec![2]);
        for range in [
            (Included(b.clone()), Included(a.clone())),
            (Included(a.clone()), Excluded(a.clone())),
            (Excluded(a.clone()), Included(a.clone())),
            (Excluded(a.clone()), Excluded(a.clone())),
            (Unbounded, Excluded(Vec::new())),
        ] {
            assert_eq!(non_empty(range.clone()), None, "{range:?}");
        }
        for range in [
            (Included(a.clone()), Included(a.clone())),
            (Excluded(a.clone()), Excluded(b)),
            (Included(a.clone()), Unbounded),
            (Unbounded, Included(Vec::new())),
        ] {
            assert_eq!(non_empty(range.clone()), Some(range));
        }
    }

    #[test]
    fn a_walk_reads_page_by_page_and_only_what_it_is_asked_for() {
        let mut unit = filled(600);
        assert_eq!(keys(NUMBERS.iter(&mut unit)), (0..600).collect::<Vec<_>>());
        assert_eq!(std::mem::take(&mut unit.scans), [(256, 256), (256, 256), (256, 88)]);
        assert_eq!(keys(NUMBERS.iter(&mut unit).rev()), (0..600).rev().collect::<Vec<_>>());
        assert_eq!(std::mem::take(&mut unit.scans), [(256, 256), (256, 256), (256, 88)]);
        assert_eq!(keys(NUMBERS.range(&mut unit, 10..).page(4).take(4)), [10, 11, 12, 13]);
        assert_eq!(std::mem::take(&mut unit.scans), [(4, 4)]);
        assert_eq!(keys(NUMBERS.range(&mut unit, ..=3).page(0)), [0, 1, 2, 3], "a page has at least one row");
        unit.scans.clear();
        drop(NUMBERS.iter(&mut unit));
        assert_eq!(unit.scans, []);
    }

    #[test]
    fn a_table_of_exactly_some_pages_ends_where_they_end() {
        let mut unit = filled(512);
        assert_eq!(NUMBERS.iter(&mut unit).count(), 512);
        assert_eq!(unit.scans, [(256, 256), (256, 256), (256, 0)]);
    }

    #[test]
    fn a_range_without_room_has_no_rows() {
        let mut unit = filled(5);
        #[expect(clippy::reversed_empty_ranges)]
        let backwards = NUMBERS.range(&mut unit, 4..2).count();
        assert_eq!(backwards, 0);
        assert_eq!(NUMBERS.range(&mut unit, 3..3).count(), 0);
        assert_eq!(NUMBERS.range(&mut unit, (Bound::Excluded(3), Bound::Excluded(3))).count(), 0);
        assert_eq!(unit.scans, []);
    }

    #[test]
    fn an_error_of_the_store_ends_the_walk() {
        let mut unit = filled(6);
        unit.scans_left = Some(1);
        let mut walk = NUMBERS.iter(&mut unit).page(2);
        assert!(matches!(walk.next(), Some(Ok((0, _)))));
        assert!(matches!(walk.next_back(), Some(Err(Error::Store(StoreError::Closed)))));
        assert!(walk.next().is_none() && walk.next_back().is_none());
    }

    #[test]
    fn a_prefix_of_0xff_holds_its_own_rows_and_no_others() {
        const BYTES: Table<(u8, u8), u8> = Table::new("shop.bytes");
        let mut unit = Unit::default();
        for key in [(0xFE, 0xFF), (0xFF, 0x00), (0xFF, 0xFF)] {
            BYTES.put(&mut unit, &key, &0).expect("put");
        }
        assert_eq!(keys(BYTES.prefix(&mut unit, &0xFF)), [(0xFF, 0x00), (0xFF, 0xFF)]);
        assert_eq!(keys(BYTES.prefix(&mut unit, &(0xFE,)).rev()), [(0xFE, 0xFF)]);
    }
}
