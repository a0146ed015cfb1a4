//! The state machines of the policies, with threads, locks and atomics that shuttle schedules.
//!
//! They are the very files of `core/src/resilience`: these name nothing but `sync`, which is another here.
#![allow(dead_code, unreachable_pub)]

/// What the state machines share between threads, as shuttle has it.
mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

    /// With the face of the lock that the product uses.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics under it")
        }
    }
}

#[path = "../../src/resilience/bulkhead/gate.rs"]
mod gate;
#[path = "../../src/resilience/circuit_breaker/machine.rs"]
mod machine;
#[path = "../../src/resilience/circuit_breaker/window.rs"]
mod window;

#[cfg(test)]
mod breaker;
#[cfg(test)]
mod bulkhead;

/// How many schedules a test tries; the environment may say more.
#[cfg(test)]
fn schedules() -> usize {
    std::env::var("AFTERCOMMIT_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000)
}
