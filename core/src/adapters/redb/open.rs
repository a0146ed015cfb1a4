//! redb as the tenant of a store's folder.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use redb::{Database, DatabaseError};

use super::engine::{RedbEngine, damaged, failed};
use crate::adapters::folder::{Tenant, Which};
use crate::adapters::hold::within;
use crate::error::StoreError;
use crate::store::embedded::Limits;

/// redb's file, in the folder of the store.
const FILE: &str = "data.redb";

/// How redb is opened.
pub(super) struct RedbTenant {
    pub(super) cache_bytes: u64,
    pub(super) wait: Duration,
    pub(super) limits: Limits,
    /// Whether every page is compared with its checksum.
    pub(super) check: bool,
}

impl Tenant for RedbTenant {
    type Engine = RedbEngine;

    const WHICH: Which = Which::Redb;

    /// Nothing: redb's file says all there is to know of it.
    fn fixed(&self) -> Vec<u8> {
        Vec::new()
    }

    fn create(&self, store: &Path) -> Result<RedbEngine, StoreError> {
        let file = store.join(FILE);
        let db = self.builder().create(&file).map_err(|cause| failed("make redb's file", cause))?;
        RedbEngine::create(db, file)
    }

    fn open(&self, store: &Path, _fixed: &[u8], lock: File) -> Result<RedbEngine, StoreError> {
        let file = store.join(FILE);
        let opened = within(self.wait, || match self.builder().open(&file) {
            Ok(db) => Ok(Some(db)),
            Err(DatabaseError::DatabaseAlreadyOpen) => Ok(None),
            Err(cause) => Err(cannot_open(cause)),
        })?;
        match opened {
            Some(mut db) => {
                // redb itself compares checksums only after a crash.
                if self.check && !db.check_integrity().map_err(cannot_open)? {
                    return Err(damaged("its pages do not match their checksums"));
                }
                RedbEngine::open(db, file, Some(lock))
            }
            None => Err(StoreError::Held { path: file, waited: self.wait }),
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    /// redb lets go of its file when it is dropped.
    fn wait_until_free(&self, _store: &Path) -> Result<(), StoreError> {
        Ok(())
    }
}

impl RedbTenant {
    fn builder(&self) -> redb::Builder {
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(self.cache_bytes).unwrap_or(usize::MAX));
        builder
    }
}

/// The error for what redb answered when it was to open its file.
fn cannot_open(cause: DatabaseError) -> StoreError {
    match cause {
        DatabaseError::Storage(redb::StorageError::Io(cause)) => match cause.kind() {
            io::ErrorKind::NotFound => damaged("it is gone"),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                damaged("it is no file of redb, or ends early")
            }
            _ => StoreError::backend("open redb's file", cause),
        },
        cause => failed("open redb", cause),
    }
}
