//! The application's tables: which id each name has, and what it holds.
//!
//! An id is given out at a table's first use and recorded with the first commit that writes the table.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;

use super::layout::{TABLE, damaged, frame, name_of, named, unframe_inline};
use crate::error::StoreError;
use crate::store::{Row, TableSpec};

#[derive(Debug)]
struct Table {
    name: String,
    shape: String,
    /// Whether a row of it was ever kept in pieces.
    large: bool,
    /// Whether the record on disk says all this.
    recorded: bool,
}

/// The tables in use.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: BTreeMap<u32, Table>,
    by_name: HashMap<String, u32>,
    /// Declarations that were compared with the record, by name and shape function.
    checked: HashMap<(&'static str, usize), u32>,
}

const LARGE: u8 = 1;

/// A table as recorded.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) shape: String,
    /// Whether a row of it was ever kept in pieces.
    pub(super) large: bool,
}

impl Record {
    /// Reads a table's entry.
    pub(super) fn decode(key: &[u8], value: Vec<u8>) -> Result<Self, StoreError> {
        let name = name_of(key)?;
        let body = unframe_inline(key, value)?;
        let parsed = body.split_first_chunk().and_then(|(id, rest)| {
            let (&flags, shape) = rest.split_first()?;
            Some((u32::from_be_bytes(*id), flags, String::from_utf8(shape.to_vec()).ok()?))
        });
        let (id, flags, shape) = parsed.ok_or_else(|| damaged(key, "it is no table's record"))?;
        Ok(Self { id, name, shape, large: flags & LARGE != 0 })
    }

    /// The entry that [`decode`](Self::decode) reads.
    pub(super) fn encode(&self) -> Row {
        let key = named(TABLE, &self.name);
        let flags = if self.large { LARGE } else { 0 };
        let value = frame(&key, &[&self.id.to_be_bytes()[..], &[flags], self.shape.as_bytes()].concat());
        (key, value)
    }
}

impl Catalogue {
    /// Reads the records of a store.
    pub(super) fn load(records: Vec<Row>) -> Result<Self, StoreError> {
        let mut inner = Inner::default();
        for (key, value) in records {
            let Record { id, name, shape, large } = Record::decode(&key, value)?;
            inner.by_name.insert(name.clone(), id);
            let table = Table { name, shape, large, recorded: true };
            if inner.tables.insert(id, table).is_some() {
                return Err(damaged(&key, "its id is another table's too"));
            }
        }
        Ok(Self { inner: RwLock::new(inner) })
    }

    /// The id of the table that `spec` declares.
    ///
    /// # Errors
    /// [`StoreError::TableMismatch`] if it is recorded with another shape, now or formerly.
    pub(super) fn id(&self, spec: &TableSpec) -> Result<u32, StoreError> {
        let declaration = (spec.name, spec.shape as usize);
        if let Some(id) = self.inner.read().checked.get(&declaration) {
            return Ok(*id);
        }
        let shape = (spec.shape)();
        let mut inner = self.inner.write();
        let inner = &mut *inner;
        let id = match inner.by_name.get(spec.name) {
            Some(id) => *id,
            None => {
                let id = inner.tables.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
                inner.by_name.insert(spec.name.to_owned(), id);
                let name = spec.name.to_owned();
                inner.tables.insert(id, Table { name, shape: shape.clone(), large: false, recorded: false });
                id
            }
        };
        if let Some(table) = inner.tables.get_mut(&id)
            && table.shape != shape
        {
            if !spec.formerly.contains(&table.shape.as_str()) {
                return Err(StoreError::TableMismatch {
                    table: spec.name.to_owned(),
                    held: table.shape.clone(),
                    used: shape,
                });
            }
            table.shape = shape;
            table.recorded = false;
        }
        inner.checked.insert(declaration, id);
        Ok(id)
    }

    /// The name of a table, for messages.
    pub(super) fn name(&self, id: u32) -> String {
        self.inner.read().tables.get(&id).map_or_else(|| format!("#{id}"), |table| table.name.clone())
    }

    /// Whether rows of the table may be kept in pieces.
    pub(super) fn is_large(&self, id: u32) -> bool {
        self.inner.read().tables.get(&id).is_none_or(|table| table.large)
    }

    /// The record that must go with a commit that writes the table, if the one on disk does not say it yet.
    /// From here on it counts as recorded.
    pub(super) fn record(&self, id: u32, large: bool) -> Option<Row> {
        {
            let inner = self.inner.read();
            let table = inner.tables.get(&id)?;
            if table.recorded && (table.large || !large) {
                return None;
            }
        }
        let mut inner = self.inner.write();
        let table = inner.tables.get_mut(&id)?;
        table.large |= large;
        table.recorded = true;
        let Table { name, shape, large, .. } = table;
        Some(Record { id, name: name.clone(), shape: shape.clone(), large: *large }.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: fn() -> String, formerly: &'static [&'static str]) -> TableSpec {
        TableSpec { name: "t", shape, formerly }
    }

    #[test]
    fn a_table_of_another_shape_is_refused_and_a_former_one_is_taken_over() {
        let new = Catalogue::default();
        let old_shape = || "rows(u64 -> Old)".to_owned();
        let id = new.id(&spec(old_shape, &[])).expect("new");
        let record = new.record(id, false).expect("not recorded yet");
        assert!(new.record(id, false).is_none());

        let again = Catalogue::load(vec![record]).expect("whole");
        let new_shape = || "rows(u64 -> New)".to_owned();
        let refused = again.id(&spec(new_shape, &[]));
        assert!(matches!(refused, Err(StoreError::TableMismatch { held, .. }) if held == "rows(u64 -> Old)"));
        assert!(again.record(id, false).is_none());
        assert_eq!(again.id(&spec(new_shape, &["rows(u64 -> Old)"])).expect("taken over"), id);
        let record = again.record(id, true).expect("to be recorded anew");

        let last = Catalogue::load(vec![record]).expect("whole");
        assert_eq!(last.id(&spec(new_shape, &[])).expect("recorded"), id);
        assert!(last.is_large(id));
    }
}
