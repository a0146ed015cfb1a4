//! A stream that says when a ranking has changed, at a pace.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;

/// Says when a ranking has changed; made by [`Ranking::changes`](super::Ranking::changes).
///
/// It holds nothing of what changed: whoever is told reads what its page shows, and so is never behind.
pub struct Changes {
    versions: watch::Receiver<u64>,
    clock: Arc<dyn Clock>,
    pause: Duration,
    /// Nobody was told anything yet: the first answer is the state as it is.
    is_new: bool,
}

impl Changes {
    pub(super) fn new(versions: watch::Receiver<u64>, clock: Arc<dyn Clock>, pause: Duration) -> Self {
        Self { versions, clock, pause, is_new: true }
    }

    /// Comes back at once the first time, then when something has changed and `pause` has passed since that; however much changed
    /// by then is one change. `None` once the ranking is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses no change: the next call tells it.
    pub async fn next(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.is_new) {
            self.versions.changed().await.ok()?;
            // Marked as seen by `changed`; put back until the pause is over, so that a dropped future has not seen it.
            self.versions.mark_changed();
            self.clock.sleep(self.pause).await;
        }
        Some(*self.versions.borrow_and_update())
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Changes").field("pause", &self.pause).finish_non_exhaustive()
    }
}
