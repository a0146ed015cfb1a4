//! What was only buffered does not stay so for ever.

use std::ops::Range;
use std::sync::{Arc, mpsc};

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::error::StoreError;
use aftercommit::store::embedded::{Batch, EmbeddedStore, Engine, Limits};
use aftercommit::store::{CommitRequest, Direction, Durability, Row, Store};

use crate::place::ROWS;

/// Says when it is synced.
struct Told {
    map: MemoryEngine,
    synced: mpsc::Sender<()>,
}

impl Engine for Told {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.map.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.map.scan(range, direction, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.map.apply(batch)
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        if durability == Durability::Sync {
            // The test may have ended.
            let _ = self.synced.send(());
        }
        self.map.sync(durability)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_buffered_commit_is_synced_although_nothing_follows_it() {
    let (synced, told) = mpsc::channel();
    let map = MemoryEngine::default();
    EmbeddedStore::create(&map).expect("creates");
    let store = EmbeddedStore::threaded(Arc::new(Told { map, synced }), Limits::default()).expect("opens");
    // What opening itself synced was answered before.
    while told.try_recv().is_ok() {}
    for durability in [Durability::Buffered, Durability::Flush] {
        let mut unit = store.begin().await.expect("begins");
        unit.rows().expect("rows").put(&ROWS, b"a".to_vec(), format!("{durability:?}").into_bytes()).expect("puts");
        unit.commit(CommitRequest { durability, ..CommitRequest::default() }).await.expect("commits");
        // Waits for the sync itself; without one it would wait for ever, and be ended by whoever runs the tests.
        tokio::task::block_in_place(|| told.recv()).expect("synced");
    }
}
