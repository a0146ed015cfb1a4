//! The embedded store on redb 4.
//!
//! One thread commits, into the journal; what has gathered there becomes one transaction of redb and one fsync. Readers see the
//! last transaction and hold nobody up. redb never overwrites what its last durable transaction refers to, so a crash takes back
//! whole transactions; what was not closed in good order is checked page by page when it is opened.

mod engine;
mod open;
mod options;

pub use options::RedbOptions;

use std::path::PathBuf;

use crate::error::StoreError;
use crate::store::embedded::{Embedded, EmbeddedStore};

/// A store in a folder, on redb. Cheap to clone; the clones are one store.
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
/// let store = RedbStore::options().cache_bytes(32 << 20).wait(Duration::from_secs(1)).open("shop-data")?;
/// let bus = Bus::builder().store(store).start().await?;
/// bus.shutdown(Duration::from_secs(5)).await?; // closes the store
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedbStore {
    store: EmbeddedStore,
}

impl RedbStore {
    /// Opens the store in the folder `path` with the default options, and makes one there if there is nothing.
    ///
    /// # Errors
    /// As [`RedbOptions::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::options().open(path)
    }

    /// Options to open a store with.
    pub fn options() -> RedbOptions {
        RedbOptions::new()
    }
}

impl Embedded for RedbStore {
    fn embedded(&self) -> &EmbeddedStore {
        &self.store
    }
}
