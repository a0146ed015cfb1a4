//! Following: what comes from a tap is applied to another engine, in order, by whoever finds the time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;

use super::tap::{Lag, Tap};
use crate::error::StoreError;
use crate::store::Durability;
use crate::store::embedded::commit::CommitCore;
use crate::store::embedded::engine::{Batch, Engine};
use crate::store::embedded::shared::panicked;
use crate::store::embedded::store::Hand;

/// How many bytes of batches are applied at once.
const STEP: usize = 1 << 20;

/// A tap, and the engine that follows it.
pub(super) struct Follower {
    pub(super) tap: Arc<Tap>,
    pub(super) engine: Arc<dyn Engine>,
    /// Held from taking a batch until it is applied, so that none overtakes another.
    order: Mutex<()>,
}

impl Follower {
    pub(super) fn new(engine: Arc<dyn Engine>, lag: Lag) -> Arc<Self> {
        Arc::new(Self { tap: Tap::new(lag), engine, order: Mutex::new(()) })
    }

    /// Applies the batches that came, up to the `upto`-th.
    pub(super) fn follow(&self, upto: u64) -> Result<(), StoreError> {
        let _order = self.order.lock();
        while let Some(batch) = self.tap.take(STEP, upto)? {
            self.apply(batch)?;
        }
        Ok(())
    }

    /// Follows until nothing comes any more, and syncs.
    pub(super) fn follow_to_the_end(&self) -> Result<(), StoreError> {
        while self.tap.ready(None) {
            self.follow(u64::MAX)?;
        }
        // Tells if it was broken off.
        self.follow(u64::MAX)?;
        self.sync()
    }

    /// Has `work` done between two groups, and follows until it is: who commits may wait for room before it comes to that.
    pub(super) fn turn<T: Send + 'static>(
        &self,
        hand: &Hand,
        work: impl FnOnce(&mut CommitCore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        const LOOK: Duration = Duration::from_millis(2);
        let mut turn = Box::pin(hand.turn(work));
        loop {
            if let Some(done) = (&mut turn).now_or_never() {
                return done;
            }
            self.tap.ready(Some(LOOK));
            let came = self.tap.came();
            if let Err(error) = self.follow(came) {
                // Nobody is to wait for it; what `work` came to still counts for whoever it was done for.
                self.tap.fail(error);
            }
        }
    }

    /// Applies a batch; a panic of the engine is an error of the follower, and nothing else.
    pub(super) fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        guarded(|| if batch.is_empty() { Ok(()) } else { self.engine.apply(batch) })
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        guarded(|| self.engine.sync(Durability::Sync))
    }
}

/// What `ask` answers; its panic is an error.
pub(super) fn guarded<T>(ask: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}
