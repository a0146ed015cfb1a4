//! Rate limiter: so many permits per cycle, which begin anew in each.
//!
//! Time is cut into cycles from the limiter's beginning on. A permit that nobody took is gone with its cycle. Who finds none may
//! reserve one of a cycle to come, if that begins within the time it would wait, and then waits for it.
//! As resilience4j's atomic limiter: the cycle and what is left of it are one word, changed by compare and exchange.

mod cycle;
mod keyed;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::event::{Happened, Hearers, Told};
use super::policy::Kind;
use super::settings::{checked, overlaid};
use crate::clock::{Clock, SystemClock};
use crate::error::{InvalidPolicy, PolicyError};
use cycle::{Cycle, Reserved, pack, refreshed};

pub use keyed::KeyedRateLimiter;
pub use settings::RateSettings;

/// A rate limiter; clones are the same one.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::resilience::{RateLimiter, RateSettings};
///
/// let limiter = RateLimiter::new("gateway", RateSettings::new(2, Duration::from_secs(60)))?;
/// assert!(limiter.try_acquire() && limiter.try_acquire());
/// assert!(!limiter.try_acquire(), "not in this minute");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RateLimiter(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    cycle: Cycle,
    /// The present cycle and what is left of it.
    state: AtomicU64,
    waiting: AtomicU32,
    refused: AtomicU64,
    hearers: Hearers,
    declared: RateSettings,
    changing: Mutex<()>,
}

impl RateLimiter {
    /// A limiter on the machine's clock.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(name: impl Into<Arc<str>>, settings: RateSettings) -> Result<Self, InvalidPolicy> {
        Self::on_clock(name, settings, Arc::new(SystemClock))
    }

    /// A limiter on another clock.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn on_clock(
        name: impl Into<Arc<str>>,
        settings: RateSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidPolicy> {
        let name = name.into();
        let settings = checked(&name, settings)?;
        Ok(Self(Arc::new(Inner {
            cycle: Cycle::new(&settings, clock.ticks()),
            state: AtomicU64::new(pack(0, settings.permits.cast_signed())),
            waiting: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            hearers: Hearers::default(),
            declared: settings,
            changing: Mutex::new(()),
            name,
            clock,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Takes a permit if the present cycle has one.
    pub fn try_acquire(&self) -> bool {
        self.try_acquire_many(1)
    }

    /// Takes several permits if the present cycle has them.
    pub fn try_acquire_many(&self, permits: u32) -> bool {
        let got = matches!(self.reserve_within(permits, 0), Reserved::Now);
        self.told(got);
        got
    }

    /// Takes a permit, waiting for one of a later cycle if that is soon enough.
    ///
    /// # Errors
    /// [`PolicyError::RateLimited`], at once.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it gives its permit back.
    pub async fn acquire(&self) -> Result<(), PolicyError> {
        self.acquire_many(1).await
    }

    /// As [`acquire`](Self::acquire), several permits at once; more than one cycle has take several.
    ///
    /// # Errors
    /// [`PolicyError::RateLimited`], at once.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it gives its permits back.
    pub async fn acquire_many(&self, permits: u32) -> Result<(), PolicyError> {
        match self.reserve(permits)? {
            0 => Ok(()),
            wait => {
                self.wait(permits, wait).await;
                Ok(())
            }
        }
    }

    /// Permits that are left in the present cycle; below zero if some of later ones are reserved.
    pub fn available(&self) -> i32 {
        let state = self.0.state.load(Ordering::Acquire);
        let moment = self.0.cycle.moment(&*self.0.clock);
        refreshed(state, moment.cycle, moment.permits)
    }

    /// How many wait for a permit they reserved.
    pub fn waiting(&self) -> u32 {
        self.0.waiting.load(Ordering::Relaxed)
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
    pub fn settings(&self) -> RateSettings {
        self.0.cycle.settings()
    }

    /// Other settings: permits from the next cycle on, the timeout at once. Another length of a cycle begins one.
    ///
    /// # Errors
    /// If they cannot work; the present ones stay.
    pub fn change(&self, settings: RateSettings) -> Result<(), InvalidPolicy> {
        let settings = checked(&self.0.name, settings)?;
        let _one_at_a_time = self.0.changing.lock();
        self.0.cycle.change(&self.0.state, &settings, &*self.0.clock);
        self.0.hearers.tell(Kind::RateLimiter, &self.0.name, || Happened::Changed);
        Ok(())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn overlay(&self, file: &serde_json::Value) -> Result<RateSettings, InvalidPolicy> {
        overlaid(&self.0.name, &self.0.declared, file)
    }

    /// Takes permits; answers in how many nanoseconds they are there.
    #[inline]
    pub(crate) fn reserve(&self, permits: u32) -> Result<u64, PolicyError> {
        let timeout = self.0.cycle.timeout.load(Ordering::Relaxed);
        let reserved = self.reserve_within(permits, timeout);
        self.told(!matches!(reserved, Reserved::Refused(_)));
        reserved.or_refusal(&self.0.name, timeout)
    }

    #[inline]
    fn told(&self, admitted: bool) {
        match admitted {
            true => self.0.hearers.tell_call(Kind::RateLimiter, &self.0.name, || Happened::Admitted),
            false => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                self.0.hearers.tell(Kind::RateLimiter, &self.0.name, || Happened::Refused);
            }
        }
    }

    #[inline]
    fn reserve_within(&self, permits: u32, timeout: u64) -> Reserved {
        let mut state = self.0.state.load(Ordering::Acquire);
        loop {
            // Read after the state, and anew with another one: it may be that of other settings.
            let moment = self.0.cycle.moment(&*self.0.clock);
            let (after, wait) = match moment.take(state, permits, timeout) {
                Ok(taken) => taken,
                Err(wait) => return Reserved::Refused(wait),
            };
            match self.0.state.compare_exchange_weak(state, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if wait == 0 => return Reserved::Now,
                Ok(_) => return Reserved::In(wait),
                Err(other) => state = other,
            }
        }
    }

    /// Waits for permits that were reserved; gives them back if it is dropped before.
    pub(crate) async fn wait(&self, permits: u32, nanos: u64) {
        let waiting = self.begin_to_wait(permits);
        self.0.clock.sleep(Duration::from_nanos(nanos)).await;
        waiting.end();
    }

    /// As [`wait`](Self::wait), on the calling thread.
    pub(crate) fn block(&self, permits: u32, nanos: u64) {
        let waiting = self.begin_to_wait(permits);
        crate::clock::pause(&*self.0.clock, Duration::from_nanos(nanos));
        waiting.end();
    }

    fn begin_to_wait(&self, permits: u32) -> Waiting<'_> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { limiter: self, permits }
    }
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RateLimiter").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Somebody who waits for permits that are reserved.
struct Waiting<'a> {
    limiter: &'a RateLimiter,
    permits: u32,
}

impl Waiting<'_> {
    fn end(mut self) {
        self.permits = 0;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let inner = &self.limiter.0;
        inner.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.permits > 0 {
            let _ = inner.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                Some(inner.cycle.moment(&*inner.clock).give_back(state, self.permits))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_from_before_another_length_is_in_no_way_of_those_after_it() -> Result<(), InvalidPolicy> {
        let limiter = RateLimiter::new("gateway", RateSettings::new(1, Duration::from_millis(1)))?;
        limiter.0.cycle.began.store(0, Ordering::Relaxed);
        let old = limiter.0.cycle.moment(&SystemClock);
        let before = limiter.0.state.load(Ordering::Acquire);
        limiter.change(RateSettings::new(1, Duration::from_secs(3_600)))?;
        let state = limiter.0.state.load(Ordering::Acquire);
        assert_ne!(before, state, "who read the one finds the other");
        let new = limiter.0.cycle.moment(&SystemClock);
        assert_eq!(refreshed(pack(old.cycle, 0), new.cycle, new.permits), 1);
        Ok(())
    }
}
