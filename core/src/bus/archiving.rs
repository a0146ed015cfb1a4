//! Taking what retention lets go of into the archive, before the log may give it up.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::error::{StartError, StoreError};
use crate::store::embedded::Expired;
use crate::store::{Archive, LogEvent, LogHold, Position, Store};
use crate::transaction::Surroundings;

/// About how many bytes of events are archived at once.
const AT_ONCE: usize = 4 << 20;

/// The archive of a bus, and how far it has come.
pub(crate) struct Archiving {
    archive: Arc<dyn Archive>,
    way: Mutex<Way>,
}

/// The way from the log into the archive. Who holds it knows that nothing is under way.
pub(crate) struct Way {
    /// At the end of the archive, so that the log keeps what is not in it.
    hold: Arc<LogHold>,
    /// The log had given up some of what is below before anybody held it.
    whole_from: Position,
}

impl Archiving {
    /// Holds the log where the archive ends.
    ///
    /// # Errors
    /// [`StartError::ArchiveAhead`]; [`StoreError::Unsupported`] if the store manages its log by itself.
    pub(crate) fn begin(store: &dyn Store, archive: Arc<dyn Archive>) -> Result<Self, StartError> {
        let unsupported = || StoreError::Unsupported { action: "archive events", store: store.kind() };
        let embedded = store.as_embedded().ok_or_else(unsupported)?;
        let from = archive.extent().map_or(Position(1), |extent| extent.end);
        let end = store.delivered_up_to().borrow().next();
        if from > end {
            return Err(StartError::ArchiveAhead { archive: from.0, store: end.0 });
        }
        let hold = Arc::new(embedded.hold_log(from));
        let whole_from = store.pruned_to(false).max(store.pruned_to(true));
        Ok(Self { archive, way: Mutex::new(Way { hold, whole_from }) })
    }

    pub(crate) fn archive(&self) -> Arc<dyn Archive> {
        self.archive.clone()
    }

    /// Waits until nothing is under way from the log into the archive, and keeps it so.
    pub(crate) async fn stand_still(&self) -> MutexGuard<'_, Way> {
        self.way.lock().await
    }

    /// Archives what the log would give up if it were not held, and lets go of it.
    pub(crate) async fn advance(&self, store: &dyn Store, around: &Surroundings) -> Result<(), StoreError> {
        let way = self.way.lock().await;
        let Some(embedded) = store.as_embedded() else { return Ok(()) };
        loop {
            let Expired { mut events, to, .. } = embedded.expired(way.hold.clone(), AT_ONCE).await?;
            let from = way.hold.position();
            if to <= from {
                return Ok(());
            }
            let split = way.whole_from.clamp(from, to);
            let whole = events.split_off(events.partition_point(|event| event.position < split));
            for (range, is_whole, events) in [(from..split, false, events), (split..to, true, whole)] {
                if !range.is_empty() {
                    self.append(range, is_whole, events, around).await?;
                }
            }
            way.hold.move_to(to);
        }
    }

    async fn append(
        &self,
        range: Range<Position>,
        is_whole: bool,
        events: Vec<LogEvent>,
        around: &Surroundings,
    ) -> Result<(), StoreError> {
        let archive = self.archive.clone();
        let appended = around.on_pool(move || archive.append(range, is_whole, &events));
        appended.await.map_err(|cause| StoreError::backend("write to the archive", cause))?
    }

    /// Erases an event that nobody takes into the archive meanwhile: the way is held.
    pub(crate) async fn erase(&self, _way: &Way, event: Uuid, around: &Surroundings) -> Result<bool, StoreError> {
        let archive = self.archive.clone();
        let erased = around.on_pool(move || archive.erase(event));
        erased.await.map_err(|cause| StoreError::backend("erase an event in the archive", cause))?
    }
}
