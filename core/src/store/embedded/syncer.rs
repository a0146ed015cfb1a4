//! The thread that syncs what one group has come to while the next one gathers.
//!
//! It does one sync at a time and tells the committer's queue when it is done; it decides nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::commit::Syncing;
use super::committer::Queue;
use super::shared::panicked;
use crate::error::StoreError;

/// Where syncs are handed over.
pub(super) struct Syncer(Sender<Syncing>);

impl Syncer {
    /// Starts the thread, which ends with this.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(queue: Arc<Queue>) -> Result<Self, StoreError> {
        let (syncer, handed) = channel();
        std::thread::Builder::new()
            .name("aftercommit-syncer".to_owned())
            .spawn(move || run(&handed, &queue))
            .map_err(|cause| StoreError::backend("start the syncing thread", cause))?;
        Ok(Self(syncer))
    }

    /// Has a sync done; the queue is told when it is.
    ///
    /// # Errors
    /// If the thread is gone.
    pub(super) fn hand(&self, syncing: Syncing) -> Result<(), StoreError> {
        self.0.send(syncing).map_err(|_| StoreError::backend("sync what was committed", "the syncing thread is gone"))
    }
}

fn run(handed: &Receiver<Syncing>, queue: &Queue) {
    for syncing in handed {
        let synced = catch_unwind(AssertUnwindSafe(|| syncing.run()));
        queue.synced(synced.unwrap_or_else(|panic| Err(panicked(&*panic))));
    }
}
