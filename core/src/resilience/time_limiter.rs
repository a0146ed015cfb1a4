//! Time limiter: drops a call that takes too long.
//!
//! The time counts from when the call first waits, so that one which does not wait arms no timer. What it did until then is not
//! undone: dropping a future cancels it where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::event::{Happened, Hearers, Told};
use super::policy::Kind;
use super::settings::{Settings, checked, overlaid};
use crate::clock::{Clock, SystemClock, span};
use crate::error::{InvalidPolicy, PolicyError};

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeLimitSettings {
    /// How long one call may take; 1 s by default.
    #[serde(with = "span")]
    pub limit: Duration,
}

impl Default for TimeLimitSettings {
    fn default() -> Self {
        Self { limit: Duration::from_secs(1) }
    }
}

impl TimeLimitSettings {
    /// A call may take so long.
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl Settings for TimeLimitSettings {
    const KIND: &'static str = "time limiter";

    fn check(&self) -> Result<(), String> {
        if self.limit.is_zero() { Err("it gives a call no time: give it some".to_owned()) } else { Ok(()) }
    }

    fn keep(&mut self, _declared: &Self) {}
}

/// A time limiter; clones are the same one.
#[derive(Clone)]
pub struct TimeLimiter(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    declared: TimeLimitSettings,
    settings: Mutex<TimeLimitSettings>,
    timed_out: AtomicU64,
    hearers: Hearers,
}

impl TimeLimiter {
    /// A limiter on the machine's clock.
    ///
    /// # Errors
    /// If the limit is nothing.
    pub fn new(name: impl Into<Arc<str>>, settings: TimeLimitSettings) -> Result<Self, InvalidPolicy> {
        Self::on_clock(name, settings, Arc::new(SystemClock))
    }

    /// A limiter on another clock.
    ///
    /// # Errors
    /// If the limit is nothing.
    pub fn on_clock(
        name: impl Into<Arc<str>>,
        settings: TimeLimitSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidPolicy> {
        let name = name.into();
        let declared = checked(&name, settings)?;
        Ok(Self(Arc::new(Inner {
            name,
            clock,
            declared,
            settings: Mutex::new(declared),
            timed_out: AtomicU64::new(0),
            hearers: Hearers::default(),
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many calls took too long.
    pub fn timed_out(&self) -> u64 {
        self.0.timed_out.load(Ordering::Relaxed)
    }

    /// Tells `told` what happens in it out of the ordinary from now on.
    pub fn hear(&self, told: Told) {
        self.0.hearers.add(told, false);
    }

    /// The present settings.
    pub fn settings(&self) -> TimeLimitSettings {
        *self.0.settings.lock()
    }

    /// Another limit from now on; calls that wait already keep theirs.
    ///
    /// # Errors
    /// If the limit is nothing; the present one stays.
    pub fn change(&self, settings: TimeLimitSettings) -> Result<(), InvalidPolicy> {
        *self.0.settings.lock() = checked(&self.0.name, settings)?;
        self.0.hearers.tell(Kind::TimeLimiter, &self.0.name, || Happened::Changed);
        Ok(())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn overlay(&self, file: &serde_json::Value) -> Result<TimeLimitSettings, InvalidPolicy> {
        overlaid(&self.0.name, &self.0.declared, file)
    }

    /// The time of a call that begins to wait now.
    pub(crate) fn arm(&self) -> (Duration, BoxFuture<'static, ()>) {
        let limit = self.settings().limit;
        (limit, self.0.clock.sleep(limit))
    }

    pub(crate) fn expired(&self, limit: Duration) -> PolicyError {
        self.0.timed_out.fetch_add(1, Ordering::Relaxed);
        self.0.hearers.tell(Kind::TimeLimiter, &self.0.name, || Happened::TimedOut { limit });
        PolicyError::TimedOut { limiter: self.0.name.clone(), limit }
    }
}

impl std::fmt::Debug for TimeLimiter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TimeLimiter").field("name", &self.0.name).finish_non_exhaustive()
    }
}
