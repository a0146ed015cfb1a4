//! A unit's own writes over what is stored.
//!
//! The overlay knows nothing of the store: it keeps one change per key, folds later ones into it, and answers what a read sees
//! when given what is stored. Savepoints keep a journal of what each change replaced.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::layout::split_row_key;
use crate::error::{BoxError, Error, StoreError, UnitError};
use crate::key::readable;
use crate::store::{Direction, Row};

/// What a unit does to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// What the change starts from.
    pub(super) base: Base,
    /// What is added on top.
    pub(super) add: Option<Add>,
}

/// What a change starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// What is stored at commit.
    Stored,
    /// What the unit put itself.
    Put(Vec<u8>),
    /// Nothing: the unit removed it.
    Removed,
}

/// An addition to an integer cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Add {
    pub(super) delta: i64,
    /// The highest floor asked for.
    pub(super) floor: Option<i64>,
}

/// Why an addition cannot be carried out.
#[derive(Debug)]
pub(super) enum CellError {
    /// The row does not hold 8 bytes.
    NotACell { bytes: usize },
    /// It leaves `i64`.
    Overflow,
    /// It ends below the floor.
    BelowFloor { value: i64, floor: i64 },
}

impl CellError {
    /// The error a reader of the cell gets.
    pub(super) fn into_store(self, table: &str, key: &[u8]) -> StoreError {
        match self {
            CellError::NotACell { bytes } => {
                let cause = BoxError::from(format!("an integer cell takes 8 bytes, this row {bytes}"));
                StoreError::Value { action: "decode", table: table.to_owned(), cause: Arc::from(cause) }
            }
            CellError::Overflow | CellError::BelowFloor { .. } => {
                StoreError::Overflow { table: table.to_owned(), key: readable(own_key(key)) }
            }
        }
    }

    /// The error a committing unit gets.
    pub(super) fn into_refusal(self, table: &str, key: &[u8], delta: i64) -> Error {
        match self {
            CellError::BelowFloor { value, floor } => {
                UnitError::BelowFloor { table: table.to_owned(), key: readable(own_key(key)), value, delta, floor }
                    .into()
            }
            other => other.into_store(table, key).into(),
        }
    }
}

fn own_key(key: &[u8]) -> &[u8] {
    split_row_key(key).map_or(key, |(_, own)| own)
}

impl Add {
    /// The cell after the addition, without asking for the floor.
    fn over(self, stored: Option<&[u8]>) -> Result<i64, CellError> {
        cell(stored)?.checked_add(self.delta).ok_or(CellError::Overflow)
    }
}

/// The integer of a cell; 0 if there is none.
pub(super) fn cell(stored: Option<&[u8]>) -> Result<i64, CellError> {
    match stored {
        None => Ok(0),
        Some(bytes) => bytes.try_into().map(i64::from_be_bytes).map_err(|_| CellError::NotACell { bytes: bytes.len() }),
    }
}

impl Change {
    /// Whether what it leaves depends on what is stored.
    pub(super) fn needs_stored(&self) -> bool {
        self.base == Base::Stored
    }

    /// What a read sees, given what is stored.
    fn seen(&self, stored: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, CellError> {
        let base = match &self.base {
            Base::Stored => stored,
            Base::Put(value) => Some(value.clone()),
            Base::Removed => None,
        };
        match self.add {
            None => Ok(base),
            Some(add) => add.over(base.as_deref()).map(|value| Some(value.to_be_bytes().to_vec())),
        }
    }

    /// What a commit leaves, given what is stored then.
    pub(super) fn committed(&self, stored: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, CellError> {
        let end = self.seen(stored)?;
        if let Some(Add { delta, floor: Some(floor) }) = self.add {
            let end = cell(end.as_deref())?;
            if end < floor {
                return Err(CellError::BelowFloor { value: end.wrapping_sub(delta), floor });
            }
        }
        Ok(end)
    }

    /// How many bytes it puts.
    pub(super) fn weight(&self) -> usize {
        match &self.base {
            Base::Put(value) => value.len(),
            _ => 0,
        }
    }
}

/// A unit's own writes.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    changes: BTreeMap<Vec<u8>, Change>,
    /// What each change since the outermost savepoint replaced.
    journal: Vec<(Vec<u8>, Option<Change>)>,
    /// Where in the journal each open savepoint stands.
    savepoints: Vec<usize>,
    weight: usize,
}

/// What one change costs beside its key and value.
const PER_CHANGE: usize = 64;

impl Overlay {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(key, Change { base: Base::Put(value), add: None });
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.set(key, Change { base: Base::Removed, add: None });
    }

    /// Folds an addition into what the unit did to `key` before.
    pub(super) fn add(&mut self, key: Vec<u8>, delta: i64, floor: Option<i64>) -> Result<(), CellError> {
        let mut change = self.changes.get(&key).cloned().unwrap_or(Change { base: Base::Stored, add: None });
        if let Base::Put(value) = &change.base {
            cell(Some(value))?;
        }
        let before = change.add.unwrap_or(Add { delta: 0, floor: None });
        let delta = before.delta.checked_add(delta).ok_or(CellError::Overflow)?;
        change.add = Some(Add { delta, floor: before.floor.max(floor) });
        self.set(key, change);
        Ok(())
    }

    fn set(&mut self, key: Vec<u8>, change: Change) {
        self.weight += key.len() + change.weight() + PER_CHANGE;
        let old = self.changes.insert(key.clone(), change);
        if let Some(old) = &old {
            self.weight -= key.len() + old.weight() + PER_CHANGE;
        }
        if !self.savepoints.is_empty() {
            self.journal.push((key, old));
        }
    }

    /// What the unit did to `key`.
    pub(super) fn change(&self, key: &[u8]) -> Option<&Change> {
        self.changes.get(key)
    }

    /// What a read of `key` sees; `stored` is asked only if it matters.
    pub(super) fn get(
        &self,
        key: &[u8],
        table: &str,
        stored: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match self.change(key) {
            None => stored(),
            Some(change) => {
                let stored = if change.needs_stored() { stored()? } else { None };
                change.seen(stored).map_err(|error| error.into_store(table, key))
            }
        }
    }

    /// Lays the unit's changes over `stored`, which holds every stored row of `range` in `direction`'s order.
    pub(super) fn merge(
        &self,
        stored: Vec<Row>,
        range: Range<Vec<u8>>,
        direction: Direction,
        table: &str,
    ) -> Result<Vec<Row>, StoreError> {
        if range.start >= range.end {
            return Ok(stored);
        }
        let mut own: Vec<_> = self.changes.range(range).collect();
        if own.is_empty() {
            return Ok(stored);
        }
        if direction == Direction::Backward {
            own.reverse();
        }
        let before = |left: &[u8], right: &[u8]| match direction {
            Direction::Forward => left < right,
            Direction::Backward => left > right,
        };
        let mut out = Vec::with_capacity(stored.len() + own.len());
        let mut stored = stored.into_iter().peekable();
        for (key, change) in own {
            while let Some(row) = stored.next_if(|row| before(&row.0, key)) {
                out.push(row);
            }
            let here = stored.next_if(|row| row.0 == *key).map(|row| row.1);
            if let Some(value) = change.seen(here).map_err(|error| error.into_store(table, key))? {
                out.push((key.clone(), value));
            }
        }
        out.extend(stored);
        Ok(out)
    }

    pub(super) fn savepoint(&mut self) {
        self.savepoints.push(self.journal.len());
    }

    /// Undoes everything since the innermost savepoint, and forgets it; nothing happens without one.
    pub(super) fn roll_back_to_savepoint(&mut self) {
        let Some(mark) = self.savepoints.pop() else { return };
        while self.journal.len() > mark {
            let Some((key, old)) = self.journal.pop() else { break };
            self.weight += old.as_ref().map_or(0, |old| key.len() + old.weight() + PER_CHANGE);
            let undone = match old {
                Some(old) => self.changes.insert(key.clone(), old),
                None => self.changes.remove(&key),
            };
            self.weight -= undone.map_or(0, |undone| key.len() + undone.weight() + PER_CHANGE);
        }
    }

    /// Keeps everything since the innermost savepoint, and forgets it.
    pub(super) fn release_savepoint(&mut self) {
        self.savepoints.pop();
        if self.savepoints.is_empty() {
            self.journal.clear();
        }
    }

    /// About how many bytes the changes hold.
    pub(super) fn weight(&self) -> usize {
        let journal: usize =
            self.journal.iter().map(|(key, old)| key.len() + old.as_ref().map_or(0, Change::weight) + PER_CHANGE).sum();
        self.weight + journal
    }

    /// The changes, for the commit.
    pub(super) fn into_changes(self) -> BTreeMap<Vec<u8>, Change> {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, i64),
        Remove(u8),
        Add(u8, i64),
        Savepoint,
        Back,
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8u8, -9..9i64).prop_map(|(key, value)| Step::Put(key, value)),
            (0..8u8).prop_map(Step::Remove),
            (0..8u8, -9..9i64).prop_map(|(key, delta)| Step::Add(key, delta)),
            Just(Step::Savepoint),
            Just(Step::Back),
            Just(Step::Release),
        ]
    }

    type Plain = BTreeMap<u8, i64>;

    proptest! {
        #[test]
        fn an_overlay_shows_what_writing_through_would_show(
            stored in prop::collection::btree_map(0..8u8, -9..9i64, 0..8),
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let mut plain: Plain = stored.clone();
            let mut kept: Vec<(Plain, usize)> = Vec::new();
            let mut overlay = Overlay::default();
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        plain.insert(key, value);
                        overlay.put(vec![key], value.to_be_bytes().to_vec());
                    }
                    Step::Remove(key) => {
                        plain.remove(&key);
                        overlay.remove(vec![key]);
                    }
                    Step::Add(key, delta) => {
                        *plain.entry(key).or_default() += delta;
                        overlay.add(vec![key], delta, None).expect("small numbers");
                    }
                    Step::Savepoint => {
                        kept.push((plain.clone(), overlay.weight));
                        overlay.savepoint();
                    }
                    Step::Back => {
                        overlay.roll_back_to_savepoint();
                        if let Some((before, weight)) = kept.pop() {
                            plain = before;
                            prop_assert_eq!(overlay.weight, weight);
                        }
                    }
                    Step::Release => {
                        kept.pop();
                        overlay.release_savepoint();
                    }
                }
                for key in 0..8u8 {
                    let seen = overlay
                        .get(&[key], "t", || Ok(stored.get(&key).map(|value| value.to_be_bytes().to_vec())))
                        .expect("cells");
                    prop_assert_eq!(seen, plain.get(&key).map(|value| value.to_be_bytes().to_vec()));
                }
                for direction in [Direction::Forward, Direction::Backward] {
                    let rows = |map: &Plain| -> Vec<Row> {
                        let mut rows: Vec<Row> =
                            map.range(2..6).map(|(key, value)| (vec![*key], value.to_be_bytes().to_vec())).collect();
                        if direction == Direction::Backward {
                            rows.reverse();
                        }
                        rows
                    };
                    let seen = overlay.merge(rows(&stored), vec![2]..vec![6], direction, "t").expect("cells");
                    prop_assert_eq!(seen, rows(&plain));
                }
            }
        }
    }

    #[test]
    fn the_highest_floor_asked_for_counts_and_only_for_where_the_cell_ends() {
        let mut overlay = Overlay::default();
        overlay.add(vec![1], -5, Some(-10)).expect("small");
        overlay.add(vec![1], 3, Some(0)).expect("small");
        let change = overlay.change(&[1]).expect("added");
        assert!(matches!(
            change.committed(Some(1i64.to_be_bytes().to_vec())),
            Err(CellError::BelowFloor { value: 1, floor: 0 })
        ));
        let end = change.committed(Some(2i64.to_be_bytes().to_vec())).expect("not below");
        assert_eq!(end, Some(0i64.to_be_bytes().to_vec()));
    }

    #[test]
    fn an_addition_to_what_is_no_cell_is_named() {
        let mut overlay = Overlay::default();
        overlay.put(vec![1], b"text".to_vec());
        assert!(matches!(overlay.add(vec![1], 1, None), Err(CellError::NotACell { bytes: 4 })));
        overlay.add(vec![2], i64::MAX, None).expect("fits");
        assert!(matches!(overlay.add(vec![2], 1, None), Err(CellError::Overflow)));
    }
}
