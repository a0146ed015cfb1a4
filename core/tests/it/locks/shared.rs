//! A store that several buses have, as a database that several processes use would be.

use std::sync::Arc;

use aftercommit::error::StoreError;
use aftercommit::store::{
    Cursor, Due, GivenUp, ListenerRecord, LogEvent, Parked, Position, ReadRows, Redelivery, Scheduled, Store,
    StoreFuture, Suspect, Unit, Upcoming,
};
use tokio::sync::watch;

/// Lets every bus have it; otherwise it is the store inside.
pub(crate) struct Shared(pub(crate) Arc<dyn Store>);

impl Store for Shared {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn claim(&self) -> bool {
        true
    }

    fn release(&self) {}

    fn begin(&self) -> StoreFuture<'_, Box<dyn Unit>> {
        self.0.begin()
    }

    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError> {
        self.0.reader()
    }

    fn delivered_up_to(&self) -> watch::Receiver<Position> {
        self.0.delivered_up_to()
    }

    fn read_log(&self, from: Position, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>> {
        self.0.read_log(from, max_events, max_bytes)
    }

    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>> {
        self.0.read_event(position)
    }

    fn pruned_to(&self, logged: bool) -> Position {
        self.0.pruned_to(logged)
    }

    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>> {
        self.0.cursors()
    }

    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>> {
        self.0.redeliveries(listener)
    }

    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>> {
        self.0.parked(listener)
    }

    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>> {
        self.0.listener_records()
    }

    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>> {
        self.0.given_up_from(listener, from, limit)
    }

    fn upcoming(&self) -> watch::Receiver<Upcoming> {
        self.0.upcoming()
    }

    fn scheduled(&self, from: Due, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>> {
        self.0.scheduled(from, max_events, max_bytes)
    }

    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>> {
        self.0.suspects()
    }

    fn was_clean(&self) -> bool {
        self.0.was_clean()
    }

    fn forget(&self, listener: &str) -> StoreFuture<'_, ()> {
        self.0.forget(listener)
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.0.close()
    }

    fn poisoned(&self) -> Option<StoreError> {
        self.0.poisoned()
    }
}
