//! How a store on redb is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::RedbStore;
use super::open::RedbTenant;
use crate::adapters::folder;
use crate::error::StoreError;
use crate::store::embedded::copy::Target;
use crate::store::embedded::{EmbeddedStore, Engine, Limits};

/// What redb takes in one transaction, unless a unit alone is more: larger ones were measured to gain nothing.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What one unit may write. redb holds a transaction's pages in memory until they are synced: an entry that counts 1 KiB can
/// touch a page of 4 KiB, so that this is at most half of the default cache.
const UNIT_BYTES: usize = 16 * 1024 * 1024;

/// How a store on redb is opened.
///
/// # Default
/// A cache of 128 MiB, groups of at most 256 units and 4 MiB, a queue of 1024 units, 5 seconds of waiting for a held folder.
#[derive(Debug, Clone)]
pub struct RedbOptions {
    cache_bytes: u64,
    wait: Duration,
    limits: Limits,
    check: bool,
}

impl RedbOptions {
    pub(super) fn new() -> Self {
        let limits = Limits { group_bytes: GROUP_BYTES, unit_bytes: UNIT_BYTES, ..Limits::default() };
        Self { cache_bytes: 128 * 1024 * 1024, wait: Duration::from_secs(5), limits, check: false }
    }

    /// How many bytes of memory redb's cache may take.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How many units are committed in one group at most.
    pub fn group_units(mut self, units: usize) -> Self {
        self.limits.group_units = units;
        self
    }

    /// How many bytes redb takes in one transaction, and are committed between two full syncs, each entry counted as 1 KiB at least.
    pub fn group_bytes(mut self, bytes: usize) -> Self {
        self.limits.group_bytes = bytes.max(self.limits.chunk_bytes);
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

    /// Whether opening compares every page of the file with its checksum, which reads all of it; `false`.
    ///
    /// redb does so by itself after a crash only. Our own checksums tell every value that is damaged, but not an entry that
    /// a damaged page hides.
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Opens the store in the folder `path`, and makes one there if there is nothing, or an empty folder.
    /// Blocks the calling thread; after a crash for as long as it takes to read the whole file.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::OtherEngine`], [`StoreError::NewerFormat`] and [`StoreError::Held`] leave the folder
    /// as it was; [`StoreError::Damaged`] and [`StoreError::Backend`] say what is wrong with it.
    pub fn open(self, path: impl Into<PathBuf>) -> Result<RedbStore, StoreError> {
        let engine = folder::open(&self.tenant(), &path.into(), self.wait)?;
        let store = EmbeddedStore::threaded(Arc::new(engine), self.limits)?;
        Ok(RedbStore { store })
    }

    /// Opens the engine of the store in the folder `path` without opening the store: to verify, copy or export it. Makes nothing.
    /// Compares every page, as with [`check`](Self::check).
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreError::NotAStore`] if there is none.
    pub fn engine(self, path: impl Into<PathBuf>) -> Result<Arc<dyn Engine>, StoreError> {
        let wait = self.wait;
        Ok(Arc::new(folder::open_existing(&self.check(true).tenant(), &path.into(), wait)?))
    }

    /// The folder `path` as the target of a copy. It becomes a store when the copy is whole, and is refused as one before;
    /// what is left in it of a copy that was not finished goes.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreError::Occupied`] if there is a store in it.
    pub fn target(self, path: impl Into<PathBuf>) -> Result<Target, StoreError> {
        Ok(folder::prepare(&self.tenant(), &path.into(), self.wait)?.limits(self.limits))
    }

    fn tenant(&self) -> RedbTenant {
        RedbTenant { cache_bytes: self.cache_bytes, wait: self.wait, limits: self.limits, check: self.check }
    }
}
