//! The unit of work: what it gathers, how it commits, how it rolls back.
//!
//! A [`Tx`] gathers rows (in its store's unit), events, hooks and locks. At the end it drains the before-commit round,
//! hands everything to the store in one request, releases its locks once the outcome is durable, and runs the after-phases.
//!
//! It knows nothing of listeners or the bus: it calls `Steps` that others enlisted, in the order they declared.
//! Its verbs `publish` and `lock` are added by [`bus`](crate::bus), its tables by [`table`].

mod ending;
pub(crate) mod phase;
mod run;
mod scope;
pub(crate) mod step;
mod synchronization;

pub(crate) use ending::settle;
pub use phase::{Order, Outcome, Phase};
pub use run::Committed;
pub(crate) use run::{Failed, run};
pub use step::{Answered, CallFuture, Descent, Reply, SLOT};

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use crate::activity::{Activity, Busy};
use crate::clock::{Chance, Clock};
use crate::error::{BoxError, Error, PublishError, StoreError, UnitError};
use crate::event::{Envelope, Origin};
use crate::lock::Owner;
use crate::observe::{Subject, UNIT, Watch, Watchdog, Watched};
use crate::store::{Durability, ReadRows, Rows, Settlement, Unit};
use crate::table;
use step::{Spawned, Steps};
use synchronization::Synchronizations;
pub(crate) use synchronization::{Enlisted, Run};

/// What units of work need of the place they run in.
pub(crate) struct Surroundings {
    pub(crate) runtime: Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<Chance>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) watchdog: Arc<Watchdog>,
    /// When a unit of work is slow.
    pub(crate) slow_after: Option<Duration>,
    pub(crate) limits: Limits,
    /// Everything runs on the thread of the runtime, also what would go to the blocking pool: runs that must repeat ask for it.
    pub(crate) one_thread: bool,
}

impl Surroundings {
    /// Runs `work` on the blocking pool.
    pub(crate) async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self.one_thread {
            true => self.runtime.spawn(async { work() }).await,
            false => self.runtime.spawn_blocking(work).await,
        }
    }
}

/// What one unit of work may hold in memory. What a store commits at once is a limit of its own:
/// the embedded ones take 512 KiB or more, each row or counter counted as at least 1 KiB ([`UnitError::TooManyWrites`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of rows and events in memory; 64 MiB by default.
    pub unit_bytes: usize,
    /// Bytes of one stored event; 4 MiB by default.
    pub event_bytes: usize,
    /// Rounds of before-commit listeners, and of replies to replies; 32 by default.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unit_bytes: 64 << 20, event_bytes: 4 << 20, depth: 32 }
    }
}

/// A unit of work in progress. Everything done through it is stored together, or not at all.
///
/// It is lent to the closure of `bus.transaction` and to listeners that run inside the unit; it cannot be kept, cloned or
/// sent to another task, and once the unit has ended there is none, so that nothing can be written to a finished one.
///
/// ```
/// use aftercommit::prelude::*;
///
/// const SEATS: Table<u32, String> = Table::new("hall.seats");
///
/// async fn book(bus: &Bus, seat: u32, name: &str) -> Result<(), Error> {
///     bus.transaction(async |tx| {
///         tx.lock(seat).await?; // one at a time, until the outcome is durable
///         if SEATS.contains(tx, &seat)? {
///             tx.set_rollback_only("the seat is taken");
///         }
///         SEATS.put(tx, &seat, &name.to_owned())?;
///         tx.after_completion(0, move |outcome| {
///             println!("seat {seat}: {outcome:?}");
///             Ok(())
///         });
///         Ok::<_, Error>(())
///     })
///     .await?;
///     Ok(())
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bus = Bus::builder().start().await?;
/// # book(&bus, 7, "Ada").await?;
/// # assert!(book(&bus, 7, "Grace").await.is_err());
/// # assert_eq!(SEATS.get(&mut bus.reader()?, &7)?.as_deref(), Some("Ada"));
/// # Ok(())
/// # }
/// ```
pub struct Tx {
    pub(crate) host: Arc<dyn Any + Send + Sync>,
    pub(crate) around: Arc<Surroundings>,
    unit: Option<Box<dyn Unit>>,
    synchronizations: Synchronizations,
    events: Vec<Envelope>,
    event_bytes: usize,
    settlements: Vec<Settlement>,
    durability: Durability,
    /// Why the unit can only roll back, and how deep in savepoints that was found.
    doomed: Option<Doom>,
    savepoints: usize,
    /// Keyed locks and whatever else must outlive the commit. Released in the order they were taken.
    held: Vec<Box<dyn Any + Send>>,
    name: Option<Arc<str>>,
    /// Made with the first lock.
    owner: Option<Owner>,
    origin: Option<Origin>,
    /// How many replies to replies led to this unit.
    depth: usize,
    /// The event whose listener is running; what it publishes descends from it.
    handling: Option<Arc<dyn Steps>>,
    /// The names of the events being published right now, each inside a listener of the one before it.
    publishing: Vec<&'static str>,
    /// Immediate listeners in the background.
    spawned: Vec<Spawned>,
    _watched: Option<Watched>,
    _busy: Busy,
}

struct Doom {
    reason: String,
    savepoints: usize,
}

impl Tx {
    pub(crate) fn begin(
        unit: Box<dyn Unit>,
        host: Arc<dyn Any + Send + Sync>,
        around: Arc<Surroundings>,
        durability: Durability,
        origin: Option<Origin>,
    ) -> Self {
        let busy = around.activity.begin();
        let unit_of_work = || Subject { who: Arc::from(UNIT), event: None };
        let watched = around.slow_after.map(|slow_after| around.watchdog.begin(unit_of_work(), slow_after));
        Self {
            host,
            around,
            unit: Some(unit),
            synchronizations: Synchronizations::default(),
            events: Vec::new(),
            event_bytes: 0,
            settlements: Vec::new(),
            durability,
            doomed: None,
            savepoints: 0,
            held: Vec::new(),
            name: None,
            owner: None,
            origin,
            depth: 0,
            handling: None,
            publishing: Vec::new(),
            spawned: Vec::new(),
            _watched: watched,
            _busy: busy,
        }
    }

    /// What this unit's commit must survive before it is answered; the bus's default unless said here.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    /// How this unit is called where its locks are shown; `unit of work` unless said before it takes the first of them.
    /// Deliveries are called as their durable listener.
    pub fn set_name(&mut self, name: impl Into<Arc<str>>) {
        self.name = Some(name.into());
    }

    /// Lets the unit of work end in a rollback, whatever its closure answers.
    ///
    /// The caller of the unit gets [`UnitError::RollbackOnly`] with `reason`, if the closure answers `Ok`.
    pub fn set_rollback_only(&mut self, reason: impl Into<String>) {
        if self.doomed.is_none() {
            self.doomed = Some(Doom { reason: reason.into(), savepoints: self.savepoints });
        }
    }

    /// Why the unit can only roll back, if so.
    pub fn rollback_only(&self) -> Option<&str> {
        self.doomed.as_ref().map(|doom| doom.reason.as_str())
    }

    /// The store's own unit of work, for what only one store can do.
    pub fn store_unit(&mut self) -> &mut dyn Any {
        match &mut self.unit {
            Some(unit) => unit.as_any(),
            // Only the ending takes the unit out, and it has the whole `Tx` by value.
            None => unreachable!("a unit of work that has ended was lent out"),
        }
    }

    /// Runs `hook` before the commit, among the before-commit listeners.
    ///
    /// # Order
    /// By ascending `order`, then by time of enlisting. Enlisted from within a before-commit hook or listener it joins the next round.
    ///
    /// # Errors
    /// An error of the hook rolls the unit back and reaches its caller.
    pub fn before_commit(
        &mut self,
        order: impl Into<Order>,
        hook: impl FnOnce(&mut Tx) -> Result<(), BoxError> + Send + 'static,
    ) {
        self.synchronizations.enlist_before(order.into(), Box::new(hook));
    }

    /// Runs `hook` once the commit stands, among the after-commit listeners.
    ///
    /// # Errors
    /// The data is committed, so an error changes nothing: it is counted and comes back in [`Committed::after_errors`].
    ///
    /// # Cancel safety
    /// Runs even if the caller's future is dropped once the commit was handed over.
    pub fn after_commit(
        &mut self,
        order: impl Into<Order>,
        hook: impl FnOnce() -> Result<(), BoxError> + Send + 'static,
    ) {
        self.enlist_after(Phase::AfterCommit, order.into(), move |_| hook());
    }

    /// Awaits `future` once the commit stands, as [`after_commit`](Self::after_commit) runs a closure. Dropped unpolled on a rollback.
    pub fn after_commit_async(
        &mut self,
        order: impl Into<Order>,
        future: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) {
        self.synchronizations.enlist_after(Phase::AfterCommit, order.into(), Box::new(|_| future.boxed()));
    }

    /// Runs `hook` once the unit has rolled back, or once it has ended if a savepoint undid what enlisted it.
    ///
    /// # Errors
    /// An error changes nothing; it is counted and told to the observer.
    pub fn after_rollback(
        &mut self,
        order: impl Into<Order>,
        hook: impl FnOnce() -> Result<(), BoxError> + Send + 'static,
    ) {
        self.enlist_after(Phase::AfterRollback, order.into(), move |_| hook());
    }

    /// Runs `hook` with the outcome once the unit has ended, however it ended; after all other phases.
    ///
    /// # Errors
    /// As for [`after_commit`](Self::after_commit).
    pub fn after_completion(
        &mut self,
        order: impl Into<Order>,
        hook: impl FnOnce(Outcome) -> Result<(), BoxError> + Send + 'static,
    ) {
        self.enlist_after(Phase::AfterCompletion, order.into(), hook);
    }

    /// Runs `hook` once the commit stands, before the locks are released and before anything else: for what in memory follows what is
    /// stored. It neither waits nor fails, so that deliveries which enlist it share a commit as those do that only write.
    #[cfg(feature = "ranking")]
    pub(crate) fn once_committed(&mut self, hook: impl FnOnce() + Send + 'static) {
        let hook = Box::new(move |_| {
            hook();
            std::future::ready(Ok(())).boxed()
        });
        self.synchronizations.enlist_at_commit(hook);
    }

    fn enlist_after(
        &mut self,
        phase: Phase,
        order: Order,
        hook: impl FnOnce(Outcome) -> Result<(), BoxError> + Send + 'static,
    ) {
        let hook = Box::new(move |outcome| async move { hook(outcome) }.boxed());
        self.synchronizations.enlist_after(phase, order, hook);
    }

    /// What an event published now descends from.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.handling.as_ref().map(|steps| steps.origin()).or(self.origin)
    }

    /// What is published from now on descends from this.
    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// Whether it has done nothing so far but read, write and append to the log: nobody waits for its end, which its durability is for.
    pub(crate) fn only_writes(&self, durability: Durability) -> bool {
        self.synchronizations.is_empty()
            && self.held.is_empty()
            && self.spawned.is_empty()
            && self.doomed.is_none()
            && self.durability == durability
    }

    /// How many replies to replies led to this unit.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// This unit publishes a reply that is so deep.
    pub(crate) fn set_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    /// Remembers a published event and enlists its listeners.
    pub(crate) fn enlist(&mut self, steps: Arc<dyn Steps>, listeners: impl IntoIterator<Item = Enlisted>) {
        let event = self.synchronizations.publish(steps);
        for enlisted in listeners {
            self.synchronizations.enlist(event, enlisted);
        }
    }

    /// Appends an event to what the commit stores.
    pub(crate) fn append(&mut self, envelope: Envelope) -> Result<(), Error> {
        let weight = envelope.weight();
        self.check_weight(weight)?;
        self.event_bytes += weight;
        self.events.push(envelope);
        Ok(())
    }

    /// Keeps an event with the commit until it is due.
    pub(crate) fn schedule(&mut self, envelope: Envelope) -> Result<(), Error> {
        self.check_weight(envelope.weight())?;
        self.unit()?.schedule(envelope);
        Ok(())
    }

    /// The store's unit, for what it keeps until a time.
    pub(crate) fn kept(&mut self) -> Result<&mut dyn Unit, Error> {
        self.check_weight(0)?;
        Ok(self.unit()?)
    }

    /// Settles a delivery with this unit's commit.
    pub(crate) fn settle(&mut self, settlement: Settlement) {
        self.settlements.push(settlement);
    }

    /// Keeps `guard` until the outcome of the unit is durable.
    pub(crate) fn hold(&mut self, guard: Box<dyn Any + Send>) {
        self.held.push(guard);
    }

    /// Who this unit is to those who wait for its locks.
    pub(crate) fn owner(&mut self) -> &Owner {
        let name = &self.name;
        self.owner.get_or_insert_with(|| Owner::named(name.clone().unwrap_or_else(|| Arc::from(UNIT))))
    }

    /// Remembers a listener in the background, for who waits for the unit's.
    pub(crate) fn follow(&mut self, spawned: Spawned) {
        self.spawned.push(spawned);
    }

    /// Replaces the event that is being handled; answers the one before it.
    pub(crate) fn set_handling(&mut self, steps: Option<Arc<dyn Steps>>) -> Option<Arc<dyn Steps>> {
        std::mem::replace(&mut self.handling, steps)
    }

    /// An event is about to be published; refused if publishing has become endless.
    pub(crate) fn enter_publish(&mut self, name: &'static str) -> Result<(), Error> {
        let depth = self.around.limits.depth;
        self.publishing.push(name);
        if self.publishing.len() > depth {
            let cycle = self.publishing.iter().rev().take(8).rev().map(|name| (*name).to_owned()).collect();
            self.publishing.pop();
            return Err(PublishError::TooDeep { depth, cycle }.into());
        }
        Ok(())
    }

    pub(crate) fn leave_publish(&mut self) {
        self.publishing.pop();
    }

    fn check_weight(&mut self, more: usize) -> Result<(), Error> {
        let limit = self.around.limits.unit_bytes;
        let bytes = self.event_bytes + self.unit.as_ref().map_or(0, |unit| unit.weight()) + more;
        if bytes > limit {
            return Err(UnitError::TooLarge { bytes, limit }.into());
        }
        Ok(())
    }

    fn unit(&mut self) -> Result<&mut dyn Unit, StoreError> {
        match &mut self.unit {
            Some(unit) => Ok(&mut **unit),
            None => Err(StoreError::Closed),
        }
    }
}

impl table::Read for Tx {
    fn read_rows(&mut self) -> Result<&mut dyn ReadRows, Error> {
        Ok(self.unit()?.rows()?)
    }
}

impl table::Write for Tx {
    fn rows(&mut self) -> Result<&mut dyn Rows, Error> {
        // Checked before each write, so that a unit overshoots its limit by one row at most.
        self.check_weight(0)?;
        Ok(self.unit()?.rows()?)
    }
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tx")
            .field("events", &self.events.len())
            .field("durability", &self.durability)
            .field("rollback_only", &self.rollback_only())
            .finish_non_exhaustive()
    }
}
