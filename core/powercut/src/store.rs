//! The stores that can be put to the test.

use std::path::Path;
use std::sync::Arc;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::store::Store;

/// What is put to the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Subject {
    /// The bus on its store on sled.
    Sled,
    /// The bus on its store on redb.
    Redb,
    /// sled alone, committing as its documentation says: a transaction over trees, and `flush`.
    BareSledFlush,
    /// The same, and an `fdatasync` of sled's file after each flush.
    BareSledFdatasync,
}

impl Subject {
    /// All of them, with the names they have on the command line.
    pub const ALL: [(Subject, &str); 4] = [
        (Subject::Sled, "sled"),
        (Subject::Redb, "redb"),
        (Subject::BareSledFlush, "bare-sled-flush"),
        (Subject::BareSledFdatasync, "bare-sled-fdatasync"),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(subject, _)| *subject == self).map_or("", |(_, name)| name)
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(subject, _)| *subject)
    }

    /// Whether it is an engine alone, without the bus.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Subject::BareSledFlush | Subject::BareSledFdatasync)
    }

    /// Opens the store of the bus in `folder`.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn open(self, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Subject::Sled => Ok(Arc::new(SledStore::options().cache_bytes(32 << 20).open(folder)?)),
            Subject::Redb => Ok(Arc::new(RedbStore::options().cache_bytes(32 << 20).open(folder)?)),
            Subject::BareSledFlush | Subject::BareSledFdatasync => {
                Err(StoreError::NotAStore { path: folder.to_owned(), reason: "it is sled alone".to_owned() })
            }
        }
    }
}
