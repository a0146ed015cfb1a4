//! From a builder to a running bus, and to its end.
//!
//! Wires listeners, states and store; refuses what cannot work; takes up what a crash left owed; stops in good order.

mod keeper;
mod lifecycle;
mod orphans;
#[cfg(feature = "resilience")]
mod policies;

pub use lifecycle::ShutdownError;

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex as Gate;

use crate::activity::Activity;
use crate::bus::{Archiving, Arrivals, Bus, Claim, Core, Running, Subscribers};
use crate::clock::{Chance, Clock, SystemClock};
use crate::consumer::{Ground, Workers};
use crate::error::{StartError, StoreError, Warning};
use crate::listener::{
    CallAround, Deliver, Descriptor, ErasedListener, ErrorRules, Observing, Registration, States, Stopper, WithoutTx,
    wire,
};
use crate::lock::{AnyKey, KeyedLock};
use crate::observe::{Interceptor, Measure, Notice, Observer, Tap, Watch, Watchdog};
use crate::store::{Archive, ArchivedStore, Durability, Retention, Store};
use crate::transaction::{Limits, Phase, Surroundings};

/// Gathers what a bus is made of; [`start`](Self::start) makes it run.
///
/// ```no_run
/// use aftercommit::observe::Notice;
/// use aftercommit::prelude::*;
///
/// struct Carrier;
///
/// # async fn start() -> Result<Bus, Box<dyn std::error::Error>> {
/// let bus = Bus::builder()
///     .store(SledStore::open("shop-data")?)
///     .state(Carrier) // for listeners that take `State<Carrier>`
///     .observer(|notice: &Notice<'_>| eprintln!("{notice}"))
///     .durability(Durability::Sync)
///     .linked() // or `.listeners(listed![..])`
///     .start()
///     .await?;
/// # Ok(bus)
/// # }
/// ```
#[must_use = "a bus runs once it is started"]
pub struct BusBuilder {
    store: Option<Arc<dyn Store>>,
    listeners: Vec<Registration>,
    modules: Vec<String>,
    states: States,
    given_twice: Option<&'static str>,
    observers: Vec<Box<dyn Observer>>,
    taps: Vec<Arc<dyn Tap>>,
    interceptors: Vec<Arc<dyn Interceptor>>,
    clock: Arc<dyn Clock>,
    chance: Chance,
    limits: Limits,
    durability: Durability,
    lock_wait: Duration,
    crash_limit: u32,
    errors: ErrorRules,
    slow_after: Option<Duration>,
    one_thread: bool,
    retention: Option<Retention>,
    archive: Option<Arc<dyn Archive>>,
    forget_orphans_after: Option<Duration>,
    #[cfg(feature = "resilience")]
    policies: policies::Declared,
    #[cfg(feature = "ranking")]
    rankings: Vec<Arc<dyn crate::ranking::Keeps>>,
}

impl Bus {
    /// A builder without listeners, on a memory store of its own.
    pub fn builder() -> BusBuilder {
        BusBuilder {
            store: None,
            listeners: Vec::new(),
            modules: Vec::new(),
            states: States::default(),
            given_twice: None,
            observers: Vec::new(),
            taps: Vec::new(),
            interceptors: Vec::new(),
            clock: Arc::new(SystemClock),
            chance: Chance::from_system(),
            limits: Limits::default(),
            durability: Durability::default(),
            lock_wait: Duration::from_secs(30),
            crash_limit: 3,
            errors: ErrorRules::default(),
            slow_after: None,
            one_thread: false,
            retention: None,
            archive: None,
            forget_orphans_after: None,
            #[cfg(feature = "resilience")]
            policies: policies::Declared::default(),
            #[cfg(feature = "ranking")]
            rankings: Vec::new(),
        }
    }
}

impl BusBuilder {
    /// Where the application keeps its data; a memory store unless said here.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// As [`store`](Self::store), for a store that others keep a handle of.
    pub fn shared_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Adds listeners by name: `.listeners(listed![mail::send_receipt, stock::Counter])`, or declared by hand.
    pub fn listeners(mut self, listeners: impl IntoIterator<Item = Registration>) -> Self {
        self.listeners.extend(listeners);
        self
    }

    /// Keeps a ranking: adds its durable listeners, and reads what is stored of it before they are called.
    #[cfg(feature = "ranking")]
    pub fn ranking<K: crate::ranking::Item>(mut self, ranking: &crate::ranking::Ranking<K>) -> Self {
        self.rankings.push(Arc::new(ranking.clone()));
        self.listeners(ranking.listeners())
    }

    /// Adds one listener.
    pub fn listener(mut self, listener: Registration) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Adds every listener that is linked into this program.
    ///
    /// A crate that nothing refers to may be left out by the linker: refer to it (`use shop_stock as _;`) and say
    /// [`require_module`](Self::require_module).
    #[cfg(feature = "macros")]
    pub fn linked(self) -> Self {
        self.listeners(inventory::iter::<crate::listener::Linked>().flat_map(|linked| (linked.registrations)()))
    }

    /// Refuses to start unless a listener of this module, or of one below it, is registered.
    pub fn require_module(mut self, module: impl Into<String>) -> Self {
        self.modules.push(module.into());
        self
    }

    /// A value that listeners take as `State<T>`; one of each type.
    pub fn state<T: Send + Sync + 'static>(self, state: T) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// As [`state`](Self::state), for a value that others share.
    pub fn shared_state<T: Send + Sync + 'static>(mut self, state: Arc<T>) -> Self {
        if !self.states.insert(state) {
            self.given_twice.get_or_insert(std::any::type_name::<T>());
        }
        self
    }

    /// Hears what nobody awaits.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Sees every event that is published. With a tap, publishing takes the long way.
    pub fn tap(mut self, tap: impl Tap) -> Self {
        self.taps.push(Arc::new(tap));
        self
    }

    /// Stands around every call of a listener.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Tells the time; the machine's clock unless said here.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Draws the same ids for the same seed; for runs that must repeat.
    pub fn seed(mut self, seed: u64) -> Self {
        self.chance = Chance::seeded(seed);
        self
    }

    /// Runs `blocking` listeners on the thread of the runtime too; for runs that must repeat.
    #[cfg(feature = "testing")]
    pub(crate) fn one_thread(mut self) -> Self {
        self.one_thread = true;
        self
    }

    /// What one unit of work and one event may hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What commits survive before they are answered, unless a unit says otherwise; [`Durability::Sync`] unless said here.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long `tx.lock` waits; 30 s unless said here.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// How long a unit of work, and a call of a durable listener that does not say so itself, may take before the observer is told
    /// with [`Notice::Slow`], while it still runs; no limit unless said here. Nothing else happens to it.
    pub fn slow_after(mut self, time: Duration) -> Self {
        self.slow_after = Some(time);
        self
    }

    /// How often in a row the process may end during one marked delivery before its event parks; 3 unless said here, 0 for without end.
    ///
    /// Deliveries are marked after the process ended uncleanly, and counted once they are called alone, so that the first end is not
    /// counted; nor is a second where the delivery was called with others, as in a batch, or before many others were settled.
    pub fn crash_limit(mut self, limit: u32) -> Self {
        self.crash_limit = limit;
        self
    }

    /// What stays in the log of what nobody is owed any more; 7 days of it unless said here, and `logged` events for ever.
    ///
    /// A store that manages its log by itself refuses to start with this: [`StoreError::Unsupported`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Where events go that retention lets go of, before the log gives them up; nowhere unless said here.
    ///
    /// Replays and streams then reach back into it: they read it like the log. If it cannot be written to, the log keeps
    /// what it should give up, and the observer is told with [`Notice::ArchiveFailed`].
    pub fn archive(mut self, archive: impl Archive) -> Self {
        self.archive = Some(Arc::new(archive));
        self
    }

    /// Forgets a durable listener that the store knows and nobody has registered for so long: its cursor, its redeliveries and its
    /// parked events. Until then, and for ever unless this is said, it is kept, holds back the log, and is warned of at each start.
    ///
    /// The time begins at the first start without the listener. Zero forgets it at that start, before
    /// [`Bus::register`](crate::Bus::register) may come. What is forgotten is told as [`Warning::OrphanForgotten`].
    pub fn forget_orphans_after(mut self, time: Duration) -> Self {
        self.forget_orphans_after = Some(time);
        self
    }

    /// Rules for the errors of all durable listeners, asked after their own.
    pub fn errors(mut self, rules: ErrorRules) -> Self {
        self.errors = rules;
        self
    }

    /// Wires everything, takes up what durable listeners are owed, and runs.
    ///
    /// # Errors
    /// [`StartError`] for what cannot work: a duplicate id, a missing state, an empty module, no runtime, a store that fails.
    pub async fn start(self) -> Result<Bus, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        self.check_modules()?;
        if let Some(state) = self.given_twice {
            return Err(StartError::DuplicateState { state });
        }
        let watch = Arc::new(Watch::new(self.observers));
        let observing = Observing {
            interceptors: self.interceptors.into(),
            is_measured: watch.is_measured(),
            slow_after: self.slow_after,
        };
        let listeners: Vec<Box<dyn ErasedListener>> = self
            .listeners
            .into_iter()
            .map(|Registration(mut listener)| {
                listener.observe(&observing);
                listener
            })
            .collect();
        check_needs(listeners.iter().map(|one| one.descriptor()), &self.states)?;
        if let Err(reason) = self.errors.check() {
            return Err(StartError::Listener { listener: "all".to_owned(), reason: reason.to_owned() });
        }
        #[cfg(feature = "resilience")]
        let policies = self.policies.gather(&listeners)?;
        let (registry, durable) = wire(listeners)?;
        check_event_names(&durable)?;
        let store = self.store.unwrap_or_else(|| Arc::new(crate::adapters::memory::MemoryStore::new()));
        let claim = Claim::of(&store).ok_or_else(|| StartError::StoreTaken { kind: store.kind() })?;
        let archiving = self.archive.map(|archive| Archiving::begin(&*store, archive)).transpose()?;
        let store: Arc<dyn Store> = match &archiving {
            Some(archiving) => Arc::new(ArchivedStore::new(store, archiving.archive())),
            None => store,
        };
        #[cfg(feature = "ranking")]
        for ranking in &self.rankings {
            let begun = ranking.begin(&*store, &self.clock);
            begun.map_err(|cause| StartError::Ranking { ranking: ranking.name(), cause: cause.into() })?;
        }
        let activity = Arc::new(Activity::default());
        let watchdog = Arc::new(Watchdog::new(self.clock.clone(), watch.clone(), runtime.clone()));
        let mut taps = self.taps;
        if watch.is_measured() {
            let watch = watch.clone();
            taps.push(Arc::new(move |event: &'static str, _: &dyn Any| watch.measure(&Measure::Published { event })));
        }
        if !taps.is_empty() {
            registry.close_short();
        }
        let stopper = Stopper::new();
        let chance = Arc::new(self.chance);
        let ground = Ground {
            store: store.clone(),
            clock: self.clock.clone(),
            chance: chance.clone(),
            errors: self.errors,
            watch: watch.clone(),
            activity: activity.clone(),
            stop: stopper.signal(),
            durability: self.durability,
            crash_limit: self.crash_limit,
            suspects: if store.was_clean() { Vec::new() } else { store.suspects().await? },
            unclean: !store.was_clean(),
            one_suspect: Gate::new(()),
        };
        watch.attach();
        let locks = Arc::new(locks(&self.clock, &watch));
        let around = Surroundings {
            runtime: runtime.clone(),
            clock: self.clock,
            chance,
            watch,
            activity,
            watchdog: watchdog.clone(),
            slow_after: self.slow_after,
            limits: self.limits,
            one_thread: self.one_thread,
        };
        let core = Arc::new(Core {
            registry,
            store,
            _claim: claim,
            archiving,
            forget_orphans_after: self.forget_orphans_after,
            around: Arc::new(around),
            calls: Arc::new(CallAround {
                states: Arc::new(self.states),
                stop: stopper.signal(),
                watchdog: watchdog.clone(),
                locks: locks.clone(),
                lock_wait: self.lock_wait,
            }),
            stopper,
            taps,
            observing,
            locks: locks.clone(),
            subscribers: Subscribers::default(),
            lock_wait: self.lock_wait,
            durability: self.durability,
            running: OnceLock::new(),
            #[cfg(feature = "resilience")]
            policies,
            #[cfg(feature = "tracing")]
            links: crate::bus::links::Links::default(),
        });
        warn(&core).await?;
        #[cfg(feature = "resilience")]
        policies::tell(&core);
        let has_orphans = orphans::look(&core).await?;
        let running = Arc::new(Running { core: core.clone(), workers: Workers::new(Arc::new(ground), runtime) });
        core.running.get_or_init(|| Arc::downgrade(&running));
        let bus = Bus { core, running: Some(running.clone()), origin: None };
        let workers = &running.workers;
        let mut ready = Vec::with_capacity(durable.len());
        for listener in durable {
            ready.push(workers.take_up(bus.job(listener)).await?);
        }
        // Only now that every listener has its cursor, so that nothing goes that one of them is to begin with.
        retain(&bus.core, self.retention).await?;
        ready.into_iter().for_each(|one| workers.start(one));
        #[cfg(feature = "ranking")]
        for ranking in &self.rankings {
            let started = ranking.started(&bus).await;
            started.map_err(|cause| StartError::Ranking { ranking: ranking.name(), cause: cause.into() })?;
        }
        // Only now, so that everybody who is owed what is due has a place in the log.
        workers.schedule(Arc::new(Arrivals(Arc::downgrade(&bus.core))));
        if bus.core.archiving.is_some() || has_orphans {
            keeper::start(&bus.core);
        }
        Ok(bus)
    }

    fn check_modules(&self) -> Result<(), StartError> {
        for module in &self.modules {
            let belongs = |path: &str| {
                path.strip_prefix(module.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            if !self.listeners.iter().any(|one| belongs(one.descriptor().module)) {
                return Err(StartError::EmptyModule { module: module.clone() });
            }
        }
        Ok(())
    }
}

/// The locks of units of work.
fn locks(clock: &Arc<dyn Clock>, watch: &Arc<Watch>) -> KeyedLock<AnyKey> {
    let locks = KeyedLock::new().clock(clock.clone());
    if !watch.is_measured() {
        return locks;
    }
    let watch = watch.clone();
    locks.watcher(move |waited| watch.measure(&Measure::Waited { took: waited.took, obtained: waited.obtained }))
}

fn check_needs<'a>(listeners: impl Iterator<Item = &'a Descriptor>, states: &States) -> Result<(), StartError> {
    for descriptor in listeners {
        if let Some(missing) = descriptor.needs.iter().find(|need| !states.has(need)) {
            return Err(StartError::MissingState { listener: descriptor.id.clone(), state: missing.name });
        }
    }
    Ok(())
}

/// Two event types under one stored name would be decoded as each other.
fn check_event_names(durable: &[Arc<dyn Deliver>]) -> Result<(), StartError> {
    let mut seen: HashMap<&'static str, &'static str> = HashMap::new();
    for listener in durable {
        for name in listener.stored_names() {
            let event = listener.descriptor().event_type;
            let first = *seen.entry(name).or_insert(event);
            if first != event {
                return Err(StartError::DuplicateEvent { name: name.to_owned(), first, second: event });
            }
        }
    }
    Ok(())
}

/// Tells the store what to keep of its log.
async fn retain(core: &Arc<Core>, retention: Option<Retention>) -> Result<(), StoreError> {
    match (core.store.as_embedded(), retention) {
        (Some(store), retention) => store.retain(retention.unwrap_or_default(), core.clock().clone()).await,
        (None, Some(_)) => Err(StoreError::Unsupported { action: "retain events", store: core.store.kind() }),
        (None, None) => Ok(()),
    }
}

async fn warn(core: &Core) -> Result<(), StoreError> {
    let tell = |warning: Warning| core.watch().tell(&Notice::Warning(&warning));
    for descriptor in core.registry.descriptors() {
        if descriptor.phase == Phase::AfterRollback && descriptor.without_tx == WithoutTx::Run {
            tell(Warning::RollbackWithoutUnit { listener: descriptor.id });
        }
    }
    for (listener, known) in core.store.listener_records().await? {
        if let Some(paused) = known.paused {
            tell(Warning::PausedListener { listener, reason: paused.reason });
        }
    }
    Ok(())
}

/// The error for a durable listener that would have no worker.
fn gone(listener: &str) -> StartError {
    let reason = "the bus has been dropped, so that nobody would deliver to it".to_owned();
    StartError::Listener { listener: listener.to_owned(), reason }
}
