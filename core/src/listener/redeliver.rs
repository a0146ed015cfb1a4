//! How often, and after how long, a durable listener is called again.

use std::time::Duration;

use crate::clock::{Backoff, exponential};

/// When a failed delivery is called again, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Redeliver {
    /// How many calls are made in all, the first one counted; 10 by default. At least 1.
    pub attempts: u32,
    /// How long to wait between them; exponential from 100 ms to 1 min by default.
    pub backoff: Backoff,
    /// How long after the first failed call the last one may come; no limit by default.
    pub within: Option<Duration>,
}

impl Default for Redeliver {
    fn default() -> Self {
        Self { attempts: 10, backoff: exponential(Duration::from_millis(100)), within: None }
    }
}

impl Redeliver {
    /// The default: 10 calls, exponential from 100 ms to 1 min, without a limit of time.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many calls are made in all, the first one counted; 0 is taken as 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to wait between calls.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long after the first failed call the last one may come. A call that would come later is not made.
    pub fn within(mut self, budget: Duration) -> Self {
        self.within = Some(budget);
        self
    }

    /// Why it cannot work, if it cannot.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.backoff.check()
    }
}
