//! redb as an engine: one table; a batch is a transaction that is not durable yet, a sync one that is.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use crate::error::StoreError;
use crate::store::embedded::{Batch, Engine};
use crate::store::{Direction, Durability, Row};

const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

type Snapshot = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Bytes<'a> = AccessGuard<'a, &'static [u8]>;

/// An opened redb database.
pub(super) struct RedbEngine {
    // Dropped in this order: redb lets go of its file before the folder's lock is let go of.
    /// What readers see: everything applied.
    latest: RwLock<Arc<Snapshot>>,
    db: Database,
    /// Where redb's file is.
    file: PathBuf,
    /// Holds the folder for as long as the engine lives.
    _lock: Option<File>,
}

impl RedbEngine {
    /// Makes the table in an empty database.
    pub(super) fn create(db: Database, file: PathBuf) -> Result<Self, StoreError> {
        let change = db.begin_write().map_err(|cause| failed("begin a transaction of redb", cause))?;
        change.open_table(ENTRIES).map_err(|cause| failed("make redb's table", cause))?;
        change.commit().map_err(|cause| failed("commit to redb", cause))?;
        Self::open(db, file, None)
    }

    /// Takes over a database that holds the table.
    pub(super) fn open(db: Database, file: PathBuf, lock: Option<File>) -> Result<Self, StoreError> {
        let latest = RwLock::new(Arc::new(snapshot(&db)?));
        Ok(Self { latest, db, file, _lock: lock })
    }

    fn latest(&self) -> Arc<Snapshot> {
        self.latest.read().clone()
    }
}

/// Everything committed so far.
fn snapshot(db: &Database) -> Result<Snapshot, StoreError> {
    let reading = db.begin_read().map_err(|cause| failed("begin to read from redb", cause))?;
    match reading.open_table(ENTRIES) {
        Ok(table) => Ok(table),
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
            Err(damaged("it does not hold the table of a store"))
        }
        Err(cause) => Err(failed("open redb's table", cause)),
    }
}

impl Engine for RedbEngine {
    fn kind(&self) -> &'static str {
        "redb"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.latest().get_owned(key).map_err(|cause| failed("read from redb", cause))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        let latest = self.latest();
        let rows = ReadableTable::range::<&[u8]>(&*latest, range).map_err(|cause| failed("read from redb", cause))?;
        let owned = |row: Result<(Bytes<'_>, Bytes<'_>), StorageError>| {
            let (key, value) = row.map_err(|cause| failed("read from redb", cause))?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        };
        match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Backward => rows.rev().take(limit).map(owned).collect(),
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.apply_shared(&batch)
    }

    fn apply_shared(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut change = self.db.begin_write().map_err(|cause| failed("begin a transaction of redb", cause))?;
        change.set_durability(redb::Durability::None).map_err(|cause| failed("apply a batch to redb", cause))?;
        let mut table = change.open_table(ENTRIES).map_err(|cause| failed("open redb's table", cause))?;
        for (key, value) in batch {
            match value {
                Some(value) => table.insert(&key[..], &value[..]).map(drop),
                None => table.remove(&key[..]).map(drop),
            }
            .map_err(|cause| failed("apply a batch to redb", cause))?;
        }
        drop(table);
        change.commit().map_err(|cause| failed("apply a batch to redb", cause))?;
        *self.latest.write() = Arc::new(snapshot(&self.db)?);
        Ok(())
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        if durability >= Durability::Flush {
            // An empty transaction takes what was applied before it with it. redb knows nothing between memory and disk, and a
            // transaction that only the system holds must not be followed by another: the two would stand in both of redb's
            // commit slots, and a power cut could take all.
            let everything = self.db.begin_write().map_err(|cause| failed("begin a transaction of redb", cause))?;
            everything.commit().map_err(|cause| failed("sync redb", cause))?;
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        std::fs::metadata(&self.file).ok().map(|found| found.len())
    }
}

/// The error for what redb answered.
pub(super) fn failed(action: &'static str, cause: impl Into<redb::Error>) -> StoreError {
    match cause.into() {
        redb::Error::Corrupted(reason) => damaged(&format!("redb says: {reason}")),
        cause => StoreError::backend(action, cause),
    }
}

pub(super) fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged { what: "redb's file".to_owned(), reason: reason.to_owned() }
}
