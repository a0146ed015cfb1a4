//! The time of a simulation: it passes only when nothing else is left to do.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::world::World;
use crate::clock::{Clock, SystemClock, Timestamp};

/// The time of a simulation, which begins in 2020 and goes on over crashes. It stands still while anything can happen without it, and
/// then goes on to whoever sleeps shortest. Tokio's timers run on the same time.
#[derive(Debug, Clone)]
pub struct SimClock(pub(super) Arc<World>);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        // On the runtime of a life, whose time is paused.
        SystemClock.sleep(span)
    }
}
