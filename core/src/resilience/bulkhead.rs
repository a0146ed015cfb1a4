//! Bulkhead: so many calls at once, so that one slow dependency does not take every thread and socket.
//!
//! Who comes when it is full is refused, or waits in line for as long as the settings say, first come first served.

mod gate;

use super::sync;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::event::{Happened, Hearers, Told};
use super::policy::Kind;
use super::settings::{Settings, checked, overlaid};
use crate::clock::{Clock, SystemClock, span};
use crate::error::{InvalidPolicy, PolicyError};
use gate::Gate;

/// How many calls at once, and how long a caller waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BulkheadSettings {
    /// How many calls at once; 25 by default. None are let through with 0.
    pub calls: u32,
    /// How long a caller waits for its turn; not at all by default.
    #[serde(with = "span")]
    pub max_wait: Duration,
}

impl Default for BulkheadSettings {
    fn default() -> Self {
        Self { calls: 25, max_wait: Duration::ZERO }
    }
}

impl BulkheadSettings {
    /// So many calls at once, without waiting.
    pub fn new(calls: u32) -> Self {
        Self { calls, max_wait: Duration::ZERO }
    }

    /// Waits at most so long for a turn.
    pub fn max_wait(mut self, time: Duration) -> Self {
        self.max_wait = time;
        self
    }
}

impl Settings for BulkheadSettings {
    const KIND: &'static str = "bulkhead";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn keep(&mut self, _declared: &Self) {}
}

/// A bulkhead; clones are the same one.
///
/// ```
/// use aftercommit::resilience::{Bulkhead, BulkheadSettings};
///
/// let gateway = Bulkhead::new("gateway", BulkheadSettings::new(1))?;
/// let inside = gateway.try_enter();
/// assert!(inside.is_some() && gateway.try_enter().is_none());
/// drop(inside);
/// assert!(gateway.try_enter().is_some());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bulkhead(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    gate: Gate,
    declared: BulkheadSettings,
    settings: Mutex<BulkheadSettings>,
    refused: AtomicU64,
    hearers: Hearers,
}

impl Bulkhead {
    /// A bulkhead on the machine's clock.
    ///
    /// # Errors
    /// None today: every number of calls is legal.
    pub fn new(name: impl Into<Arc<str>>, settings: BulkheadSettings) -> Result<Self, InvalidPolicy> {
        Self::on_clock(name, settings, Arc::new(SystemClock))
    }

    /// A bulkhead on another clock.
    ///
    /// # Errors
    /// None today: every number of calls is legal.
    pub fn on_clock(
        name: impl Into<Arc<str>>,
        settings: BulkheadSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidPolicy> {
        let name = name.into();
        let settings = checked(&name, settings)?;
        Ok(Self(Arc::new(Inner {
            gate: Gate::new(settings.calls),
            declared: settings,
            settings: Mutex::new(settings),
            refused: AtomicU64::new(0),
            hearers: Hearers::default(),
            name,
            clock,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Takes a place if there is one and nobody waits for it; kept until the answer is dropped.
    pub fn try_enter(&self) -> Option<Inside<'_>> {
        self.try_take().then(|| Inside(self))
    }

    /// Takes a place, waiting for it as long as the settings say; kept until the answer is dropped.
    ///
    /// # Errors
    /// [`PolicyError::BulkheadFull`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it gives its place in the line up.
    pub async fn enter(&self) -> Result<Inside<'_>, PolicyError> {
        if !self.try_take() {
            self.wait().await?;
        }
        Ok(Inside(self))
    }

    /// How many calls are under way.
    pub fn inside(&self) -> u32 {
        self.0.gate.inside()
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> u32 {
        self.0.gate.waiting()
    }

    /// How many calls it refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Tells `told` what happens in it out of the ordinary from now on.
    pub fn hear(&self, told: Told) {
        self.0.hearers.add(told, false);
    }

    /// As [`hear`](Self::hear), and each call that it lets through and that comes back too, which every call then pays for.
    pub fn hear_all(&self, told: Told) {
        self.0.hearers.add(told, true);
    }

    /// The present settings.
    pub fn settings(&self) -> BulkheadSettings {
        *self.0.settings.lock()
    }

    /// Other settings from now on. With more places those who wait come in at once; with fewer, those inside are not disturbed.
    ///
    /// # Errors
    /// None today: every number of calls is legal.
    pub fn change(&self, settings: BulkheadSettings) -> Result<(), InvalidPolicy> {
        let settings = checked(&self.0.name, settings)?;
        let mut present = self.0.settings.lock();
        *present = settings;
        self.0.gate.resize(settings.calls);
        drop(present);
        self.happened(|| Happened::Changed);
        Ok(())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn overlay(&self, file: &serde_json::Value) -> Result<BulkheadSettings, InvalidPolicy> {
        overlaid(&self.0.name, &self.0.declared, file)
    }

    #[inline]
    pub(crate) fn try_take(&self) -> bool {
        let taken = self.0.gate.try_enter();
        if taken {
            self.called(|| Happened::Admitted);
        }
        taken
    }

    #[inline]
    pub(crate) fn leave(&self) {
        self.0.gate.leave();
        self.called(|| Happened::Finished);
    }

    /// Stands in line for as long as the settings say.
    #[cold]
    pub(crate) async fn wait(&self) -> Result<(), PolicyError> {
        let max_wait = self.settings().max_wait;
        if max_wait.is_zero() {
            return Err(self.refuse(max_wait));
        }
        let came_in = tokio::select! {
            biased;
            () = self.0.gate.queue() => true,
            () = self.0.clock.sleep(max_wait) => false,
        };
        self.came(came_in, max_wait)
    }

    /// As [`wait`](Self::wait), on the calling thread.
    #[cold]
    pub(crate) fn block(&self) -> Result<(), PolicyError> {
        let max_wait = self.settings().max_wait;
        if max_wait.is_zero() {
            return Err(self.refuse(max_wait));
        }
        let came_in = self.0.clock.block(max_wait, std::pin::pin!(self.0.gate.queue()));
        self.came(came_in, max_wait)
    }

    fn came(&self, in_time: bool, waited: Duration) -> Result<(), PolicyError> {
        if !in_time {
            return Err(self.refuse(waited));
        }
        self.called(|| Happened::Admitted);
        Ok(())
    }

    fn refuse(&self, waited: Duration) -> PolicyError {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        self.happened(|| Happened::Refused);
        PolicyError::BulkheadFull { bulkhead: self.0.name.clone(), waited }
    }

    #[inline]
    fn called(&self, what: impl FnOnce() -> Happened) {
        self.0.hearers.tell_call(Kind::Bulkhead, &self.0.name, what);
    }

    #[inline]
    fn happened(&self, what: impl FnOnce() -> Happened) {
        self.0.hearers.tell(Kind::Bulkhead, &self.0.name, what);
    }
}

impl std::fmt::Debug for Bulkhead {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bulkhead").field("name", &self.0.name).field("inside", &self.inside()).finish_non_exhaustive()
    }
}

/// A call under way; its place is free once this is dropped.
#[must_use = "the place is free again once this is dropped"]
#[derive(Debug)]
pub struct Inside<'a>(&'a Bulkhead);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::gate::Gate;

    #[test]
    fn who_waits_comes_in_first_come_first_served_and_nobody_past_it() {
        let gate = Gate::new(1);
        assert!(gate.try_enter() && !gate.try_enter());
        let (mut first, mut second) = (gate.queue(), gate.queue());
        assert!((&mut second).now_or_never().is_none());
        gate.leave();
        assert!(!gate.try_enter(), "the place was handed over");
        assert!((&mut first).now_or_never().is_some());
        assert_eq!((gate.inside(), gate.waiting()), (1, 1));
        gate.leave();
        assert!((&mut second).now_or_never().is_some());
        gate.leave();
        assert_eq!((gate.inside(), gate.waiting()), (0, 0));
    }

    #[test]
    fn who_goes_away_leaves_no_place_taken_called_or_not() {
        let gate = Gate::new(1);
        assert!(gate.try_enter());
        let (gone, called) = (gate.queue(), gate.queue());
        drop(gone);
        gate.leave();
        drop(called);
        assert_eq!((gate.inside(), gate.waiting()), (0, 0));
        drop(gate.queue());
        assert_eq!(gate.inside(), 0, "came in at once, and went before it knew");
        assert!(gate.try_enter());
    }

    #[test]
    fn more_places_let_those_in_who_wait_and_fewer_wait_for_those_inside() {
        let gate = Gate::new(0);
        let (first, second) = (gate.queue(), gate.queue());
        gate.resize(2);
        assert!(first.now_or_never().is_some() && second.now_or_never().is_some());
        gate.resize(1);
        gate.leave();
        assert!(!gate.try_enter());
        gate.leave();
        assert!(gate.try_enter());
    }
}
