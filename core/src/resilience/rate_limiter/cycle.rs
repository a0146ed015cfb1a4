//! The cycles that permits are given in, and what is left of one: a word that is changed by compare and exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::settings::RateSettings;
use crate::clock::{COARSE, Clock};
use crate::error::PolicyError;

/// How long cycles are, and how many permits each has; read without a lock.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) began: AtomicU64,
    /// The number of the one that began then.
    first: AtomicU32,
    permits: AtomicU32,
    per: AtomicU64,
    pub(super) timeout: AtomicU64,
    is_coarse: AtomicBool,
}

/// What a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserved {
    /// It may go on.
    Now,
    /// It has a permit of a cycle that begins in so many nanoseconds.
    In(u64),
    /// There is none within the time it would wait, but in so many nanoseconds.
    Refused(u64),
}

impl Reserved {
    /// In how many nanoseconds it may go on, or why it may not, said by the limiter of this name for one who waits so long at most.
    #[inline]
    pub(super) fn or_refusal(self, name: &Arc<str>, timeout: u64) -> Result<u64, PolicyError> {
        match self {
            Reserved::Now => Ok(0),
            Reserved::In(wait) => Ok(wait),
            Reserved::Refused(wait) => Err(PolicyError::RateLimited {
                limiter: name.clone(),
                timeout: Duration::from_nanos(timeout),
                retry_after: Duration::from_nanos(wait),
            }),
        }
    }
}

/// What is left of a cycle, as a number that may be below zero, beside the number of the cycle.
pub(super) fn pack(cycle: u32, left: i32) -> u64 {
    u64::from(cycle) << 32 | u64::from(left.cast_unsigned())
}

pub(super) fn unpack(state: u64) -> (u32, i32) {
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
pub(super) fn refreshed(state: u64, cycle: u32, permits: i32) -> i32 {
    let (then, left) = unpack(state);
    if cycle == then || is_earlier(cycle, then) {
        return left;
    }
    let gained = i64::from(cycle.wrapping_sub(then)) * i64::from(permits);
    i32::try_from((i64::from(left) + gained).min(i64::from(permits))).unwrap_or(permits)
}

/// A moment seen by cycles: the number of the present one, and how many nanoseconds are left of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) cycle: u32,
    rest: u64,
    per: u64,
    pub(super) permits: i32,
}

impl Cycle {
    pub(super) fn new(settings: &RateSettings, now: u64) -> Self {
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

    pub(super) fn set(&self, settings: &RateSettings) {
        self.permits.store(settings.permits, Ordering::Relaxed);
        self.per.store(nanos(settings.per), Ordering::Relaxed);
        self.timeout.store(nanos(settings.timeout), Ordering::Relaxed);
        // A hundredth of a cycle too late is no matter.
        self.is_coarse.store(settings.per >= COARSE * 100, Ordering::Relaxed);
    }

    /// Other settings from now on, for what is left in `state`; nobody else may change them meanwhile.
    pub(super) fn change(&self, state: &AtomicU64, settings: &RateSettings, clock: &dyn Clock) {
        let moment = self.moment(clock);
        if settings.per != self.settings().per {
            let (cycle, left) = unpack(moment.seen(state.load(Ordering::Acquire)));
            // A number that no state had: who read the old cycles finds another state and reads the new ones.
            let first = cycle.wrapping_add(EARLIER * 2);
            self.first.store(first, Ordering::Relaxed);
            self.began.store(clock.ticks(), Ordering::Relaxed);
            self.set(settings);
            state.store(pack(first, left.min(settings.permits.cast_signed())), Ordering::Release);
        } else {
            // What is left of this cycle was given by the old number.
            let in_cycle = |state| Some(moment.seen(state));
            let _ = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, in_cycle);
            self.set(settings);
        }
    }

    pub(super) fn settings(&self) -> RateSettings {
        RateSettings {
            permits: self.permits.load(Ordering::Relaxed),
            per: Duration::from_nanos(self.per.load(Ordering::Relaxed)),
            timeout: Duration::from_nanos(self.timeout.load(Ordering::Relaxed)),
        }
    }

    #[inline]
    pub(super) fn moment(&self, clock: &dyn Clock) -> Moment {
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

    /// The state after taking `wanted` permits, and when they are there; an error with when they would be if that is later than
    /// `timeout`.
    #[inline]
    pub(super) fn take(&self, state: u64, wanted: u32, timeout: u64) -> Result<(u64, u64), u64> {
        let left = refreshed(state, self.cycle, self.permits);
        let wait = self.until(left, wanted);
        match i32::try_from(i64::from(left) - i64::from(wanted)) {
            Ok(after) if wait <= timeout => Ok((self.state(state, after), wait)),
            _ => Err(wait),
        }
    }

    /// The state as it is now, with nothing taken.
    pub(super) fn seen(&self, state: u64) -> u64 {
        self.state(state, refreshed(state, self.cycle, self.permits))
    }

    /// The state after permits that were reserved are given back.
    pub(super) fn give_back(&self, state: u64, permits: u32) -> u64 {
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
}
