//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::{Clock, Timestamp};

/// A clock that stands still until it is moved. Clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::clock::{Clock, Timestamp};
/// use aftercommit::testing::MovedClock;
///
/// let clock = MovedClock::at(Timestamp(1_000));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Timestamp(3_000));
/// ```
#[derive(Debug, Clone)]
pub struct MovedClock(Arc<Mutex<Face>>);

#[derive(Debug)]
struct Face {
    now: Timestamp,
    sleepers: Vec<(Timestamp, oneshot::Sender<()>)>,
}

impl MovedClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Face { now, sleepers: Vec::new() })))
    }

    /// Moves the clock on by `span`, and wakes who waited for a moment up to there.
    pub fn advance(&self, span: Duration) {
        let mut face = self.0.lock();
        face.now = face.now.saturating_add(span);
        let now = face.now;
        let (due, waiting) = std::mem::take(&mut face.sleepers).into_iter().partition(|(due, _)| *due <= now);
        face.sleepers = waiting;
        drop(face);
        let due: Vec<(Timestamp, oneshot::Sender<()>)> = due;
        // A sleeper that went away in the meantime need not be woken.
        for (_, wake) in due {
            let _ = wake.send(());
        }
    }

    /// How many are waiting for the clock to move.
    pub fn sleepers(&self) -> usize {
        self.0.lock().sleepers.iter().filter(|(_, wake)| !wake.is_closed()).count()
    }
}

impl Default for MovedClock {
    /// Shows 2020-01-01 00:00:00 UTC.
    fn default() -> Self {
        Self::at(Timestamp(1_577_836_800_000))
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        // Counted from the call, not from the first poll, as a timer would be.
        let due = self.now().saturating_add(span);
        self.sleep_until(due)
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        // Asked for the time and put to sleep in one step, so that no move of the clock falls between.
        let mut face = self.0.lock();
        if due <= face.now {
            return std::future::ready(()).boxed();
        }
        let (wake, woken) = oneshot::channel();
        face.sleepers.retain(|(_, wake)| !wake.is_closed());
        face.sleepers.push((due, wake));
        async move { drop(woken.await) }.boxed()
    }
}
