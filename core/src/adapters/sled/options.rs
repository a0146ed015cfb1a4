//! How a store on sled is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::SledStore;
use super::open::SledTenant;
use crate::adapters::folder;
use crate::error::StoreError;
use crate::store::embedded::copy::Target;
use crate::store::embedded::{EmbeddedStore, Engine, Limits};

/// How a store on sled is opened.
///
/// # Default
/// A cache of 128 MiB, groups of at most 256 units and 1 MiB, a queue of 1024 units, 5 seconds of waiting for a held folder.
#[derive(Debug, Clone)]
pub struct SledOptions {
    cache_bytes: u64,
    wait: Duration,
    limits: Limits,
}

/// Between two full syncs sled's log must not outgrow a segment; more than this a group is never allowed.
const MOST_GROUP_BYTES: usize = 1024 * 1024;

impl SledOptions {
    pub(super) fn new() -> Self {
        Self { cache_bytes: 128 * 1024 * 1024, wait: Duration::from_secs(5), limits: Limits::default() }
    }

    /// How many bytes of memory sled's cache may take; it never takes much less once that much was read or written.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How many units are committed in one group at most.
    pub fn group_units(mut self, units: usize) -> Self {
        self.limits.group_units = units;
        self
    }

    /// How many bytes are applied between two full syncs, each entry counted as 1 KiB at least.
    /// Not more than the default: sled would lose data in a power cut.
    pub fn group_bytes(mut self, bytes: usize) -> Self {
        self.limits.group_bytes = bytes.clamp(self.limits.chunk_bytes, MOST_GROUP_BYTES);
        self
    }

    /// How many units may wait to be committed before further ones wait for room.
    pub fn queue_units(mut self, units: usize) -> Self {
        self.limits.queue_units = units;
        self
    }

    /// How long to wait for a folder that is held by another process, or by a store of this one that is just being dropped.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Opens the store in the folder `path`, and makes one there if there is nothing, or an empty folder.
    /// Blocks the calling thread while sled reads its log.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::OtherEngine`], [`StoreError::NewerFormat`] and [`StoreError::Held`] leave the folder
    /// as it was; [`StoreError::Damaged`] and [`StoreError::Backend`] say what is wrong with it.
    pub fn open(self, path: impl Into<PathBuf>) -> Result<SledStore, StoreError> {
        let engine = folder::open(&self.tenant(), &path.into(), self.wait)?;
        let store = EmbeddedStore::threaded(Arc::new(engine), self.limits)?;
        Ok(SledStore { store })
    }

    /// Opens the engine of the store in the folder `path` without opening the store: to verify, copy or export it. Makes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreError::NotAStore`] if there is none.
    pub fn engine(self, path: impl Into<PathBuf>) -> Result<Arc<dyn Engine>, StoreError> {
        Ok(Arc::new(folder::open_existing(&self.tenant(), &path.into(), self.wait)?))
    }

    /// The folder `path` as the target of a copy. It becomes a store when the copy is whole, and is refused as one before;
    /// what is left in it of a copy that was not finished goes.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreError::Occupied`] if there is a store in it.
    pub fn target(self, path: impl Into<PathBuf>) -> Result<Target, StoreError> {
        Ok(folder::prepare(&self.tenant(), &path.into(), self.wait)?.limits(self.limits))
    }

    fn tenant(&self) -> SledTenant {
        SledTenant { cache_bytes: self.cache_bytes, wait: self.wait, limits: self.limits }
    }
}
