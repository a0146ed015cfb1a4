//! A store that fails where told.
//!
//! [`FailingStore`] wraps any store and passes every step on, until the step it was told to fail comes up. A test first lets
//! its work run and looks at [`steps`](FailingStore::steps), then runs it again for every step there is, with that one failing:
//!
//! ```
//! use std::sync::Arc;
//! use aftercommit::prelude::*;
//! use aftercommit::testing::{FailingStore, Fault, Step};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const NOTES: Table<u32, String> = Table::new("notes");
//!
//! let store = FailingStore::around(Arc::new(MemoryStore::new()));
//! let bus = Bus::builder().store(store.clone()).start().await?;
//! let note = async |tx: &mut Tx| NOTES.put(tx, &1, &"milk".to_owned());
//!
//! store.fail_next(Step::Commit, Fault::Error);
//! assert!(bus.transaction(note).await.is_err());
//! assert_eq!(NOTES.get(&mut bus.reader()?, &1)?, None);
//!
//! store.clear_steps();
//! bus.transaction(note).await?;
//! assert_eq!(store.steps(), [Step::Begin, Step::Write, Step::Commit]);
//! # Ok(())
//! # }
//! ```
//!
//! What a failing step comes to:
//!
//! | step | fault | the store | the caller of the unit of work |
//! |---|---|---|---|
//! | any but a commit | [`Fault::Error`] | the step did not happen | the storage error; the unit rolls back |
//! | `Validate`, `Commit` | [`Fault::Conflict`] | nothing is stored | a conflict, which may be tried again |
//! | `Commit` | [`Fault::Error`] | nothing is stored | the storage error; the unit has rolled back |
//! | `Commit` | [`Fault::InDoubt`] | stored or not, as told; poisoned from then on | in doubt |
//! | `RollBack` | [`Fault::Error`] | nothing is stored | what it would have got anyway; the observer is told |
//!
//! A fault that a step cannot have is taken for [`Fault::Error`]. The wrapper keeps nothing of its own: what was stored is in
//! the store inside, to be opened anew.

use std::any::Any;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, watch};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{Error, StoreError, UnitError};
use crate::event::Envelope;
use crate::store::{
    CommitError, CommitRequest, Cursor, Direction, Due, GivenUp, KeyRange, ListenerRecord, LogEvent, Parked, Position,
    ReadRows, Receipt, Redelivery, Remembered, Row, Rows, Scheduled, Settlement, Store, StoreFuture, Suspect,
    TableSpec, Unit, Upcoming,
};

/// A step of a store that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// A unit of work begins.
    Begin,
    /// Rows are read, within a unit of work or outside.
    Read,
    /// A row is written, removed or added to.
    Write,
    /// A savepoint is set.
    Savepoint,
    /// A savepoint is kept.
    Release,
    /// A savepoint is undone.
    Undo,
    /// What was read is checked.
    Validate,
    /// A unit of work is committed.
    Commit,
    /// A unit of work is rolled back.
    RollBack,
    /// Events are read from the log.
    ReadLog,
    /// What is kept for durable listeners is read.
    ReadProgress,
    /// Scheduled events are read.
    ReadScheduled,
    /// A durable listener is forgotten.
    Forget,
    /// The store is closed.
    Close,
}

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// With [`StoreError::Backend`]; the step did not happen.
    Error,
    /// Refused as a conflict with another unit of work.
    Conflict,
    /// A commit without an answer; the store is poisoned from then on.
    InDoubt {
        /// Whether it was stored all the same.
        stored: bool,
    },
}

/// A store that fails where told. Clones share one plan.
#[derive(Clone)]
pub struct FailingStore {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan(Mutex<State>, Arc<RwLock<()>>);

/// Commits of a [`FailingStore`] wait until this is dropped.
#[must_use = "commits go on once it is dropped"]
pub struct Stalled(#[expect(dead_code)] OwnedRwLockWriteGuard<()>);

#[derive(Default)]
struct State {
    steps: Vec<Step>,
    faults: Vec<(When, Fault)>,
    fired: usize,
    settled: Vec<Vec<Settlement>>,
    poisoned: Option<StoreError>,
}

#[derive(Clone, Copy)]
enum When {
    /// At this many steps.
    At(usize),
    /// At the next step of this kind.
    Next(Step),
    /// At every step of this kind.
    Every(Step),
}

impl FailingStore {
    /// Wraps `inner`; nothing fails yet.
    pub fn around(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Lets the step that comes after `steps` more of any kind fail once: 0 for the very next.
    pub fn fail_after(&self, steps: usize, fault: Fault) {
        let mut state = self.plan.0.lock();
        let at = state.steps.len() + steps;
        state.faults.push((When::At(at), fault));
    }

    /// Lets the next step of this kind fail once.
    pub fn fail_next(&self, step: Step, fault: Fault) {
        self.plan.0.lock().faults.push((When::Next(step), fault));
    }

    /// Lets every step of this kind fail, until [`heal`](Self::heal).
    pub fn fail_every(&self, step: Step, fault: Fault) {
        self.plan.0.lock().faults.push((When::Every(step), fault));
    }

    /// Lets every commit wait that is handed over from now on, once those before have been answered.
    pub async fn stall_commits(&self) -> Stalled {
        Stalled(self.plan.1.clone().write_owned().await)
    }

    /// Nothing fails any more. A store that is poisoned stays so.
    pub fn heal(&self) {
        self.plan.0.lock().faults.clear();
    }

    /// The steps taken since the start or [`clear_steps`](Self::clear_steps), those that failed included.
    pub fn steps(&self) -> Vec<Step> {
        self.plan.0.lock().steps.clone()
    }

    /// Forgets the steps taken so far, and the faults that were to come after a number of steps.
    pub fn clear_steps(&self) {
        let mut state = self.plan.0.lock();
        state.steps.clear();
        state.faults.retain(|(when, _)| !matches!(when, When::At(_)));
    }

    /// What each commit that was answered has settled, in the order of the answers; commits that settled nothing are left out.
    pub fn settlements(&self) -> Vec<Vec<Settlement>> {
        self.plan.0.lock().settled.clone()
    }

    /// How many steps have failed because they were told to.
    pub fn fired(&self) -> usize {
        self.plan.0.lock().fired
    }
}

impl std::fmt::Debug for FailingStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FailingStore").field("inner", &self.inner.kind()).finish_non_exhaustive()
    }
}

/// What an injected storage error says.
#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct Told;

impl Plan {
    /// Counts a step, and answers the fault it meets.
    fn take(&self, step: Step) -> Result<Option<Fault>, StoreError> {
        let mut state = self.0.lock();
        if let Some(cause) = &state.poisoned {
            return Err(StoreError::Poisoned { cause: Arc::new(cause.clone()) });
        }
        let now = state.steps.len();
        state.steps.push(step);
        let due = state.faults.iter().position(|(when, _)| match when {
            When::At(at) => *at == now,
            When::Next(kind) | When::Every(kind) => *kind == step,
        });
        let Some(due) = due else { return Ok(None) };
        state.fired += 1;
        let (when, fault) = state.faults[due];
        if !matches!(when, When::Every(_)) {
            state.faults.remove(due);
        }
        Ok(Some(fault))
    }

    fn pass(&self, step: Step) -> Result<(), StoreError> {
        match self.take(step)? {
            Some(_) => Err(told(step)),
            None => Ok(()),
        }
    }

    fn poison(&self) -> StoreError {
        let cause = told(Step::Commit);
        self.0.lock().poisoned = Some(cause.clone());
        cause
    }
}

fn told(step: Step) -> StoreError {
    StoreError::backend(
        match step {
            Step::Begin => "begin a unit of work",
            Step::Read => "read a row",
            Step::Write => "write a row",
            Step::Savepoint => "set a savepoint",
            Step::Release => "keep a savepoint",
            Step::Undo => "undo a savepoint",
            Step::Validate => "check what was read",
            Step::Commit => "commit",
            Step::RollBack => "roll back",
            Step::ReadLog => "read the log",
            Step::ReadProgress => "read what is kept for durable listeners",
            Step::ReadScheduled => "read scheduled events",
            Step::Forget => "forget a durable listener",
            Step::Close => "close the store",
        },
        Told,
    )
}

fn conflict() -> Error {
    UnitError::Conflict { what: "it was told to".to_owned() }.into()
}

impl Store for FailingStore {
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
            self.plan.pass(Step::Begin)?;
            let inner = self.inner.begin().await?;
            Ok(Box::new(FailingUnit { inner, plan: self.plan.clone() }) as Box<dyn Unit>)
        }
        .boxed()
    }

    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError> {
        Ok(Box::new(FailingReader { inner: self.inner.reader()?, plan: self.plan.clone() }))
    }

    fn delivered_up_to(&self) -> watch::Receiver<Position> {
        self.inner.delivered_up_to()
    }

    fn read_log(&self, from: Position, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>> {
        async move {
            self.plan.pass(Step::ReadLog)?;
            self.inner.read_log(from, max_events, max_bytes).await
        }
        .boxed()
    }

    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>> {
        async move {
            self.plan.pass(Step::ReadLog)?;
            self.inner.read_event(position).await
        }
        .boxed()
    }

    fn pruned_to(&self, logged: bool) -> Position {
        self.inner.pruned_to(logged)
    }

    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>> {
        async {
            self.plan.pass(Step::ReadProgress)?;
            self.inner.cursors().await
        }
        .boxed()
    }

    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>> {
        let passed = self.plan.pass(Step::ReadProgress);
        let read = self.inner.redeliveries(listener);
        async move {
            passed?;
            read.await
        }
        .boxed()
    }

    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>> {
        let passed = self.plan.pass(Step::ReadProgress);
        let read = self.inner.parked(listener);
        async move {
            passed?;
            read.await
        }
        .boxed()
    }

    fn parked_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<Parked>> {
        let passed = self.plan.pass(Step::ReadProgress);
        let read = self.inner.parked_from(listener, from, limit);
        async move {
            passed?;
            read.await
        }
        .boxed()
    }

    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>> {
        async {
            self.plan.pass(Step::ReadProgress)?;
            self.inner.listener_records().await
        }
        .boxed()
    }

    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>> {
        let passed = self.plan.pass(Step::ReadProgress);
        let read = self.inner.given_up_from(listener, from, limit);
        async move {
            passed?;
            read.await
        }
        .boxed()
    }

    fn upcoming(&self) -> watch::Receiver<Upcoming> {
        self.inner.upcoming()
    }

    fn scheduled(&self, from: Due, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>> {
        async move {
            self.plan.pass(Step::ReadScheduled)?;
            self.inner.scheduled(from, max_events, max_bytes).await
        }
        .boxed()
    }

    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>> {
        async {
            self.plan.pass(Step::ReadProgress)?;
            self.inner.suspects().await
        }
        .boxed()
    }

    fn was_clean(&self) -> bool {
        self.inner.was_clean()
    }

    fn forget(&self, listener: &str) -> StoreFuture<'_, ()> {
        let passed = self.plan.pass(Step::Forget);
        let forgotten = self.inner.forget(listener);
        async move {
            passed?;
            forgotten.await
        }
        .boxed()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        async {
            self.plan.pass(Step::Close)?;
            self.inner.close().await
        }
        .boxed()
    }

    fn size(&self) -> Option<u64> {
        self.inner.size()
    }

    fn as_embedded(&self) -> Option<&crate::store::embedded::EmbeddedStore> {
        self.inner.as_embedded()
    }

    fn poisoned(&self) -> Option<StoreError> {
        self.plan.0.lock().poisoned.clone().or_else(|| self.inner.poisoned())
    }
}

struct FailingUnit {
    inner: Box<dyn Unit>,
    plan: Arc<Plan>,
}

impl ReadRows for FailingUnit {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.plan.pass(Step::Read)?;
        self.inner.rows()?.get(table, key)
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.plan.pass(Step::Read)?;
        self.inner.rows()?.scan(table, range, direction, limit)
    }
}

impl Rows for FailingUnit {
    fn put(&mut self, table: &TableSpec, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.plan.pass(Step::Write)?;
        self.inner.rows()?.put(table, key, value)
    }

    fn remove(&mut self, table: &TableSpec, key: Vec<u8>) -> Result<(), StoreError> {
        self.plan.pass(Step::Write)?;
        self.inner.rows()?.remove(table, key)
    }

    fn add(&mut self, table: &TableSpec, key: Vec<u8>, delta: i64, floor: Option<i64>) -> Result<(), StoreError> {
        self.plan.pass(Step::Write)?;
        self.inner.rows()?.add(table, key, delta, floor)
    }
}

impl Unit for FailingUnit {
    fn rows(&mut self) -> Result<&mut dyn Rows, StoreError> {
        // Where the store inside has none, neither has this one.
        self.inner.rows()?;
        Ok(self)
    }

    fn savepoint(&mut self) -> StoreFuture<'_, ()> {
        async {
            self.plan.pass(Step::Savepoint)?;
            self.inner.savepoint().await
        }
        .boxed()
    }

    fn roll_back_to_savepoint(&mut self) -> StoreFuture<'_, ()> {
        async {
            self.plan.pass(Step::Undo)?;
            self.inner.roll_back_to_savepoint().await
        }
        .boxed()
    }

    fn release_savepoint(&mut self) -> StoreFuture<'_, ()> {
        async {
            self.plan.pass(Step::Release)?;
            self.inner.release_savepoint().await
        }
        .boxed()
    }

    fn validate(&mut self) -> BoxFuture<'_, Result<(), CommitError>> {
        async {
            match self.plan.take(Step::Validate)? {
                Some(Fault::Conflict) => Err(conflict().into()),
                Some(_) => Err(told(Step::Validate).into()),
                None => self.inner.validate().await,
            }
        }
        .boxed()
    }

    fn schedule(&mut self, envelope: Envelope) {
        self.inner.schedule(envelope);
    }

    fn unschedule(&mut self, event: Uuid) -> StoreFuture<'_, bool> {
        async move {
            self.plan.pass(Step::Read)?;
            self.inner.unschedule(event).await
        }
        .boxed()
    }

    fn remembered(&mut self, scope: &str, id: &[u8]) -> StoreFuture<'_, Option<Remembered>> {
        let passed = self.plan.pass(Step::Read);
        let read = self.inner.remembered(scope, id);
        async move {
            passed?;
            read.await
        }
        .boxed()
    }

    fn remember(&mut self, one: Remembered) -> StoreFuture<'_, ()> {
        async move {
            self.plan.pass(Step::Write)?;
            self.inner.remember(one).await
        }
        .boxed()
    }

    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> StoreFuture<'_, usize> {
        async move {
            self.plan.pass(Step::Write)?;
            self.inner.forget_expired(now, limit).await
        }
        .boxed()
    }

    fn commit(self: Box<Self>, request: CommitRequest) -> BoxFuture<'static, Result<Receipt, CommitError>> {
        async move {
            let Self { inner, plan } = *self;
            let fault = plan.take(Step::Commit)?;
            let _passed = plan.1.read().await;
            match fault {
                None => {
                    let settlements = request.settlements.clone();
                    let answer = inner.commit(request).await;
                    if answer.is_ok() && !settlements.is_empty() {
                        plan.0.lock().settled.push(settlements);
                    }
                    answer
                }
                Some(Fault::Error) => Err(told(Step::Commit).into()),
                Some(Fault::Conflict) => Err(conflict().into()),
                Some(Fault::InDoubt { stored }) => {
                    let cause = plan.poison();
                    if stored {
                        // A refusal is an answer, which is what the caller does not get.
                        let _ = inner.commit(request).await;
                    }
                    Err(CommitError::InDoubt(cause))
                }
            }
        }
        .boxed()
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        async move {
            self.plan.pass(Step::RollBack)?;
            self.inner.roll_back().await
        }
        .boxed()
    }

    fn weight(&self) -> usize {
        self.inner.weight()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self.inner.as_any()
    }
}

struct FailingReader {
    inner: Box<dyn ReadRows>,
    plan: Arc<Plan>,
}

impl ReadRows for FailingReader {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.plan.pass(Step::Read)?;
        self.inner.get(table, key)
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.plan.pass(Step::Read)?;
        self.inner.scan(table, range, direction, limit)
    }
}
