//! The stores on disk, by name.

use std::path::Path;
use std::sync::Arc;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::store::Store;

/// What a store of ours is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// sled.
    Sled,
    /// redb.
    Redb,
}

impl Engine {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    /// The one that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Sled => "sled",
            Engine::Redb => "redb",
        }
    }
}

/// Opens a store of ours in the folder `path`, with the default options but for the cache, if it is given.
///
/// # Errors
/// The store's.
pub fn open_store(engine: Engine, path: &Path, cache_bytes: Option<u64>) -> Result<Arc<dyn Store>, StoreError> {
    let cache_bytes = cache_bytes.unwrap_or(128 << 20);
    Ok(match engine {
        Engine::Sled => Arc::new(SledStore::options().cache_bytes(cache_bytes).open(path)?),
        Engine::Redb => Arc::new(RedbStore::options().cache_bytes(cache_bytes).open(path)?),
    })
}
