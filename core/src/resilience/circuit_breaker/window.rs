//! The last outcomes: so many of them, or those of so long a time.

use std::ops::{AddAssign, SubAssign};

/// An outcome: a bit for each thing that may be wrong with it.
pub(crate) type Outcome = u8;

/// It failed.
pub(crate) const FAILED: Outcome = 1;
/// It took too long.
pub(crate) const SLOW: Outcome = 2;

/// How outcomes add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Calls that came back.
    pub calls: u32,
    /// Those of them that failed.
    pub failed: u32,
    /// Those of them that took too long, failed or not.
    pub slow: u32,
}

impl Totals {
    fn of(outcome: Outcome) -> Self {
        Self { calls: 1, failed: u32::from(outcome & FAILED), slow: u32::from((outcome & SLOW) >> 1) }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

impl SubAssign for Totals {
    fn sub_assign(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

/// How far back a window reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// So many outcomes.
    Count(u32),
    /// So many nanoseconds.
    Time(u64),
}

/// The outcomes within reach.
#[derive(Debug)]
pub(crate) struct Window {
    totals: Totals,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Ring { outcomes: Box<[Outcome]>, next: usize },
    Buckets { buckets: Box<[Totals]>, width: u64, newest: u64 },
}

/// In how many steps the outcomes of a time are let go of: each leaves by a twentieth of the time too early at most, never late.
const BUCKETS: usize = 20;

impl Window {
    pub(crate) fn new(reach: Reach) -> Self {
        let kept = match reach {
            Reach::Count(count) => Kept::Ring { outcomes: vec![0; count.max(1) as usize].into(), next: 0 },
            Reach::Time(time) => Kept::Buckets {
                buckets: [Totals::default(); BUCKETS].into(),
                width: (time / BUCKETS as u64).max(1),
                newest: 0,
            },
        };
        Self { totals: Totals::default(), kept }
    }

    /// Adds an outcome at the time `now`, which is asked for only where it matters.
    #[inline]
    pub(crate) fn record(&mut self, outcome: Outcome, now: impl FnOnce() -> u64) -> Totals {
        match &mut self.kept {
            Kept::Ring { outcomes, next } => {
                let place = &mut outcomes[*next];
                let left = std::mem::replace(place, outcome);
                *next = if *next + 1 == outcomes.len() { 0 } else { *next + 1 };
                if self.totals.calls as usize == outcomes.len() {
                    self.totals.failed -= u32::from(left & FAILED);
                    self.totals.slow -= u32::from((left & SLOW) >> 1);
                } else {
                    self.totals.calls += 1;
                }
                self.totals.failed += u32::from(outcome & FAILED);
                self.totals.slow += u32::from((outcome & SLOW) >> 1);
            }
            Kept::Buckets { .. } => {
                self.advance(now());
                if let Kept::Buckets { buckets, newest, .. } = &mut self.kept {
                    buckets[(*newest % BUCKETS as u64) as usize] += Totals::of(outcome);
                }
                self.totals += Totals::of(outcome);
            }
        }
        self.totals
    }

    /// Adds successes to a window of so many outcomes, where it does not matter when they came.
    pub(crate) fn succeed(&mut self, successes: u32) {
        for _ in 0..successes {
            self.record(0, || 0);
        }
    }

    /// What it keeps, and of how many outcomes at most; `None` for a window of a time.
    pub(crate) fn ring(&self) -> Option<(Totals, u32)> {
        match &self.kept {
            Kept::Ring { outcomes, .. } => Some((self.totals, outcomes.len() as u32)),
            Kept::Buckets { .. } => None,
        }
    }

    /// What is within reach at the time `now`.
    pub(crate) fn totals(&mut self, now: impl FnOnce() -> u64) -> Totals {
        if matches!(self.kept, Kept::Buckets { .. }) {
            self.advance(now());
        }
        self.totals
    }

    fn advance(&mut self, now: u64) {
        let Kept::Buckets { buckets, width, newest } = &mut self.kept else { return };
        let present = now / *width;
        // A time that was read earlier on another thread is counted as the present.
        let passed = present.saturating_sub(*newest);
        for bucket in 1..=passed.min(BUCKETS as u64) {
            let left = &mut buckets[((*newest + bucket) % BUCKETS as u64) as usize];
            self.totals -= std::mem::take(left);
        }
        *newest = present.max(*newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_last_outcomes() {
        let mut window = Window::new(Reach::Count(4));
        let told: Vec<(u32, u32, u32)> = [FAILED, 0, SLOW, FAILED | SLOW, 0, 0]
            .into_iter()
            .map(|outcome| {
                let totals = window.record(outcome, || unreachable!("no time is asked for"));
                (totals.calls, totals.failed, totals.slow)
            })
            .collect();
        assert_eq!(told, [(1, 1, 0), (2, 1, 0), (3, 1, 1), (4, 2, 2), (4, 1, 2), (4, 1, 2)]);
    }

    #[test]
    fn buckets_let_go_of_what_is_older_than_the_time_also_after_a_gap() {
        let mut window = Window::new(Reach::Time(100));
        window.record(FAILED, || 0);
        window.record(0, || 50);
        assert_eq!(window.totals(|| 99), Totals { calls: 2, failed: 1, slow: 0 });
        assert_eq!(window.totals(|| 100), Totals { calls: 1, failed: 0, slow: 0 });
        assert_eq!(window.record(SLOW, || 1_000_000).calls, 1);
        assert_eq!(window.totals(|| 10), Totals { calls: 1, failed: 0, slow: 1 }, "time does not go back");
    }
}
