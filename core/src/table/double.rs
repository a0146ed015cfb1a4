//! A unit of work in a map, for the tests of this folder.

use std::collections::BTreeMap;

use super::{Read, Write};
use crate::error::{Error, StoreError, UnitError};
use crate::store::{Direction, KeyRange, ReadRows, Row, Rows, TableSpec};

type Cell = (&'static str, Vec<u8>);

/// Rows by table and key; what was added waits for [`commit`](Self::commit).
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) tables: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) shapes: BTreeMap<&'static str, String>,
    added: BTreeMap<Cell, (i64, Option<i64>)>,
    /// The limit and the answer's length of each scan.
    pub(super) scans: Vec<(usize, usize)>,
    /// Scans that still succeed; the one behind them finds the store closed.
    pub(super) scans_left: Option<usize>,
    /// The unit is over: it has no rows any more.
    pub(super) over: bool,
}

impl Unit {
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        for ((table, key), (delta, floor)) in std::mem::take(&mut self.added) {
            let cell = self.tables.entry(table).or_default().entry(key.clone()).or_insert_with(|| vec![0; 8]);
            let value = i64::from_be_bytes(cell[..].try_into().expect("a cell"));
            if let Some(floor) = floor.filter(|floor| value + delta < *floor) {
                return Err(UnitError::BelowFloor {
                    table: table.into(),
                    key: format!("{key:?}"),
                    value,
                    delta,
                    floor,
                }
                .into());
            }
            *cell = (value + delta).to_be_bytes().to_vec();
        }
        Ok(())
    }

    fn table(&mut self, spec: &TableSpec) -> Result<&mut BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let used = (spec.shape)();
        let held = self.shapes.entry(spec.name).or_insert_with(|| used.clone());
        if *held != used && !spec.formerly.contains(&held.as_str()) {
            return Err(StoreError::TableMismatch { table: spec.name.to_owned(), held: held.clone(), used });
        }
        Ok(self.tables.entry(spec.name).or_default())
    }
}

impl ReadRows for Unit {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.table(table)?.get(key).cloned())
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if let Some(left) = &mut self.scans_left {
            *left = left.checked_sub(1).ok_or(StoreError::Closed)?;
        }
        let rows = self.table(table)?.range(range).map(|(key, value)| (key.clone(), value.clone()));
        let page: Vec<Row> = match direction {
            Direction::Forward => rows.take(limit).collect(),
            Direction::Backward => rows.rev().take(limit).collect(),
        };
        self.scans.push((limit, page.len()));
        Ok(page)
    }
}

impl Rows for Unit {
    fn put(&mut self, table: &TableSpec, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.table(table)?.insert(key, value);
        Ok(())
    }

    fn remove(&mut self, table: &TableSpec, key: Vec<u8>) -> Result<(), StoreError> {
        self.table(table)?.remove(&key);
        Ok(())
    }

    fn add(&mut self, table: &TableSpec, key: Vec<u8>, delta: i64, floor: Option<i64>) -> Result<(), StoreError> {
        self.table(table)?;
        self.added.entry((table.name, key)).or_insert((0, floor)).0 += delta;
        Ok(())
    }
}

impl Read for Unit {
    fn read_rows(&mut self) -> Result<&mut dyn ReadRows, Error> {
        if self.over { Err(UnitError::ShuttingDown.into()) } else { Ok(self) }
    }
}

impl Write for Unit {
    fn rows(&mut self) -> Result<&mut dyn Rows, Error> {
        if self.over { Err(UnitError::ShuttingDown.into()) } else { Ok(self) }
    }
}
