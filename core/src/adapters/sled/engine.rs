//! sled as an engine: one tree, one batch a group, and a real sync behind sled's own flush.

use std::fs::File;
use std::ops::Range;

use crate::error::StoreError;
use crate::store::embedded::{Batch, Engine};
use crate::store::{Direction, Durability, Row};

/// An opened sled database.
pub(super) struct SledEngine {
    // Dropped in this order: sled lets go of its files before the folder's lock is let go of.
    db: sled::Db,
    /// sled's own data file, opened a second time: syncing it covers what sled wrote.
    data: File,
    /// Holds the folder for as long as the engine lives.
    _lock: Option<File>,
}

impl SledEngine {
    pub(super) fn new(db: sled::Db, data: File, lock: Option<File>) -> Self {
        Self { db, data, _lock: lock }
    }
}

impl Engine for SledEngine {
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get(key).map_err(|cause| failed("read from sled", cause))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        let owned = |row: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = row.map_err(|cause| failed("read from sled", cause))?;
            Ok((key.to_vec(), value.to_vec()))
        };
        let rows = self.db.range(range);
        match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Backward => rows.rev().take(limit).map(owned).collect(),
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.apply_shared(&batch)
    }

    fn apply_shared(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(&key[..], &value[..]),
                None => changes.remove(&key[..]),
            }
        }
        self.db.apply_batch(changes).map_err(|cause| failed("apply a batch to sled", cause))
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        if durability >= Durability::Flush {
            self.db.flush().map_err(|cause| failed("flush sled", cause))?;
        }
        if durability >= Durability::Sync {
            // sled's flush survives a kill only: it neither writes the file's length nor empties the disk's cache.
            self.data.sync_data().map_err(|cause| StoreError::backend("sync sled's data file", cause))?;
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        self.db.size_on_disk().ok()
    }
}

/// The error for what sled answered.
pub(super) fn failed(action: &'static str, cause: sled::Error) -> StoreError {
    match cause {
        sled::Error::Corruption { at, .. } => {
            StoreError::Damaged { what: "sled's log".to_owned(), reason: format!("sled found it damaged at {at:?}") }
        }
        cause => StoreError::backend(action, cause),
    }
}
