//! A store whose answers come when the seed says so, and fail when it says so.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::world::World;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::embedded::EmbeddedStore;
use crate::store::{
    CommitError, CommitRequest, Cursor, Due, GivenUp, ListenerRecord, LogEvent, Parked, Position, ReadRows, Receipt,
    Redelivery, Remembered, Rows, Scheduled, Store, StoreFuture, Suspect, Unit, Upcoming,
};
use crate::testing::{FailingStore, Fault, Step};

/// The simulated store of one life. Clones are one store.
#[derive(Debug, Clone)]
pub(super) struct SimStore {
    inner: FailingStore,
    around: Arc<Around>,
}

#[derive(Debug)]
struct Around {
    world: Arc<World>,
    bells: Mutex<Vec<Bell>>,
    /// How many doorbells were ever given out.
    numbers: AtomicU64,
}

/// The doorbell of one who waits for what is committed: each hears of it in a turn of its own.
#[derive(Debug, Clone)]
pub(super) struct Bell {
    number: u64,
    rope: watch::Sender<Position>,
    /// What it rings with.
    upto: watch::Receiver<Position>,
    /// Whether it is to ring.
    pulled: Arc<AtomicBool>,
}

impl Bell {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_heard(&self) -> bool {
        !self.rope.is_closed()
    }

    pub(super) fn ring(&self) {
        self.pulled.store(false, Ordering::Relaxed);
        let upto = *self.upto.borrow();
        self.rope.send_replace(upto);
    }
}

impl Around {
    /// Lets each doorbell ring that does not know yet, when its turn comes.
    fn pull(&self, upto: Position) {
        let mut bells = self.bells.lock();
        bells.retain(Bell::is_heard);
        for bell in &*bells {
            if *bell.rope.borrow() < upto && !bell.pulled.swap(true, Ordering::Relaxed) {
                self.world.ring(bell.clone());
            }
        }
    }

    /// Takes as long as the seed says.
    async fn slowly(&self, what: &'static str) {
        match self.world.slowness() {
            0 => {}
            millis => SystemClock.sleep(Duration::from_millis(millis)).await,
        }
        self.world.turn(what).await;
    }
}

impl SimStore {
    pub(super) fn around(inner: EmbeddedStore, world: Arc<World>) -> Self {
        let around = Around { world, bells: Mutex::default(), numbers: AtomicU64::new(0) };
        Self { inner: FailingStore::around(Arc::new(inner)), around: Arc::new(around) }
    }

    pub(super) async fn slowly(&self, what: &'static str) {
        self.around.slowly(what).await;
    }

    /// The store's turn to answer, which may meet an error at `step`.
    async fn turn(&self, what: &'static str, step: Step) {
        self.around.slowly(what).await;
        if self.around.world.has_error() {
            self.inner.fail_next(step, Fault::Error);
        }
    }
}

impl Store for SimStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn claim(&self) -> bool {
        self.inner.claim()
    }

    fn release(&self) {
        self.inner.release();
    }

    fn begin(&self) -> StoreFuture<'_, Box<dyn Unit>> {
        async {
            self.turn("begin", Step::Begin).await;
            let unit = SimUnit { unit: self.inner.begin().await?, store: self.clone() };
            Ok(Box::new(unit) as Box<dyn Unit>)
        }
        .boxed()
    }

    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError> {
        self.inner.reader()
    }

    fn delivered_up_to(&self) -> watch::Receiver<Position> {
        let upto = self.inner.delivered_up_to();
        let (rope, heard) = watch::channel(*upto.borrow());
        let number = self.around.numbers.fetch_add(1, Ordering::Relaxed);
        let mut bells = self.around.bells.lock();
        // Most look once and go.
        bells.retain(Bell::is_heard);
        bells.push(Bell { number, rope, upto, pulled: Arc::default() });
        heard
    }

    fn read_log(&self, from: Position, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>> {
        async move {
            self.turn("read the log", Step::ReadLog).await;
            self.inner.read_log(from, max_events, max_bytes).await
        }
        .boxed()
    }

    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>> {
        async move {
            self.turn("read an event", Step::ReadLog).await;
            self.inner.read_event(position).await
        }
        .boxed()
    }

    fn pruned_to(&self, logged: bool) -> Position {
        self.inner.pruned_to(logged)
    }

    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>> {
        async {
            self.turn("read cursors", Step::ReadProgress).await;
            self.inner.cursors().await
        }
        .boxed()
    }

    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>> {
        let listener = listener.to_owned();
        async move {
            self.turn("read redeliveries", Step::ReadProgress).await;
            self.inner.redeliveries(&listener).await
        }
        .boxed()
    }

    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>> {
        let listener = listener.map(str::to_owned);
        async move {
            self.turn("read the parked", Step::ReadProgress).await;
            self.inner.parked(listener.as_deref()).await
        }
        .boxed()
    }

    fn parked_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<Parked>> {
        let listener = listener.to_owned();
        async move {
            self.turn("read the parked", Step::ReadProgress).await;
            self.inner.parked_from(&listener, from, limit).await
        }
        .boxed()
    }

    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>> {
        async {
            self.turn("read listeners", Step::ReadProgress).await;
            self.inner.listener_records().await
        }
        .boxed()
    }

    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>> {
        let listener = listener.to_owned();
        async move {
            self.turn("read what was given up", Step::ReadProgress).await;
            self.inner.given_up_from(&listener, from, limit).await
        }
        .boxed()
    }

    fn upcoming(&self) -> watch::Receiver<Upcoming> {
        // One scheduler waits for it, so that there is no order to decide.
        self.inner.upcoming()
    }

    fn scheduled(&self, from: Due, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>> {
        async move {
            self.turn("read what is scheduled", Step::ReadScheduled).await;
            self.inner.scheduled(from, max_events, max_bytes).await
        }
        .boxed()
    }

    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>> {
        self.inner.suspects()
    }

    fn was_clean(&self) -> bool {
        self.inner.was_clean()
    }

    fn forget(&self, listener: &str) -> StoreFuture<'_, ()> {
        let listener = listener.to_owned();
        async move {
            self.turn("forget", Step::Forget).await;
            self.inner.forget(&listener).await
        }
        .boxed()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        async {
            self.slowly("close").await;
            self.inner.close().await
        }
        .boxed()
    }

    fn size(&self) -> Option<u64> {
        self.inner.size()
    }

    fn as_embedded(&self) -> Option<&EmbeddedStore> {
        self.inner.as_embedded()
    }

    fn poisoned(&self) -> Option<StoreError> {
        self.inner.poisoned()
    }
}

struct SimUnit {
    unit: Box<dyn Unit>,
    store: SimStore,
}

impl Unit for SimUnit {
    fn rows(&mut self) -> Result<&mut dyn Rows, StoreError> {
        self.unit.rows()
    }

    fn savepoint(&mut self) -> StoreFuture<'_, ()> {
        self.unit.savepoint()
    }

    fn roll_back_to_savepoint(&mut self) -> StoreFuture<'_, ()> {
        self.unit.roll_back_to_savepoint()
    }

    fn release_savepoint(&mut self) -> StoreFuture<'_, ()> {
        self.unit.release_savepoint()
    }

    fn validate(&mut self) -> BoxFuture<'_, Result<(), CommitError>> {
        async {
            self.store.slowly("validate").await;
            self.unit.validate().await
        }
        .boxed()
    }

    fn schedule(&mut self, envelope: Envelope) {
        self.unit.schedule(envelope);
    }

    fn unschedule(&mut self, event: Uuid) -> StoreFuture<'_, bool> {
        self.unit.unschedule(event)
    }

    fn remembered(&mut self, scope: &str, id: &[u8]) -> StoreFuture<'_, Option<Remembered>> {
        self.unit.remembered(scope, id)
    }

    fn remember(&mut self, one: Remembered) -> StoreFuture<'_, ()> {
        self.unit.remember(one)
    }

    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> StoreFuture<'_, usize> {
        self.unit.forget_expired(now, limit)
    }

    fn commit(self: Box<Self>, request: CommitRequest) -> BoxFuture<'static, Result<Receipt, CommitError>> {
        async move {
            let Self { unit, store } = *self;
            // From here on it does not depend on who waits for it.
            let committing = tokio::spawn(async move {
                store.slowly("commit").await;
                if let Some(fault) = store.around.world.fault_of_commit() {
                    store.inner.fail_next(Step::Commit, fault);
                }
                let answer = unit.commit(request).await;
                let upto = *store.inner.delivered_up_to().borrow();
                store.around.pull(upto);
                store.slowly("answer").await;
                answer
            });
            committing.await.unwrap_or_else(|gone| {
                Err(CommitError::InDoubt(StoreError::backend("learn what became of a simulated commit", gone)))
            })
        }
        .boxed()
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.unit.roll_back()
    }

    fn weight(&self) -> usize {
        self.unit.weight()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self.unit.as_any()
    }
}
