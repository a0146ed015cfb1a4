//! sled as the tenant of a store's folder: opening it, and what to see to before.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::engine::{SledEngine, failed};
use super::snapshots;
use crate::adapters::folder::{Tenant, Which};
use crate::adapters::hold::take;
use crate::error::StoreError;
use crate::store::embedded::Limits;

/// sled's files, in the folder of the store.
const SLED: &str = "sled";

/// sled's segment size, the largest there is. A power cut was measured to lose whole stores where more than a segment was written
/// between two syncs.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;

/// How sled is opened.
pub(super) struct SledTenant {
    pub(super) cache_bytes: u64,
    pub(super) wait: Duration,
    pub(super) limits: Limits,
}

impl Tenant for SledTenant {
    type Engine = SledEngine;

    const WHICH: Which = Which::Sled;

    /// The segment size, 4 bytes: sled does not open with another one.
    fn fixed(&self) -> Vec<u8> {
        SEGMENT_BYTES.to_be_bytes().to_vec()
    }

    fn create(&self, store: &Path) -> Result<SledEngine, StoreError> {
        self.open_sled(store, &self.fixed(), None)
    }

    fn open(&self, store: &Path, fixed: &[u8], lock: File) -> Result<SledEngine, StoreError> {
        self.open_sled(store, fixed, Some(lock))
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    /// sled lets go of its data file some time after it was dropped.
    fn wait_until_free(&self, store: &Path) -> Result<(), StoreError> {
        let folder = store.join(SLED);
        match File::open(folder.join("db")) {
            // Let go of in so many words: a process that is just being started has a copy of every open file for a moment, and
            // closing ours would leave it locked by that copy.
            Ok(data) if take(&data, self.wait)? => {
                data.unlock().map_err(|cause| StoreError::backend("unlock sled's data file", cause))
            }
            Ok(_) => Err(StoreError::Held { path: folder, waited: self.wait }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(StoreError::backend("open sled's data file", cause)),
        }
    }
}

impl SledTenant {
    fn open_sled(&self, store: &Path, fixed: &[u8], lock: Option<File>) -> Result<SledEngine, StoreError> {
        let folder = store.join(SLED);
        if fixed != SEGMENT_BYTES.to_be_bytes() {
            return Err(StoreError::Damaged {
                what: format!("the format marker of {store:?}"),
                reason: format!("it does not say segments of {SEGMENT_BYTES} bytes, but {fixed:?}"),
            });
        }
        snapshots::keep(&folder)?;
        let db = sled::Config::new()
            .path(&folder)
            .cache_capacity(self.cache_bytes)
            .segment_size(SEGMENT_BYTES as usize)
            // Our own syncs decide what is on the disk, and tell when they fail.
            .flush_every_ms(None)
            .open()
            .map_err(|cause| failed("open sled", cause))?;
        snapshots::release(&folder)?;
        let data = OpenOptions::new()
            .write(true)
            .open(folder.join("db"))
            .map_err(|cause| StoreError::backend("open sled's data file", cause))?;
        Ok(SledEngine::new(db, data, lock))
    }
}
