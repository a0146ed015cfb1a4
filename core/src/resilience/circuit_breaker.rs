//! Circuit breaker: stops calling what fails anyway, and looks from time to time whether it is better.
//!
//! Closed it lets all calls through and keeps the outcomes of the last ones. When enough of them failed, or were slow, it opens:
//! calls are refused without being made. After a while it is half-open and lets a few trials through, which decide.
//! A breaker belongs to the dependency that it protects: clones are the same breaker, so one is shared by all who call there.
//!
//! The states are in [`machine`], what is kept of outcomes in [`window`]; here they get a name, a clock and a voice.

pub(crate) mod machine;
mod settings;
pub(crate) mod window;

use super::sync;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::event::{Happened, Hearers, Told};
use super::judge::Came;
use super::policy::Kind;
use super::settings::{checked, overlaid};
use crate::clock::{COARSE, Clock, SystemClock, Timestamp};
use crate::error::{InvalidPolicy, PolicyError};
use machine::{Change, Machine, Permit};

pub use machine::{Rate, State};
pub use settings::{BreakerSettings, OutcomeWindow};
pub use window::Totals;

/// A circuit breaker; clones are the same one.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::resilience::{BreakerSettings, CircuitBreaker, State};
///
/// let settings = BreakerSettings::new().failure_rate(50.0).last(10).minimum_calls(4).open_for(Duration::from_secs(5));
/// let gateway = CircuitBreaker::new("gateway", settings)?;
/// for _ in 0..4 {
///     let permit = gateway.permit()?;
///     permit.failed(); // what came of the call
/// }
/// assert_eq!(gateway.state(), State::Open);
/// assert!(gateway.permit().is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// Mostly it is one policy of a [`Pipeline`](super::Pipeline), which does this around a call.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    machine: Machine,
    declared: BreakerSettings,
    settings: Mutex<BreakerSettings>,
    /// From which time in nanoseconds on a call is slow; the highest number if none is.
    slow_after: AtomicU64,
    hearers: Hearers,
}

const NONE_IS_SLOW: u64 = u64::MAX;

/// What a breaker keeps of a call that it let through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) permit: Permit,
    pub(crate) began: u64,
}

impl CircuitBreaker {
    /// A breaker on the machine's clock.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(name: impl Into<Arc<str>>, settings: BreakerSettings) -> Result<Self, InvalidPolicy> {
        Self::on_clock(name, settings, Arc::new(SystemClock))
    }

    /// A breaker on another clock.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn on_clock(
        name: impl Into<Arc<str>>,
        settings: BreakerSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidPolicy> {
        let name = name.into();
        let settings = checked(&name, settings)?;
        Ok(Self(Arc::new(Inner {
            machine: Machine::new(settings.limits(), settings.initial, clock.ticks()),
            slow_after: AtomicU64::new(slow_after(&settings)),
            settings: Mutex::new(settings.clone()),
            declared: settings,
            hearers: Hearers::default(),
            name,
            clock,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its present state. An open breaker whose time has passed stays open until the next call, which is its first trial.
    pub fn state(&self) -> State {
        self.0.machine.state()
    }

    /// Lets one call through; what came of it is told to the permit.
    ///
    /// # Errors
    /// [`PolicyError::CircuitOpen`].
    pub fn permit(&self) -> Result<BreakerPermit<'_>, PolicyError> {
        Ok(BreakerPermit { breaker: self, admission: Some(self.admit()?) })
    }

    /// What it sees right now.
    pub fn look(&self) -> BreakerLook {
        let look = self.0.machine.look(self.0.clock.ticks());
        let rate = |count: u32| look.is_known.then(|| f64::from(count) * 100.0 / f64::from(look.totals.calls));
        BreakerLook {
            state: look.state,
            totals: look.totals,
            failure_rate: rate(look.totals.failed),
            slow_rate: rate(look.totals.slow),
            refused: look.refused,
            retry_after: look.retry_after.map(Duration::from_nanos),
        }
    }

    /// Opens it, for as long as its settings say.
    pub fn open(&self) {
        self.go(State::Open, None);
    }

    /// Opens it for so long.
    pub fn open_for(&self, time: Duration) {
        self.go(State::Open, Some(time));
    }

    /// Opens it until then.
    pub fn open_until(&self, moment: Timestamp) {
        self.open_for(moment.since(self.0.clock.now()));
    }

    /// Closes it with nothing counted.
    pub fn close(&self) {
        self.go(State::Closed, None);
    }

    /// Lets trials through.
    pub fn half_open(&self) {
        self.go(State::HalfOpen, None);
    }

    /// Refuses all calls until another state is said.
    pub fn force_open(&self) {
        self.go(State::ForcedOpen, None);
    }

    /// Lets all calls through and counts nothing, until another state is said.
    pub fn disable(&self) {
        self.go(State::Disabled, None);
    }

    /// Lets all calls through, counts and tells, and never opens, until another state is said.
    pub fn metrics_only(&self) {
        self.go(State::MetricsOnly, None);
    }

    /// Closes it and forgets what it counted, refused calls too.
    pub fn reset(&self) {
        self.tell(self.0.machine.reset(self.0.clock.ticks()));
    }

    /// Tells `told` what happens in it out of the ordinary from now on.
    pub fn hear(&self, told: Told) {
        self.0.hearers.add(told, false);
    }

    /// The present settings.
    pub fn settings(&self) -> BreakerSettings {
        self.0.settings.lock().clone()
    }

    /// Other settings from now on; the rules stay as they were declared.
    ///
    /// # Errors
    /// If they cannot work; the present ones stay.
    pub fn change(&self, settings: BreakerSettings) -> Result<(), InvalidPolicy> {
        let settings = checked(&self.0.name, settings)?;
        let mut present = self.0.settings.lock();
        self.0.machine.limit(settings.limits());
        self.0.slow_after.store(slow_after(&settings), Ordering::Relaxed);
        *present = settings;
        drop(present);
        self.happened(Happened::Changed);
        Ok(())
    }

    pub(crate) fn overlay(&self, file: &serde_json::Value) -> Result<BreakerSettings, InvalidPolicy> {
        overlaid(&self.0.name, &self.0.declared, file)
    }

    fn go(&self, to: State, wait: Option<Duration>) {
        let wait = wait.map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        self.tell(self.0.machine.transition(to, wait, self.0.clock.ticks()));
    }

    /// Opens it if it is closed; whoever asks tells the change.
    pub(crate) fn open_if_closed(&self) -> Option<Change> {
        self.0.machine.open_if_closed(self.0.clock.ticks())
    }

    #[inline]
    pub(crate) fn admit(&self) -> Result<Admission, PolicyError> {
        let permit = match self.0.machine.lets_all() {
            Some(permit) => permit,
            None => self.admit_otherwise()?,
        };
        let slow_after = self.0.slow_after.load(Ordering::Relaxed);
        let began = if slow_after == NONE_IS_SLOW { 0 } else { self.ticks_for(slow_after) };
        Ok(Admission { permit, began })
    }

    #[cold]
    fn admit_otherwise(&self) -> Result<Permit, PolicyError> {
        let (permit, change) = self.0.machine.permit(self.0.clock.ticks());
        self.tell(change);
        permit.map_err(|closed| {
            self.happened(Happened::Refused);
            PolicyError::CircuitOpen {
                breaker: self.0.name.clone(),
                state: closed.state.name(),
                retry_after: closed.retry_after.map(Duration::from_nanos),
            }
        })
    }

    /// A call came back, and by its outcome it failed or not.
    #[inline]
    pub(crate) fn record(&self, admission: Admission, failed: bool) {
        let slow_after = self.0.slow_after.load(Ordering::Relaxed);
        // Whoever came before slow calls were asked for has no time of beginning.
        let is_timed = slow_after != NONE_IS_SLOW && admission.began != 0;
        let slow = is_timed && self.ticks_for(slow_after).saturating_sub(admission.began) > slow_after;
        let changes =
            self.0.machine.record(admission.permit, machine::outcome(failed, slow), || self.0.clock.coarse_ticks());
        if changes != [None; 2] {
            changes.into_iter().for_each(|change| self.tell(change));
        }
    }

    /// The present, for a time of `slow_after` from then on or until then: a hundredth of that too much or too little is no matter.
    #[inline]
    fn ticks_for(&self, slow_after: u64) -> u64 {
        let coarse = COARSE.as_nanos() as u64 * 100;
        if slow_after >= coarse { self.0.clock.coarse_ticks() } else { self.0.clock.ticks() }
    }

    /// A call that was let through says nothing of the dependency.
    pub(crate) fn release(&self, admission: Admission) {
        self.0.machine.release(admission.permit);
    }

    #[inline]
    pub(crate) fn judges_values(&self) -> bool {
        self.0.declared.rules.has_values()
    }

    /// What a call came to, where it is no value that is one in any case.
    pub(crate) fn settle(&self, admission: Admission, came: Came<'_>) {
        let failed = match came {
            Came::Value(value) => self.0.declared.rules.counts_value(value),
            Came::Error(error) if self.0.declared.rules.counts(error) => true,
            Came::Policy(PolicyError::TimedOut { .. }) => true,
            Came::Error(_) | Came::Policy(_) => return self.release(admission),
        };
        self.record(admission, failed);
    }

    #[cold]
    pub(crate) fn tell(&self, change: Option<Change>) {
        match change {
            Some(Change::Moved { from, to }) if from != to => self.happened(Happened::Moved { from, to }),
            Some(Change::Exceeded { rate, percent }) => self.happened(Happened::Exceeded { rate, percent }),
            _ => {}
        }
    }

    pub(crate) fn happened(&self, what: Happened) {
        self.0.hearers.tell(Kind::CircuitBreaker, &self.0.name, || what);
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for CircuitBreaker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CircuitBreaker")
            .field("name", &self.0.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

fn slow_after(settings: &BreakerSettings) -> u64 {
    settings.slow_after.map_or(NONE_IS_SLOW, |time| u64::try_from(time.as_nanos()).unwrap_or(NONE_IS_SLOW))
}

/// What a breaker sees at a moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerLook {
    /// Its state.
    pub state: State,
    /// The outcomes that it keeps.
    pub totals: Totals,
    /// Percent of them that failed; `None` while there are fewer calls than it wants for a judgement.
    pub failure_rate: Option<f64>,
    /// Percent of them that were slow; `None` as above.
    pub slow_rate: Option<f64>,
    /// Calls that it refused.
    pub refused: u64,
    /// Until it lets a trial through, while it is open.
    pub retry_after: Option<Duration>,
}

/// A call that a breaker let through. Dropped without a word it is given back: it says nothing of the dependency.
#[must_use = "what came of the call is to be told"]
#[derive(Debug)]
pub struct BreakerPermit<'a> {
    breaker: &'a CircuitBreaker,
    admission: Option<Admission>,
}

impl BreakerPermit<'_> {
    /// The call succeeded.
    pub fn succeeded(mut self) {
        if let Some(admission) = self.admission.take() {
            self.breaker.record(admission, false);
        }
    }

    /// The call failed.
    pub fn failed(mut self) {
        if let Some(admission) = self.admission.take() {
            self.breaker.record(admission, true);
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.breaker.release(admission);
        }
    }
}
