//! One life of the simulated process.

use std::sync::Arc;

use super::clock::SimClock;
use super::disk::SimDisk;
use super::store::SimStore;
use super::world::World;
use crate::bus::Bus;
use crate::observe::Notice;
use crate::runtime::BusBuilder;
use crate::store::Store;
use crate::store::embedded::{EmbeddedStore, Limits};

/// One life of the process: from its start to its end, or to a crash.
#[derive(Debug, Clone)]
pub struct Life {
    world: Arc<World>,
    store: SimStore,
    number: usize,
}

impl Life {
    pub(super) fn open(world: Arc<World>, disk: Arc<SimDisk>, number: usize) -> Self {
        let opened = disk.prepare().and_then(|()| EmbeddedStore::inline(disk, Limits::default()));
        let opened = opened.unwrap_or_else(|error| panic!("what the crash left does not open: {error}"));
        Self { store: SimStore::around(opened, world.clone()), world, number }
    }

    /// A builder of a bus on the simulated store, clock and chance, whose notices go to the trace. Give it the listeners and states,
    /// and start it; another store, clock or seed would not be simulated.
    pub fn bus(&self) -> BusBuilder {
        let told = self.world.clone();
        Bus::builder()
            .store(self.store.clone())
            .clock(self.clock())
            .seed(self.world.below(u64::MAX))
            .one_thread()
            .observer(move |notice: &Notice<'_>| told.note(format!("notice: {notice}")))
    }

    /// The store, as the bus has it.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    /// The time.
    pub fn clock(&self) -> SimClock {
        SimClock(self.world.clone())
    }

    /// Which life this is; 0 for the first.
    pub fn number(&self) -> usize {
        self.number
    }

    /// A number in `0..end`, decided by the seed; 0 if there is none.
    pub fn draw(&self, end: u64) -> u64 {
        self.world.below(end)
    }

    /// Waits until the seed lets it go on: for what the application asks of others, such as a carrier that takes its time.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn turn(&self, what: &'static str) {
        self.store.slowly(what).await;
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: impl Into<String>) {
        self.world.note(line.into());
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.store.poisoned().is_some()
    }
}
