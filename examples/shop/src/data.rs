//! Where the shop's data lies: the stores it can be kept in.

use std::path::Path;
use std::sync::Arc;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::store::Store;
use clap::ValueEnum;

/// What the data is stored with; data of one kind is refused by the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum StoreKind {
    /// The store on sled.
    #[default]
    Sled,
    /// The store on redb.
    Redb,
}

impl StoreKind {
    /// Opens the data in `path`, or makes a place for it there.
    ///
    /// # Errors
    /// The store's.
    pub fn open(self, path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sled => Arc::new(SledStore::open(path)?),
            Self::Redb => Arc::new(RedbStore::open(path)?),
        })
    }
}
