//! The cold end of the log: where events go that retention lets go of, and a store whose log goes on into it.
//!
//! An [`Archive`] holds what the log held, in its order and without a hole, up to a position. What is archived is on the disk before
//! the log may give it up, so that a crash loses nothing; until it has, an event is in both, and is read from the archive alone.

use std::ops::Range;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Cursor, Due, GivenUp, ListenerRecord, LogEvent, LogPage, Parked, Position, ReadRows, Redelivery, Scheduled, Store,
    StoreFuture, Suspect, Unit, Upcoming, embedded::EmbeddedStore,
};
use crate::error::StoreError;

/// Where events go that the log gives up. All of it blocks the calling thread as long as files take.
pub trait Archive: Send + Sync + 'static {
    /// Where it ends, and from where on it holds everything that was ever in the log; `None` while it is empty.
    fn extent(&self) -> Option<Range<Position>>;

    /// Adds the events that the log holds in `range`, which begins where the archive ends. `is_whole` if the log had not given up
    /// any there before. When it answers, they survive a power cut; after an error nothing was added.
    fn append(&self, range: Range<Position>, is_whole: bool, events: &[LogEvent]) -> Result<(), StoreError>;

    /// Events from `from` on, ascending, at most `max_events` and about `max_bytes`, and at least one if it holds one there.
    fn read(&self, from: Position, max_events: usize, max_bytes: usize) -> Result<Vec<LogEvent>, StoreError>;

    /// Removes the event with this id, and leaves a gap; answers whether it was there.
    fn erase(&self, event: Uuid) -> Result<bool, StoreError>;
}

/// A store whose log goes on into an archive.
pub(crate) struct ArchivedStore {
    store: Arc<dyn Store>,
    archive: Arc<dyn Archive>,
}

impl ArchivedStore {
    pub(crate) fn new(store: Arc<dyn Store>, archive: Arc<dyn Archive>) -> Self {
        Self { store, archive }
    }

    /// The first position that is read from the log itself.
    fn archived_to(&self) -> Position {
        self.archive.extent().map_or(Position(0), |extent| extent.end)
    }
}

impl Store for ArchivedStore {
    fn read_log(&self, from: Position, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>> {
        async move {
            if max_events > 0 && from < self.archived_to() {
                let archived = self.archive.read(from, max_events, max_bytes)?;
                if !archived.is_empty() {
                    return Ok(archived);
                }
            }
            self.store.read_log(from.max(self.archived_to()), max_events, max_bytes).await
        }
        .boxed()
    }

    fn read_log_of<'a>(
        &'a self,
        names: &'a [String],
        from: Position,
        max_events: usize,
        max_bytes: usize,
    ) -> StoreFuture<'a, LogPage> {
        async move {
            if max_events > 0 && from < self.archived_to() {
                let mut archived = self.archive.read(from, max_events, max_bytes)?;
                if let Some(last) = archived.last() {
                    let next = last.position.next();
                    archived.retain(|event| names.contains(&event.envelope.header.name));
                    return Ok(LogPage { events: archived, next });
                }
            }
            self.store.read_log_of(names, from.max(self.archived_to()), max_events, max_bytes).await
        }
        .boxed()
    }

    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>> {
        async move {
            if position >= self.archived_to() {
                return self.store.read_event(position).await;
            }
            Ok(self.archive.read(position, 1, 1)?.pop().filter(|event| event.position == position))
        }
        .boxed()
    }

    fn pruned_to(&self, logged: bool) -> Position {
        let pruned = self.store.pruned_to(logged);
        match self.archive.extent() {
            // What the log has given up is there, but for what was before the archive.
            Some(extent) if pruned <= extent.end => pruned.min(extent.start),
            _ => pruned,
        }
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn claim(&self) -> bool {
        self.store.claim()
    }

    fn release(&self) {
        self.store.release();
    }

    fn begin(&self) -> StoreFuture<'_, Box<dyn Unit>> {
        self.store.begin()
    }

    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError> {
        self.store.reader()
    }

    fn delivered_up_to(&self) -> watch::Receiver<Position> {
        self.store.delivered_up_to()
    }

    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>> {
        self.store.cursors()
    }

    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>> {
        self.store.redeliveries(listener)
    }

    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>> {
        self.store.parked(listener)
    }

    fn parked_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<Parked>> {
        self.store.parked_from(listener, from, limit)
    }

    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>> {
        self.store.listener_records()
    }

    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>> {
        self.store.given_up_from(listener, from, limit)
    }

    fn upcoming(&self) -> watch::Receiver<Upcoming> {
        self.store.upcoming()
    }

    fn scheduled(&self, from: Due, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>> {
        self.store.scheduled(from, max_events, max_bytes)
    }

    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>> {
        self.store.suspects()
    }

    fn was_clean(&self) -> bool {
        self.store.was_clean()
    }

    fn forget(&self, listener: &str) -> StoreFuture<'_, ()> {
        self.store.forget(listener)
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.store.close()
    }

    fn size(&self) -> Option<u64> {
        self.store.size()
    }

    fn as_embedded(&self) -> Option<&EmbeddedStore> {
        self.store.as_embedded()
    }

    fn poisoned(&self) -> Option<StoreError> {
        self.store.poisoned()
    }
}
