//! Time and chance, injected.
//!
//! The only module that reads a wall clock, sleeps or draws a random number; everything else asks it.
//! Tests pass a clock that they move by hand (`testing::MovedClock`).

mod backoff;
pub mod span;
mod ticks;

pub use backoff::{Backoff, exponential, fixed, linear};

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::{BoxFuture, Either, select};
use parking_lot::Mutex;
use uuid::Uuid;

/// A moment: milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `later` after this one, or the last moment there is.
    pub fn saturating_add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `earlier` before this one, or the first moment there is.
    pub fn saturating_sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(earlier.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Tells the time and waits for it to pass.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Completes once `span` has passed on this clock.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;

    /// Completes at `due`, at once if that has passed.
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        self.sleep(due.since(self.now()))
    }

    /// Nanoseconds since a moment of this clock's own, which never go back: for what has passed, not for dates.
    ///
    /// A clock that is moved by hand tells them by its own time.
    fn ticks(&self) -> u64 {
        self.now().0.saturating_mul(1_000_000)
    }

    /// As [`ticks`](Self::ticks), told faster where the system can, and then behind by up to [`COARSE`].
    fn coarse_ticks(&self) -> u64 {
        self.ticks()
    }

    /// Blocks the calling thread until `done` is, at most until `span` has passed on this clock; answers whether it is done.
    fn block(&self, span: Duration, done: Pin<&mut (dyn Future<Output = ()> + Send)>) -> bool {
        matches!(futures::executor::block_on(select(done, self.sleep(span))), Either::Left(_))
    }
}

/// By how much coarse ticks may be behind.
pub const COARSE: Duration = Duration::from_millis(10);

/// The machine's clock, waiting on tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }

    #[inline]
    fn ticks(&self) -> u64 {
        ticks::precise()
    }

    #[inline]
    fn coarse_ticks(&self) -> u64 {
        ticks::coarse()
    }

    /// Without tokio's timer, which may be driven by the very thread that is to be blocked.
    fn block(&self, span: Duration, done: Pin<&mut (dyn Future<Output = ()> + Send)>) -> bool {
        ticks::park(span, done)
    }
}

/// Blocks the calling thread for `span` of `clock`'s time.
#[cfg(feature = "resilience")]
pub(crate) fn pause(clock: &dyn Clock, span: Duration) {
    clock.block(span, std::pin::pin!(std::future::pending()));
}

/// Measures how long something took, in real time, also where the clock is one that a test moves: for figures, never for decisions.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has been running.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// How much time has passed on a runtime whose time is paused: it stands still while anything runs, and goes on to whoever sleeps
/// shortest once nothing does.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub(crate) struct PausedTime(tokio::time::Instant);

#[cfg(feature = "testing")]
impl PausedTime {
    /// Begins to count, on such a runtime.
    pub(crate) fn begin() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// What has passed since; on the same runtime.
    pub(crate) fn passed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Blocks the calling thread for `span` of real time; for threads that wait on a file lock before there is a runtime.
pub fn pause_thread(span: Duration) {
    std::thread::sleep(span);
}

/// Draws event ids (UUIDv7) and jitter. Seeded from the system, or by hand for runs that must repeat.
#[derive(Debug)]
pub struct Chance {
    random: Mutex<fastrand::Rng>,
    last: AtomicU64,
}

impl Chance {
    /// Seeded from the system.
    pub fn from_system() -> Self {
        Self { random: Mutex::new(fastrand::Rng::new()), last: AtomicU64::new(0) }
    }

    /// Draws the same numbers for the same `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self { random: Mutex::new(fastrand::Rng::with_seed(seed)), last: AtomicU64::new(0) }
    }

    /// A new UUIDv7 for the moment `now`; within one process they ascend by millisecond, never backwards.
    pub fn id(&self, now: Timestamp) -> Uuid {
        let millis = self.last.fetch_max(now.0, Ordering::Relaxed).max(now.0);
        let mut bytes = [0u8; 10];
        self.random.lock().fill(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    /// A number in `0..end`; 0 if there is none.
    pub fn below(&self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.random.lock().u64(..end) }
    }

    /// A fraction in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        self.random.lock().f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_go_back_in_time_when_the_clock_does() {
        let chance = Chance::seeded(1);
        let first = chance.id(Timestamp(2_000));
        let second = chance.id(Timestamp(1_000));
        assert_eq!(first.get_version_num(), 7);
        assert!(second.as_bytes()[..6] >= first.as_bytes()[..6]);
        assert_ne!(first, second);
    }
}
