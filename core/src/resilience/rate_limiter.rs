//! Rate limiter: so many permits per cycle, which begin anew in each.
//!
//! Time is cut into cycles from the limiter's beginning on. A permit that nobody took is gone with its cycle. Who finds none may
//! reserve one of a cycle to come, if that begins within the time it would wait, and then waits for it.
//! As resilience4j's atomic limiter: the cycle and what is left of it are one word, changed by compare and exchange.

mod keyed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::event::{Happened, Hearers, Told};
use super::pipeline::Kind;
use super::settings::{Settings, checked, overlaid};
use crate::clock::{COARSE, Clock, SystemClock, span};
use crate::error::{InvalidPolicy, PolicyError};

pub use keyed::KeyedRateLimiter;

/// How many calls per time, and how long a caller waits for its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RateSettings {
    /// Permits of one cycle; 50 by default.
    pub permits: u32,
    /// How long a cycle is; 1 s by default, and 1 ms at least.
    #[serde(with = "span")]
    pub per: Duration,
    /// How long a caller waits for a permit of a later cycle; not at all by default.
    #[serde(with = "span")]
    pub timeout: Duration,
}

impl Default for RateSettings {
    fn default() -> Self {
        Self { permits: 50, per: Duration::from_secs(1), timeout: Duration::ZERO }
    }
}

impl RateSettings {
    /// So many permits per cycle of so long, without waiting.
    pub fn new(permits: u32, per: Duration) -> Self {
        Self { permits, per, timeout: Duration::ZERO }
    }

    /// Waits at most so long for a permit of a later cycle.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }
}

/// More than this could not be owed in one word.
const MOST: u32 = 1 << 24;

impl Settings for RateSettings {
    const KIND: &'static str = "rate limiter";

    fn check(&self) -> Result<(), String> {
        if self.permits == 0 || self.permits > MOST {
            return Err(format!("it has {} permits a cycle: give it 1 to {MOST}", self.permits));
        }
        if self.per < Duration::from_millis(1) || self.per > Duration::from_secs(366 * 86_400) {
            return Err(format!("its cycle takes {:?}: give it 1 ms to a year", self.per));
        }
        Ok(())
    }

    fn keep(&mut self, _declared: &Self) {}
}

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

/// How long cycles are, and how many permits each has; read without a lock.
#[derive(Debug)]
struct Cycle {
    began: AtomicU64,
    /// The number of the one that began then.
    first: AtomicU32,
    permits: AtomicU32,
    per: AtomicU64,
    timeout: AtomicU64,
    is_coarse: AtomicBool,
}

/// What a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// It may go on.
    Now,
    /// It has a permit of a cycle that begins in so many nanoseconds.
    In(u64),
    /// There is none within the time it would wait.
    Refused,
}

/// What is left of a cycle, as a number that may be below zero, beside the number of the cycle.
fn pack(cycle: u32, left: i32) -> u64 {
    u64::from(cycle) << 32 | u64::from(left.cast_unsigned())
}

fn unpack(state: u64) -> (u32, i32) {
    ((state >> 32) as u32, (state as u32).cast_signed())
}

/// A time that was read earlier on another thread is fewer cycles back than this.
/// What is farther away has passed, as the numbers go round.
const EARLIER: u32 = 1 << 16;

/// Whether `cycle` is of a time that was read before that of `then`.
fn is_earlier(cycle: u32, then: u32) -> bool {
    (1..EARLIER).contains(&then.wrapping_sub(cycle))
}

/// What is left in `cycle` of a state that may be of an earlier one.
fn refreshed(state: u64, cycle: u32, permits: i32) -> i32 {
    let (then, left) = unpack(state);
    if cycle == then || is_earlier(cycle, then) {
        return left;
    }
    let gained = i64::from(cycle.wrapping_sub(then)) * i64::from(permits);
    i32::try_from((i64::from(left) + gained).min(i64::from(permits))).unwrap_or(permits)
}

/// A moment seen by cycles: the number of the present one, and how many nanoseconds are left of it.
#[derive(Debug, Clone, Copy)]
struct Moment {
    cycle: u32,
    rest: u64,
    per: u64,
    permits: i32,
}

impl Cycle {
    fn new(settings: &RateSettings, now: u64) -> Self {
        let made = Self {
            began: AtomicU64::new(now),
            first: AtomicU32::new(0),
            permits: AtomicU32::new(0),
            per: AtomicU64::new(1),
            timeout: AtomicU64::new(0),
            is_coarse: AtomicBool::new(false),
        };
        made.set(settings);
        made
    }

    fn set(&self, settings: &RateSettings) {
        self.permits.store(settings.permits, Ordering::Relaxed);
        self.per.store(nanos(settings.per), Ordering::Relaxed);
        self.timeout.store(nanos(settings.timeout), Ordering::Relaxed);
        // A hundredth of a cycle too late is no matter.
        self.is_coarse.store(settings.per >= COARSE * 100, Ordering::Relaxed);
    }

    fn settings(&self) -> RateSettings {
        RateSettings {
            permits: self.permits.load(Ordering::Relaxed),
            per: Duration::from_nanos(self.per.load(Ordering::Relaxed)),
            timeout: Duration::from_nanos(self.timeout.load(Ordering::Relaxed)),
        }
    }

    #[inline]
    fn moment(&self, clock: &dyn Clock) -> Moment {
        let coarse = self.is_coarse.load(Ordering::Relaxed);
        let now = if coarse { clock.coarse_ticks() } else { clock.ticks() };
        let per = self.per.load(Ordering::Relaxed);
        let since = now.saturating_sub(self.began.load(Ordering::Relaxed));
        let permits = self.permits.load(Ordering::Relaxed).cast_signed();
        let cycle = self.first.load(Ordering::Relaxed).wrapping_add((since / per) as u32);
        Moment { cycle, rest: per - since % per, per, permits }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Moment {
    /// How long until `wanted` permits are there, if `left` are now.
    #[inline]
    fn until(&self, left: i32, wanted: u32) -> u64 {
        let missing = i64::from(wanted) - i64::from(left);
        if missing <= 0 {
            return 0;
        }
        let cycles = (missing as u64).div_ceil(self.permits as u64);
        self.rest.saturating_add((cycles - 1).saturating_mul(self.per))
    }

    /// The state after taking `wanted` permits, and when they are there; `None` if that is later than `timeout`.
    #[inline]
    fn take(&self, state: u64, wanted: u32, timeout: u64) -> Option<(u64, u64)> {
        let left = refreshed(state, self.cycle, self.permits);
        let wait = self.until(left, wanted);
        if wait > timeout {
            return None;
        }
        let after = i32::try_from(i64::from(left) - i64::from(wanted)).ok()?;
        Some((self.state(state, after), wait))
    }

    /// The state as it is now, with nothing taken.
    fn seen(&self, state: u64) -> u64 {
        self.state(state, refreshed(state, self.cycle, self.permits))
    }

    /// The state after permits that were reserved are given back.
    fn give_back(&self, state: u64, permits: u32) -> u64 {
        let left = refreshed(state, self.cycle, self.permits).saturating_add(permits.cast_signed());
        self.state(state, left.min(self.permits))
    }

    /// The state that follows `before`, with `left` permits.
    /// It never goes back to an earlier cycle, which would fill a cycle twice.
    #[inline]
    fn state(&self, before: u64, left: i32) -> u64 {
        let (then, _) = unpack(before);
        pack(if is_earlier(self.cycle, then) { then } else { self.cycle }, left)
    }
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
        let present = self.settings();
        let moment = self.0.cycle.moment(&*self.0.clock);
        if settings.per != present.per {
            let (cycle, left) = unpack(moment.seen(self.0.state.load(Ordering::Acquire)));
            // A number that no state had: who read the old cycles finds another state and reads the new ones.
            let first = cycle.wrapping_add(EARLIER * 2);
            self.0.cycle.first.store(first, Ordering::Relaxed);
            self.0.cycle.began.store(self.0.clock.ticks(), Ordering::Relaxed);
            self.0.cycle.set(&settings);
            self.0.state.store(pack(first, left.min(settings.permits.cast_signed())), Ordering::Release);
        } else {
            // What is left of this cycle was given by the old number.
            let in_cycle = |state| Some(moment.seen(state));
            let _ = self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, in_cycle);
            self.0.cycle.set(&settings);
        }
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
        self.told(reserved != Reserved::Refused);
        match reserved {
            Reserved::Now => Ok(0),
            Reserved::In(wait) => Ok(wait),
            Reserved::Refused => {
                Err(PolicyError::RateLimited { limiter: self.0.name.clone(), timeout: Duration::from_nanos(timeout) })
            }
        }
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
            let Some((after, wait)) = moment.take(state, permits, timeout) else { return Reserved::Refused };
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

    fn moment(cycle: u32) -> Moment {
        Moment { cycle, rest: 1, per: 1, permits: 1 }
    }

    #[test]
    fn what_is_given_back_at_an_earlier_time_never_turns_the_cycle_back() {
        let state = moment(4).give_back(pack(5, -1), 1);
        assert_eq!(unpack(state), (5, 0));
        assert_eq!(unpack(moment(4).seen(state)), (5, 0));
        assert_eq!(refreshed(state, 5, 1), 0, "this cycle had its permit");
        assert_eq!(unpack(moment(6).give_back(pack(5, -1), 1)), (6, 1));
    }

    #[test]
    fn only_what_is_a_little_earlier_is_earlier() {
        assert_eq!(refreshed(pack(u32::MAX, 0), 0, 1), 1, "the numbers go round");
        assert_eq!(refreshed(pack(0, 0), u32::MAX, 1), 0);
        assert_eq!(refreshed(pack(EARLIER, 0), 0, 1), 1, "too far away");
        assert_eq!(refreshed(pack(0, 0), u32::MAX / 2 + 2, 1), 1, "idle for very long");
    }

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
