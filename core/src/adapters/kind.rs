//! A store in a folder, whichever engine it is on: for tools, which are given a folder and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::folder::{self, Which};
use crate::error::StoreError;
use crate::store::embedded::copy::Target;
use crate::store::embedded::{Embedded, EmbeddedStore, Engine};

/// Which engine a store in a folder is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// sled.
    #[cfg(feature = "sled")]
    Sled,
    /// redb.
    #[cfg(feature = "redb")]
    Redb,
}

impl Kind {
    /// Those that are built in.
    pub const ALL: &[Self] = &[
        #[cfg(feature = "sled")]
        Self::Sled,
        #[cfg(feature = "redb")]
        Self::Redb,
    ];

    /// The engine of the store in the folder `path`. Reads one small file and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] if there is none, or one on an engine that is not built in; else as for opening it.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let not = |reason: String| StoreError::NotAStore { path: path.to_owned(), reason };
        let which = folder::which(path)?.ok_or_else(|| not("there is no store in it".to_owned()))?;
        let built_in = Self::ALL.iter().copied().find(|kind| kind.which() == which);
        built_in.ok_or_else(|| not(format!("it is on {}, which this program was built without", which.name())))
    }

    /// The engine's name.
    pub fn name(self) -> &'static str {
        self.which().name()
    }

    fn which(self) -> Which {
        match self {
            #[cfg(feature = "sled")]
            Self::Sled => Which::Sled,
            #[cfg(feature = "redb")]
            Self::Redb => Which::Redb,
        }
    }

    /// Opens the store in the folder `path`, waiting up to `wait` for who holds it.
    ///
    /// # Errors
    /// As the options of the engine's own store.
    pub fn open(self, path: impl AsRef<Path>, wait: Duration) -> Result<EmbeddedStore, StoreError> {
        let path = path.as_ref();
        match self {
            #[cfg(feature = "sled")]
            Self::Sled => Ok(super::sled::SledStore::options().wait(wait).open(path)?.embedded().clone()),
            #[cfg(feature = "redb")]
            Self::Redb => Ok(super::redb::RedbStore::options().wait(wait).open(path)?.embedded().clone()),
        }
    }

    /// Opens the engine of the store in the folder `path` without opening the store.
    ///
    /// # Errors
    /// As the options of the engine's own store.
    pub fn engine(self, path: impl AsRef<Path>, wait: Duration) -> Result<Arc<dyn Engine>, StoreError> {
        let path = path.as_ref();
        match self {
            #[cfg(feature = "sled")]
            Self::Sled => super::sled::SledStore::options().wait(wait).engine(path),
            #[cfg(feature = "redb")]
            Self::Redb => super::redb::RedbStore::options().wait(wait).engine(path),
        }
    }

    /// The folder `path` as the target of a copy.
    ///
    /// # Errors
    /// As the options of the engine's own store.
    pub fn target(self, path: impl AsRef<Path>, wait: Duration) -> Result<Target, StoreError> {
        let path = path.as_ref();
        match self {
            #[cfg(feature = "sled")]
            Self::Sled => super::sled::SledStore::options().wait(wait).target(path),
            #[cfg(feature = "redb")]
            Self::Redb => super::redb::RedbStore::options().wait(wait).target(path),
        }
    }
}
