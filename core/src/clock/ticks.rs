//! The machine's own count of nanoseconds, and a thread that waits by it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

#[cfg(all(feature = "resilience", target_os = "linux"))]
mod system {
    use rustix::time::{ClockId, clock_gettime};

    #[inline]
    fn read(clock: ClockId) -> u64 {
        let told = clock_gettime(clock);
        // Both are positive since the machine started.
        told.tv_sec as u64 * 1_000_000_000 + told.tv_nsec as u64
    }

    #[inline]
    pub(in crate::clock) fn precise() -> u64 {
        read(ClockId::Monotonic)
    }

    #[inline]
    pub(in crate::clock) fn coarse() -> u64 {
        read(ClockId::MonotonicCoarse)
    }
}

#[cfg(not(all(feature = "resilience", target_os = "linux")))]
mod system {
    use std::sync::OnceLock;
    use std::time::Instant;

    static BEGINNING: OnceLock<Instant> = OnceLock::new();

    pub(in crate::clock) fn precise() -> u64 {
        let beginning = BEGINNING.get_or_init(Instant::now);
        u64::try_from(beginning.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(in crate::clock) fn coarse() -> u64 {
        precise()
    }
}

pub(super) use system::{coarse, precise};

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks the calling thread until `done` is, at most for `span`; answers whether it is done.
pub(super) fn park(span: Duration, mut done: Pin<&mut (dyn Future<Output = ()> + Send)>) -> bool {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let begun = Instant::now();
    loop {
        if done.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        let Some(rest) = span.checked_sub(begun.elapsed()).filter(|rest| !rest.is_zero()) else { return false };
        std::thread::park_timeout(rest);
    }
}
