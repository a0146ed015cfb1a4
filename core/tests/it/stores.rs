//! Every store under one roof, so that one test runs over all of them.

use std::sync::Arc;

use aftercommit::adapters::memory::MemoryStore;
use aftercommit::store::Store;
use parking_lot::Mutex;

/// Opens stores of one kind on one place, again and again.
pub(crate) trait Home: Send + Sync {
    /// Opens the store; what an earlier one stored is there. The earlier one must be gone or closed.
    fn open(&self) -> Arc<dyn Store>;
}

/// A memory store whose contents outlive the handle: the one opened last, which ends when the next is opened.
pub(crate) struct Memory(Mutex<MemoryStore>);

impl Memory {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(MemoryStore::new()))
    }
}

impl Home for Memory {
    fn open(&self) -> Arc<dyn Store> {
        let mut last = self.0.lock();
        *last = last.reopen().expect("a memory store opens");
        Arc::new(last.clone())
    }
}

/// A folder that goes away with this value, and stores on sled in it.
pub(crate) struct Sled(tempfile::TempDir);

impl Sled {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for the test"))
    }
}

impl Home for Sled {
    fn open(&self) -> Arc<dyn Store> {
        let store = aftercommit::adapters::sled::SledStore::open(self.0.path().join("store"));
        Arc::new(store.expect("a store on sled opens"))
    }
}

/// A folder that goes away with this value, and stores on redb in it.
pub(crate) struct Redb(tempfile::TempDir);

impl Redb {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for the test"))
    }
}

impl Home for Redb {
    fn open(&self) -> Arc<dyn Store> {
        let store = aftercommit::adapters::redb::RedbStore::open(self.0.path().join("store"));
        Arc::new(store.expect("a store on redb opens"))
    }
}

/// Writes each test once per store: `on_every_store! { async fn name(home: &dyn Home) { .. } }`.
#[macro_export]
macro_rules! on_every_store {
    ($($(#[$meta:meta])* async fn $name:ident($home:ident: &dyn Home) $body:block)*) => {
        $($crate::on_stores! { [$(#[$meta])*] $name($home) $body
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_live() {
                check(&$crate::live::Live::default()).await;
            }
        })*
    };
}

/// As `on_every_store!`, for what needs several units of work open at once: the embedded stores.
#[macro_export]
macro_rules! on_embedded_stores {
    ($($(#[$meta:meta])* async fn $name:ident($home:ident: &dyn Home) $body:block)*) => {
        $($crate::on_stores! { [$(#[$meta])*] $name($home) $body })*
    };
}

/// One test on the embedded stores, and what else is given.
#[macro_export]
macro_rules! on_stores {
    ([$(#[$meta:meta])*] $name:ident($home:ident) $body:block $($more:item)*) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($home: &dyn $crate::stores::Home) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_memory() {
                check(&$crate::stores::Memory::new()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sled() {
                check(&$crate::stores::Sled::new()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redb() {
                check(&$crate::stores::Redb::new()).await;
            }

            $($more)*
        }
    };
}
