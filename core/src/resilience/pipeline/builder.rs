//! Making a pipeline: gathers its policies, nests them, and refuses a nesting that defeats itself.

use std::sync::Arc;

use super::{LEVELS, Pipeline, Plan};
use crate::clock::{Chance, Clock, SystemClock};
use crate::error::InvalidPolicy;
use crate::resilience::bulkhead::{Bulkhead, BulkheadSettings};
use crate::resilience::circuit_breaker::{BreakerSettings, CircuitBreaker};
use crate::resilience::defeat;
use crate::resilience::fallback::Fallback;
use crate::resilience::policy::Policy;
use crate::resilience::rate_limiter::{RateLimiter, RateSettings};
use crate::resilience::retry::{Retry, RetrySettings};
use crate::resilience::time_limiter::{TimeLimitSettings, TimeLimiter};

/// Gathers the policies of a pipeline; [`build`](Self::build) nests them.
#[must_use = "a pipeline is made by `build`"]
pub struct PipelineBuilder {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
    as_written: bool,
    declared: Vec<Declared>,
}

enum Declared {
    Retry(RetrySettings),
    CircuitBreaker(BreakerSettings),
    RateLimiter(RateSettings),
    TimeLimiter(TimeLimitSettings),
    Bulkhead(BulkheadSettings),
    Made(Policy),
}

impl PipelineBuilder {
    pub(super) fn named(name: Arc<str>) -> Self {
        Self { name, clock: Arc::new(SystemClock), seed: None, as_written: false, declared: Vec::new() }
    }

    /// Makes failed calls again.
    pub fn retry(self, settings: RetrySettings) -> Self {
        self.declare(Declared::Retry(settings))
    }

    /// Stops calling what fails anyway.
    pub fn circuit_breaker(self, settings: BreakerSettings) -> Self {
        self.declare(Declared::CircuitBreaker(settings))
    }

    /// So many calls per time.
    pub fn rate_limiter(self, settings: RateSettings) -> Self {
        self.declare(Declared::RateLimiter(settings))
    }

    /// So long per call.
    pub fn time_limiter(self, limit: std::time::Duration) -> Self {
        self.declare(Declared::TimeLimiter(TimeLimitSettings::new(limit)))
    }

    /// So many calls at once.
    pub fn bulkhead(self, settings: BulkheadSettings) -> Self {
        self.declare(Declared::Bulkhead(settings))
    }

    /// Answers in the place of errors.
    pub fn fallback(self, fallback: Fallback) -> Self {
        self.with(fallback)
    }

    /// A policy that others share: the breaker of a dependency that several pipelines lead to.
    pub fn with(self, policy: impl Into<Policy>) -> Self {
        self.declare(Declared::Made(policy.into()))
    }

    /// Nests the policies as they are written, the first outermost, instead of in the default nesting.
    pub fn as_written(mut self) -> Self {
        self.as_written = true;
        self
    }

    /// Tells the time to the policies that are made here; the machine's clock unless said.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Draws the same jitter for the same seed; for runs that must repeat.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the pipeline.
    ///
    /// # Errors
    /// If a policy cannot work with its settings, or the nesting defeats itself.
    pub fn build(self) -> Result<Pipeline, InvalidPolicy> {
        let invalid = |reason: String| InvalidPolicy::new(format!("pipeline `{}`", self.name), reason);
        if self.declared.len() > LEVELS {
            return Err(invalid(format!("it has more than {LEVELS} policies: put one pipeline around another")));
        }
        let (name, clock) = (&self.name, &self.clock);
        let mut levels: Vec<Policy> = Vec::with_capacity(self.declared.len());
        for declared in self.declared {
            levels.push(match declared {
                Declared::Retry(settings) => {
                    let chance = self.seed.map_or_else(Chance::from_system, Chance::seeded);
                    Retry::with_chance(name.clone(), settings, chance)?.into()
                }
                Declared::CircuitBreaker(settings) => {
                    CircuitBreaker::on_clock(name.clone(), settings, clock.clone())?.into()
                }
                Declared::RateLimiter(settings) => RateLimiter::on_clock(name.clone(), settings, clock.clone())?.into(),
                Declared::TimeLimiter(settings) => TimeLimiter::on_clock(name.clone(), settings, clock.clone())?.into(),
                Declared::Bulkhead(settings) => Bulkhead::on_clock(name.clone(), settings, clock.clone())?.into(),
                Declared::Made(policy) => policy,
            });
        }
        if !self.as_written {
            levels.sort_by_key(Policy::kind);
        }
        for level in &levels {
            if let Policy::Fallback(fallback) = level {
                fallback.check()?;
            }
        }
        defeat::look(&levels).map_err(|defeat| invalid(defeat.to_string()))?;
        Ok(Pipeline(Arc::new(Plan::new(self.name.clone(), levels.into(), self.clock.clone(), self.as_written))))
    }

    fn declare(mut self, declared: Declared) -> Self {
        self.declared.push(declared);
        self
    }
}
