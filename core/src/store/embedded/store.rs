//! The store port over any engine.

mod operate;
mod retain;

pub use retain::Expired;

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Limits;
use super::catalogue::Catalogue;
use super::commit::{Answer, CommitCore, Request};
use super::committer::{self, Queue};
use super::engine::{Batch, Engine};
use super::layout::{
    CLEAN, CURSOR, GIVEN_UP, LISTENER, MOVED, PARKED, REDELIVERY, SUSPECT, TABLE, all_of, damaged, deliveries_of,
    delivery_key, frame, name_of,
};
use super::progress::{decode_cursor, decode_suspect};
use super::shared::Shared;
use super::unit::{CommittedRows, EmbeddedUnit};
use super::{log, record, waiting};
use crate::error::StoreError;
use crate::store::{
    Cursor, Direction, Due, Durability, GivenUp, ListenerRecord, LogEvent, LogPage, Parked, Position, ReadRows,
    Redelivery, Scheduled, Store, StoreFuture, Suspect, Unit, Upcoming,
};

/// A store over an [`Engine`]. Cheap to clone; the clones are one store.
///
/// Dropped without [`close`](Store::close) it still commits what is queued, but is not marked as closed in good order.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

struct Inner {
    claimed: AtomicBool,
    /// Whether a bus ever had it: only a bus leaves something that may have been in the midst of it.
    was_claimed: AtomicBool,
    kind: &'static str,
    shared: Arc<Shared>,
    hand: Hand,
    was_clean: bool,
    suspects: Vec<Suspect>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Hand::Thread(queue) = &self.hand {
            queue.end();
        }
    }
}

/// Who commits: the caller in turn, or a thread of its own.
#[derive(Clone)]
pub(super) enum Hand {
    Inline(Arc<Mutex<CommitCore>>),
    Thread(Arc<Queue>),
    /// Nobody: the store is only looked at.
    Nobody,
}

/// The error for whoever would change a store that is only looked at.
pub(super) fn only_looked_at() -> StoreError {
    StoreError::Unsupported { action: "change what is stored", store: "one that is only looked at" }
}

impl Hand {
    pub(super) async fn commit(self, request: Request) -> Answer {
        match self {
            Hand::Inline(core) => core.lock().commit(request),
            Hand::Thread(queue) => queue.commit(request).await,
            Hand::Nobody => Err(only_looked_at().into()),
        }
    }
}

impl EmbeddedStore {
    /// Prepares an empty engine to be opened as a store.
    ///
    /// # Errors
    /// The engine's.
    pub fn create(engine: &dyn Engine) -> Result<(), StoreError> {
        engine.apply(Batch::from([(CLEAN.to_vec(), Some(frame(CLEAN, &[1])))]))?;
        engine.sync(Durability::Sync)
    }

    /// Opens a store that commits in the caller's own turn: for engines that neither wait nor sync.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`].
    pub fn inline(engine: Arc<dyn Engine>, limits: Limits) -> Result<Self, StoreError> {
        Self::open(engine, limits, |core, _| Ok(Hand::Inline(Arc::new(Mutex::new(core)))))
    }

    /// Opens a store with a thread of its own that commits whole groups.
    ///
    /// # Errors
    /// The engine's, [`StoreError::Damaged`], and a thread that cannot be started.
    pub fn threaded(engine: Arc<dyn Engine>, limits: Limits) -> Result<Self, StoreError> {
        Self::open(engine, limits, |core, shared| committer::start(core, shared).map(Hand::Thread))
    }

    fn open(
        engine: Arc<dyn Engine>,
        limits: Limits,
        hand: impl FnOnce(CommitCore, Arc<Shared>) -> Result<Hand, StoreError>,
    ) -> Result<Self, StoreError> {
        let kind = engine.kind();
        let mut shared = Shared::new(engine, limits);
        let was_clean = match shared.get(CLEAN)?.as_deref() {
            Some([clean]) => *clean == 1,
            Some(_) => return Err(damaged(CLEAN, "it is no mark")),
            // Written at creation and never removed: an engine without it has lost what it held.
            None => return Err(damaged(CLEAN, "it is missing, and everything else may be too")),
        };
        if let Some(to) = shared.get(MOVED)? {
            return Err(StoreError::Moved { to: String::from_utf8_lossy(&to).into_owned() });
        }
        shared.catalogue = Catalogue::load(shared.scan_raw(&all_of(TABLE), Direction::Forward, usize::MAX)?)?;
        let suspects = shared
            .scan(&all_of(SUSPECT), Direction::Forward, usize::MAX)?
            .into_iter()
            .map(|(key, body)| decode_suspect(&key, &body))
            .collect::<Result<_, _>>()?;
        let shared = Arc::new(shared);
        let mut core = CommitCore::load(shared.clone())?;
        core.mark(false)?;
        core.ring(core.last_position());
        let hand = hand(core, shared.clone())?;
        Ok(Self::new(kind, shared, hand, was_clean, suspects))
    }

    fn new(kind: &'static str, shared: Arc<Shared>, hand: Hand, was_clean: bool, suspects: Vec<Suspect>) -> Self {
        let (claimed, was_claimed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { claimed, was_claimed, kind, shared, hand, was_clean, suspects }) }
    }

    /// Ends the store as a crash would: nothing more is committed, nothing is marked.
    pub(crate) fn abandon(&self) {
        if let Hand::Inline(core) = &self.inner.hand {
            // After whoever commits just now.
            let _turn = core.lock();
            self.inner.shared.give_up();
        } else {
            self.inner.shared.give_up();
        }
    }
}

/// A store that is an [`EmbeddedStore`] over an engine of its own.
pub trait Embedded: Send + Sync + 'static {
    /// The store it is.
    fn embedded(&self) -> &EmbeddedStore;
}

impl Embedded for EmbeddedStore {
    fn embedded(&self) -> &EmbeddedStore {
        self
    }
}

impl<T: Embedded> Store for T {
    fn kind(&self) -> &'static str {
        let inner = &self.embedded().inner;
        // It may have moved.
        inner.shared.engine().map_or(inner.kind, |engine| engine.kind())
    }

    fn claim(&self) -> bool {
        let inner = &self.embedded().inner;
        inner.was_claimed.store(true, SeqCst);
        !inner.claimed.swap(true, SeqCst)
    }

    fn release(&self) {
        self.embedded().inner.claimed.store(false, SeqCst);
    }

    fn begin(&self) -> StoreFuture<'_, Box<dyn Unit>> {
        let inner = &self.embedded().inner;
        async {
            inner.shared.engine()?;
            Ok(Box::new(EmbeddedUnit::new(inner.shared.clone(), inner.hand.clone())) as Box<dyn Unit>)
        }
        .boxed()
    }

    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError> {
        let shared = &self.embedded().inner.shared;
        shared.engine()?;
        Ok(Box::new(CommittedRows::new(shared.clone())))
    }

    fn delivered_up_to(&self) -> watch::Receiver<Position> {
        self.embedded().inner.shared.delivered.subscribe()
    }

    fn read_log(&self, from: Position, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>> {
        let shared = &self.embedded().inner.shared;
        async move {
            let upto = *shared.delivered.borrow();
            log::read(shared, from, upto, max_events, max_bytes)
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
        let shared = &self.embedded().inner.shared;
        async move {
            let upto = *shared.delivered.borrow();
            log::read_of(shared, Some(names), from, upto, max_events, max_bytes)
        }
        .boxed()
    }

    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>> {
        let shared = &self.embedded().inner.shared;
        async move {
            let upto = *shared.delivered.borrow();
            if position > upto { Ok(None) } else { log::read_one(shared, position) }
        }
        .boxed()
    }

    fn pruned_to(&self, logged: bool) -> Position {
        self.embedded().inner.shared.pruned.to(logged)
    }

    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>> {
        let shared = &self.embedded().inner.shared;
        async move {
            let rows = shared.scan(&all_of(CURSOR), Direction::Forward, usize::MAX)?;
            rows.into_iter().map(|(key, body)| decode_cursor(&key, &body)).collect()
        }
        .boxed()
    }

    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>> {
        let range = deliveries_of(REDELIVERY, listener);
        let shared = &self.embedded().inner.shared;
        async move {
            let rows = shared.scan(&range, Direction::Forward, usize::MAX)?;
            rows.into_iter().map(|(key, body)| record::decode_json(&key, &body)).collect()
        }
        .boxed()
    }

    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>> {
        let range = listener.map_or_else(|| all_of(PARKED), |listener| deliveries_of(PARKED, listener));
        let shared = &self.embedded().inner.shared;
        async move { parked(shared, &range) }.boxed()
    }

    fn parked_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<Parked>> {
        let range = delivery_key(PARKED, listener, from)..deliveries_of(PARKED, listener).end;
        let shared = &self.embedded().inner.shared;
        async move {
            let rows = shared.scan(&range, Direction::Forward, limit)?;
            rows.into_iter().map(|(key, body)| Ok(record::decode_parked(&key, &body)?.1)).collect()
        }
        .boxed()
    }

    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>> {
        let shared = &self.embedded().inner.shared;
        async move {
            let rows = shared.scan(&all_of(LISTENER), Direction::Forward, usize::MAX)?;
            rows.into_iter().map(|(key, body)| Ok((name_of(&key)?, record::decode_json(&key, &body)?))).collect()
        }
        .boxed()
    }

    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>> {
        let range = delivery_key(GIVEN_UP, listener, from)..deliveries_of(GIVEN_UP, listener).end;
        let shared = &self.embedded().inner.shared;
        async move {
            let rows = shared.scan(&range, Direction::Forward, limit)?;
            rows.into_iter().map(|(key, body)| record::decode_given_up(&key, &body)).collect()
        }
        .boxed()
    }

    fn upcoming(&self) -> watch::Receiver<Upcoming> {
        self.embedded().inner.shared.upcoming.subscribe()
    }

    fn scheduled(&self, from: Due, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>> {
        let shared = &self.embedded().inner.shared;
        async move { waiting::scheduled(shared, from, max_events, max_bytes) }.boxed()
    }

    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>> {
        let inner = &self.embedded().inner;
        async {
            inner.shared.engine()?;
            Ok(inner.suspects.clone())
        }
        .boxed()
    }

    fn was_clean(&self) -> bool {
        self.embedded().inner.was_clean
    }

    fn forget(&self, listener: &str) -> StoreFuture<'_, ()> {
        let listener = listener.to_owned();
        let hand = &self.embedded().inner.hand;
        async move {
            match hand {
                Hand::Inline(core) => core.lock().forget(&listener),
                Hand::Thread(queue) => queue.forget(&listener).await,
                Hand::Nobody => Err(only_looked_at()),
            }
        }
        .boxed()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        let Inner { shared, hand, was_clean, was_claimed, .. } = self.embedded().inner.deref();
        async move {
            // Without a bus nothing was taken up that an earlier end has left.
            let is_clean = *was_clean || was_claimed.load(SeqCst);
            match hand {
                Hand::Inline(core) => {
                    let closed = core.lock().mark(is_clean);
                    shared.give_up();
                    closed
                }
                Hand::Thread(queue) => queue.close(is_clean).await,
                Hand::Nobody => {
                    shared.give_up();
                    Ok(())
                }
            }
        }
        .boxed()
    }

    fn size(&self) -> Option<u64> {
        self.embedded().inner.shared.engine().ok()?.size()
    }

    fn as_embedded(&self) -> Option<&EmbeddedStore> {
        Some(self.embedded())
    }

    fn poisoned(&self) -> Option<StoreError> {
        self.embedded().inner.shared.poisoned()
    }
}

/// The parked events of `range`, by listener, then in the order they were parked.
fn parked(shared: &Shared, range: &Range<Vec<u8>>) -> Result<Vec<Parked>, StoreError> {
    let rows = shared.scan(range, Direction::Forward, usize::MAX)?;
    let decoded = rows.into_iter().map(|(key, body)| record::decode_parked(&key, &body));
    let mut parked = decoded.collect::<Result<Vec<_>, _>>()?;
    parked.sort_by(|(left_order, left), (right_order, right)| {
        (&left.listener, left_order).cmp(&(&right.listener, right_order))
    });
    Ok(parked.into_iter().map(|(_, parked)| parked).collect())
}
