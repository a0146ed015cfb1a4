//! How many calls per time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::span;
use crate::resilience::settings::Settings;

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

/// More than this could not be owed in one word, as many of later cycles may be.
const MOST: u32 = 1 << 30;

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
