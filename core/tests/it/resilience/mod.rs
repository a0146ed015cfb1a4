//! Policies around calls, on a clock that the tests move.

mod breaker;
mod bulkhead;
mod listeners;
mod named;
mod order;
mod rate;
mod retry;
mod shared;
mod time;

use std::sync::Arc;
use std::time::Duration;

use aftercommit::error::PolicyError;
use aftercommit::resilience::{Happened, PolicyEvent, Told};
use parking_lot::Mutex;

/// What the calls of these tests fail with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("down")]
    Down,
    #[error("declined")]
    Declined,
    #[error("busy until {0:?}")]
    Busy(Duration),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What policies told.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<Happened>>>);

impl Heard {
    pub(crate) fn told(&self) -> Told {
        let heard = self.0.clone();
        Arc::new(move |event: &PolicyEvent| heard.lock().push(event.what.clone()))
    }

    /// Everything since the last time it was asked.
    pub(crate) fn take(&self) -> Vec<Happened> {
        std::mem::take(&mut *self.0.lock())
    }
}
