//! The verbs: publish, transaction, lock; and the bus that has them.
//!
//! A [`Bus`] is a handle, cheap to clone. It calls immediate listeners, enlists the others for their phase, and appends
//! what durable listeners are owed to the unit of work. It never waits for a durable listener.

mod ack;
mod archiving;
#[cfg(feature = "resilience")]
mod breakers;
mod dead_letters;
mod delivery;
mod describe;
mod handler;
mod idempotency;
#[cfg(feature = "tracing")]
pub(crate) mod links;
mod lock;
mod once;
mod publications;
mod published;
mod reply;
mod route;
mod schedule;
mod stream;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::FutureExt;

use crate::activity::Activity;
use crate::clock::{Chance, Clock};
use crate::consumer::Workers;
use crate::error::{BoxError, Error, PublishError, UnitError};
use crate::event::{Event, Metadata, Origin};
use crate::listener::{Call, CallAround, FromCall, Observing, Registry, Stopper};
use crate::lock::{AnyKey, KeyedLock};
use crate::observe::{Counts, Meter, Notice, Tap, Watch};
use crate::store::{Durability, Store};
use crate::table::Reader;
use crate::transaction::{self, Committed, Failed, Surroundings, Tx};

pub use crate::consumer::{ParkedCounts, Replay};
pub use ack::Ack;
pub(crate) use archiving::Archiving;
#[cfg(feature = "resilience")]
pub use breakers::StoreBoard;
pub use dead_letters::DeadLetters;
pub use delivery::{Delivery, DeliveryId, Guarded};
pub use describe::Description;
pub(crate) use handler::DurableHandler;
pub use idempotency::{Idempotency, IdempotentRequest, Ran};
pub use lock::{Fences, Locking};
pub use once::{Handled, Inbox, Once};
pub use publications::Publications;
pub(crate) use schedule::Arrivals;
pub(crate) use stream::Subscribers;
pub use stream::{Lagged, LogEntry, LogStream, StreamError, Subscription};

/// What all handles of one bus share.
pub(crate) struct Core {
    pub(crate) registry: Registry,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _claim: Claim,
    pub(crate) archiving: Option<Archiving>,
    /// When a durable listener that nobody registers is forgotten; never unless it is said.
    pub(crate) forget_orphans_after: Option<Duration>,
    pub(crate) around: Arc<Surroundings>,
    pub(crate) calls: Arc<CallAround>,
    pub(crate) stopper: Stopper,
    pub(crate) taps: Vec<Arc<dyn Tap>>,
    pub(crate) observing: Observing,
    pub(crate) locks: Arc<KeyedLock<AnyKey>>,
    pub(crate) subscribers: Subscribers,
    pub(crate) lock_wait: Duration,
    pub(crate) durability: Durability,
    /// What keeps the bus running, for handles that do not: weak, so that they do not keep it either.
    pub(crate) running: OnceLock<Weak<Running>>,
    #[cfg(feature = "resilience")]
    pub(crate) policies: crate::resilience::Policies,
    #[cfg(feature = "tracing")]
    pub(crate) links: links::Links,
}

/// A store that one bus has, until it is dropped.
pub(crate) struct Claim(Arc<dyn Store>);

impl Claim {
    /// `None` while another bus has it.
    pub(crate) fn of(store: &Arc<dyn Store>) -> Option<Self> {
        store.claim().then(|| Self(store.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A running bus. Clones are handles of the same bus.
///
/// When the last handle is dropped without `shutdown`, the bus takes in nothing more and its durable listeners stop after
/// the calls that run; what they are owed stays owed. A `Bus` that a listener was given does not keep the bus running,
/// and what is published through it descends from the listener's event.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::prelude::*;
///
/// #[derive(Event)]
/// struct PageChanged { page: u32 }
///
/// #[listener(phase = AfterCommit)]
/// fn drop_cached_page(event: &PageChanged) {
///     println!("dropping page {}", event.page);
/// }
///
/// const PAGES: Table<u32, String> = Table::new("site.pages");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().listeners(listed![drop_cached_page]).start().await?;
/// bus.transaction(async |tx| {
///     PAGES.put(tx, &7, &"hello".to_owned())?;
///     tx.publish(PageChanged { page: 7 })
/// })
/// .await?;
/// assert_eq!(PAGES.get(&mut bus.reader()?, &7)?.as_deref(), Some("hello"));
/// bus.shutdown(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bus {
    pub(crate) core: Arc<Core>,
    pub(crate) running: Option<Arc<Running>>,
    /// What is published through this handle descends from: the event of the listener it was given to.
    pub(crate) origin: Option<Origin>,
}

/// Keeps a bus running; the last one stops it.
pub(crate) struct Running {
    pub(crate) core: Arc<Core>,
    pub(crate) workers: Workers,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.stop();
        self.core.subscribers.end();
        self.core.around.activity.touch();
    }
}

impl Core {
    /// Takes in nothing more.
    pub(crate) fn stop(&self) {
        self.stopper.stop();
        // Only now, so that whoever looks closer sees why.
        self.registry.close_short();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopper.is_stopping()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.around.clock
    }

    pub(crate) fn chance(&self) -> &Chance {
        &self.around.chance
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.around.watch
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.around.activity
    }

    /// Begins a unit of work, whether or not the bus takes in new ones.
    async fn begin(self: &Arc<Self>, origin: Option<Origin>) -> Result<Tx, Error> {
        let unit = self.store.begin().await?;
        Ok(Tx::begin(unit, self.clone(), self.around.clone(), self.durability, origin))
    }

    /// One unit of work, whether or not the bus takes in new ones: for what was already begun.
    pub(crate) async fn unit<T>(
        self: &Arc<Self>,
        origin: Option<Origin>,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, Error>,
    ) -> Result<Committed<T>, Error> {
        self.unit_failing(origin, work, false).await.map_err(Failed::into_error)
    }

    pub(crate) async fn unit_failing<T, E>(
        self: &Arc<Self>,
        origin: Option<Origin>,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
        check_first: bool,
    ) -> Result<Committed<T>, Failed<E>> {
        let tx = self.begin(origin).await.map_err(Failed::Unit)?;
        let running = transaction::run(tx, work, check_first);
        #[cfg(feature = "tracing")]
        let running =
            tracing::Instrument::instrument(running, tracing::info_span!(target: "aftercommit", "unit of work"));
        running.await
    }
}

impl Bus {
    /// Runs `work` as one unit of work: all of it is stored, or nothing.
    ///
    /// If `work` answers `Ok`, before-commit listeners run, the store commits, and the after-phases run; else the unit rolls back.
    ///
    /// # Errors
    /// The error of `work`; or an [`Error`] of the unit itself: a listener's veto, a conflict, a broken floor, a store that failed.
    /// After [`UnitError::InDoubt`] it is unknown whether the unit was stored.
    ///
    /// # Cancel safety
    /// Dropped before the commit was handed over, the unit rolls back, its after-phases run in the background.
    /// Dropped later, the outcome and the after-phases happen without the caller.
    pub async fn transaction<T, E: From<Error>>(
        &self,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        self.check_open()?;
        self.core.unit_failing(self.origin, work, false).await.map_err(Failed::into_error)
    }

    /// As [`transaction`](Self::transaction), run again when it conflicts with another unit, at most `attempts` times in all.
    ///
    /// Everything in `work` runs again, immediate and before-commit listeners included. What `work` read is checked before its
    /// error is believed, as it may come from a state that no longer stands.
    ///
    /// `work` is cloned for each run: it may borrow, or own what can be cloned.
    ///
    /// # Errors
    /// As for [`transaction`](Self::transaction); the conflict of the last attempt. A broken floor is not retried.
    pub async fn transaction_retrying<T, E: From<Error>>(
        &self,
        attempts: u32,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E> + Clone,
    ) -> Result<Committed<T>, E> {
        for _ in 1..attempts {
            self.check_open()?;
            match self.core.unit_failing(self.origin, work.clone(), true).await {
                Err(Failed::Unit(error)) if error.is_conflict() => {}
                ended => return ended.map_err(Failed::into_error),
            }
        }
        self.check_open()?;
        self.core.unit_failing(self.origin, work, true).await.map_err(Failed::into_error)
    }

    /// As [`transaction`](Self::transaction), for threads that do not drive asynchronous tasks. Blocks the thread.
    ///
    /// # Errors
    /// Also [`UnitError::InsideRuntime`] on a thread that drives asynchronous tasks. It is told by tokio's own refusal, which is a
    /// caught panic: the panic hook prints its message, and a program built with `panic = "abort"` ends there.
    pub fn transaction_blocking<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let runtime = self.core.around.runtime.clone();
        // A thread may be inside a runtime without driving it, as the blocking pool's are, and nothing tells them apart but
        // the refusal to block.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(std::future::ready(())))) {
            Ok(()) => runtime.block_on(self.transaction(async |tx| work(tx))),
            Err(_) => Err(Error::from(UnitError::InsideRuntime).into()),
        }
    }

    /// Reads tables outside a unit of work. What it sees is committed, but may not be on the disk yet, and may change between two reads.
    ///
    /// # Errors
    /// If the store has no tables.
    pub fn reader(&self) -> Result<Reader, Error> {
        Ok(Reader::new(self.core.store.reader()?))
    }

    /// How often each notice was given since the bus started.
    pub fn counts(&self) -> Counts {
        self.core.watch().counts()
    }

    /// Measures calls for the observers of this bus alone.
    pub fn meter(&self) -> Meter {
        Meter::of(self.core.watch())
    }

    /// Who listens to what, when, in which order.
    pub fn describe(&self) -> Description {
        Description::new(self.core.registry.descriptors())
    }

    /// The pipelines of policies that it knows: those of its listeners, and those given to the builder.
    #[cfg(feature = "resilience")]
    pub fn policies(&self) -> crate::resilience::Policies {
        self.core.policies.clone()
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.core.is_stopping() { Err(UnitError::ShuttingDown.into()) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bus").field("store", &self.core.store.kind()).finish_non_exhaustive()
    }
}

impl FromCall for Bus {
    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError> {
        match call.about.host().downcast::<Core>() {
            Ok(core) => Ok(Bus { core, running: None, origin: Some(call.metadata().origin()) }),
            Err(_) => Err("this call was not made by a bus".into()),
        }
    }
}

impl Tx {
    pub(crate) fn core(&self) -> Arc<Core> {
        match self.host.clone().downcast::<Core>() {
            Ok(core) => core,
            // Units of work are begun by `Core` only, which puts itself here.
            Err(_) => unreachable!("a unit of work without a bus"),
        }
    }

    /// Publishes `event` as a part of this unit of work.
    ///
    /// Its immediate listeners run now, in order; the others are enlisted for their phase; what durable listeners are owed
    /// is stored with the commit.
    ///
    /// # Errors
    /// The error of an immediate listener, after which the unit is rollback-only unless a savepoint contains it;
    /// or [`PublishError`] if the event cannot be stored.
    ///
    /// # Panics
    /// A panic of an immediate listener passes through, and the unit rolls back.
    pub fn publish<E: Event>(&mut self, event: E) -> Result<(), Error> {
        self.publish_known(event, None)
    }

    /// Publishes an event, with its metadata if that was drawn before.
    fn publish_known<E: Event>(&mut self, event: E, metadata: Option<Metadata>) -> Result<(), Error> {
        let core = self.core();
        self.enter_publish(E::name())?;
        let published = catch_unwind(AssertUnwindSafe(|| core.publish_in(self, event, metadata)));
        self.leave_publish();
        let published = published.unwrap_or_else(|panic| {
            // Whoever catches it must not commit what it cut off.
            self.set_handling(None);
            self.set_rollback_only("an immediate listener panicked");
            resume_unwind(panic)
        });
        if let Err(error) = &published {
            self.set_rollback_only(format!("publishing failed: {error}"));
        }
        published
    }
}

/// Runs something in the background that must be accounted for; a runtime that has ended is told to the observer.
pub(crate) fn spawn<T: Send + 'static>(
    core: &Arc<Core>,
    name: Arc<str>,
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let unfinished = Unfinished { core: core.clone(), name: name.clone(), done: false };
    let tracked = core.activity().track(name, async move {
        let mut unfinished = unfinished;
        let output = task.await;
        unfinished.done = true;
        output
    });
    core.around.runtime.spawn(tracked.boxed())
}

struct Unfinished {
    core: Arc<Core>,
    name: Arc<str>,
    done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            self.core.watch().tell(&Notice::Abandoned { what: &self.name });
        }
    }
}

impl Core {
    pub(crate) fn refuse_publish(&self, event: &'static str) -> Result<(), Error> {
        if self.is_stopping() {
            return Err(PublishError::ShuttingDown { event: event.to_owned() }.into());
        }
        Ok(())
    }

    pub(crate) fn as_host(self: &Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self.clone()
    }
}
