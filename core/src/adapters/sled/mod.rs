//! The embedded store on sled 0.34.
//!
//! One thread commits whole groups to a journal, one write and one fdatasync each; another hands them to sled in larger batches,
//! one flush and one fdatasync each. No code of the user runs inside sled. What a power cut takes from sled alone is kept by making
//! the store aside and renaming it, by large segments, by a cap on what is written between two syncs, and by removing half-written
//! snapshots before sled sees them.

mod engine;
mod open;
mod options;
mod snapshots;

pub use options::SledOptions;

use std::path::PathBuf;

use crate::error::StoreError;
use crate::store::embedded::{Embedded, EmbeddedStore};

/// A store in a folder, on sled. Cheap to clone; the clones are one store.
///
/// Dropped without [`close`](crate::store::Store::close), it commits what is queued and lets the folder go a little later;
/// the next opening finds it not closed in good order.
///
/// ```no_run
/// use std::time::Duration;
///
/// use aftercommit::prelude::*;
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SledStore::options().cache_bytes(32 << 20).wait(Duration::from_secs(1)).open("shop-data")?;
/// let bus = Bus::builder().store(store).linked().start().await?;
/// bus.shutdown(Duration::from_secs(5)).await?; // closes the store
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SledStore {
    store: EmbeddedStore,
}

impl SledStore {
    /// Opens the store in the folder `path` with the default options, and makes one there if there is nothing.
    ///
    /// # Errors
    /// As [`SledOptions::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::options().open(path)
    }

    /// Options to open a store with.
    pub fn options() -> SledOptions {
        SledOptions::new()
    }
}

impl Embedded for SledStore {
    fn embedded(&self) -> &EmbeddedStore {
        &self.store
    }
}
