//! A store in memory: the readable reference of what an embedded store does, and a bus without a disk.
//!
//! It keeps every promise except those about the disk: whatever durability is asked for, nothing survives the process.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::error::StoreError;
use crate::store::embedded::{Batch, Embedded, EmbeddedStore, Engine, Limits};
use crate::store::{Direction, Durability, Row};

/// A store in memory. Cheap to clone; the clones are one store.
#[derive(Clone)]
pub struct MemoryStore {
    engine: Arc<MemoryEngine>,
    store: EmbeddedStore,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let engine = Arc::new(MemoryEngine::default());
        match EmbeddedStore::create(&*engine).and_then(|()| Self::open(engine)) {
            Ok(store) => store,
            Err(error) => unreachable!("a map in memory does not fail: {error}"),
        }
    }

    /// Opens the same data anew, as after a crash or, if this store was closed, after a restart in good order.
    /// This store and its clones are of no use any more.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], if what is stored cannot be read.
    pub fn reopen(&self) -> Result<Self, StoreError> {
        self.store.abandon();
        Self::open(self.engine.clone())
    }

    fn open(engine: Arc<MemoryEngine>) -> Result<Self, StoreError> {
        let store = EmbeddedStore::inline(engine.clone(), Limits::default())?;
        Ok(Self { engine, store })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Embedded for MemoryStore {
    fn embedded(&self) -> &EmbeddedStore {
        &self.store
    }
}

/// An ordered map behind a lock.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    entries: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Engine for MemoryEngine {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.entries.read().get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        let entries = self.entries.read();
        let rows = entries.range::<[u8], _>((Bound::Included(range.start), Bound::Excluded(range.end)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Backward => rows.rev().take(limit).map(owned).collect(),
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut entries = self.entries.write();
        for (key, value) in batch {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self, _durability: Durability) -> Result<(), StoreError> {
        Ok(())
    }
}
