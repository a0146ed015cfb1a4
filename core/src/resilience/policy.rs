//! A policy of any kind, and what all kinds have in common.

use super::bulkhead::{Bulkhead, BulkheadSettings};
use super::circuit_breaker::{BreakerSettings, CircuitBreaker};
use super::event::Told;
use super::fallback::Fallback;
use super::rate_limiter::{RateLimiter, RateSettings};
use super::retry::{Retry, RetrySettings};
use super::time_limiter::{TimeLimitSettings, TimeLimiter};
use crate::error::InvalidPolicy;

/// A kind of policy, in the order of the default nesting, the outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Fallback`].
    Fallback,
    /// [`Retry`].
    Retry,
    /// [`CircuitBreaker`].
    CircuitBreaker,
    /// [`RateLimiter`].
    RateLimiter,
    /// [`TimeLimiter`].
    TimeLimiter,
    /// [`Bulkhead`].
    Bulkhead,
}

impl Kind {
    /// As it is written in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fallback => "fallback",
            Kind::Retry => "retry",
            Kind::CircuitBreaker => "circuit breaker",
            Kind::RateLimiter => "rate limiter",
            Kind::TimeLimiter => "time limiter",
            Kind::Bulkhead => "bulkhead",
        }
    }

    /// As it is written in a picture of the nesting.
    pub(super) fn picture(self) -> &'static str {
        match self {
            Kind::Fallback => "Fallback",
            Kind::Retry => "Retry",
            Kind::CircuitBreaker => "CircuitBreaker",
            Kind::RateLimiter => "RateLimiter",
            Kind::TimeLimiter => "TimeLimiter",
            Kind::Bulkhead => "Bulkhead",
        }
    }

    /// As it is written in a file.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Fallback => "fallback",
            Kind::Retry => "retry",
            Kind::CircuitBreaker => "circuit-breaker",
            Kind::RateLimiter => "rate-limiter",
            Kind::TimeLimiter => "time-limiter",
            Kind::Bulkhead => "bulkhead",
        }
    }
}

/// A policy of any kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Policy {
    /// Answers in the place of an error.
    Fallback(Fallback),
    /// Makes a call again.
    Retry(Retry),
    /// Stops calling what fails anyway.
    CircuitBreaker(CircuitBreaker),
    /// So many calls per time.
    RateLimiter(RateLimiter),
    /// So long per call.
    TimeLimiter(TimeLimiter),
    /// So many calls at once.
    Bulkhead(Bulkhead),
}

impl Policy {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Policy::Fallback(_) => Kind::Fallback,
            Policy::Retry(_) => Kind::Retry,
            Policy::CircuitBreaker(_) => Kind::CircuitBreaker,
            Policy::RateLimiter(_) => Kind::RateLimiter,
            Policy::TimeLimiter(_) => Kind::TimeLimiter,
            Policy::Bulkhead(_) => Kind::Bulkhead,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Policy::Fallback(one) => one.name(),
            Policy::Retry(one) => one.name(),
            Policy::CircuitBreaker(one) => one.name(),
            Policy::RateLimiter(one) => one.name(),
            Policy::TimeLimiter(one) => one.name(),
            Policy::Bulkhead(one) => one.name(),
        }
    }

    /// Tells `told` what happens in it out of the ordinary from now on.
    pub fn hear(&self, told: Told) {
        self.hear_as(told, false);
    }

    /// As [`hear`](Self::hear), and each call that it lets through and that comes back too, which every call then pays for.
    pub fn hear_all(&self, told: Told) {
        self.hear_as(told, true);
    }

    fn hear_as(&self, told: Told, calls: bool) {
        match (self, calls) {
            (Policy::Fallback(one), _) => one.hear(told),
            (Policy::Retry(one), _) => one.hear(told),
            (Policy::CircuitBreaker(one), _) => one.hear(told),
            (Policy::RateLimiter(one), false) => one.hear(told),
            (Policy::RateLimiter(one), true) => one.hear_all(told),
            (Policy::TimeLimiter(one), _) => one.hear(told),
            (Policy::Bulkhead(one), false) => one.hear(told),
            (Policy::Bulkhead(one), true) => one.hear_all(told),
        }
    }

    /// Whether it is the very same one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Policy::Fallback(one), Policy::Fallback(other)) => one.is(other),
            (Policy::Retry(one), Policy::Retry(other)) => one.is(other),
            (Policy::CircuitBreaker(one), Policy::CircuitBreaker(other)) => one.is(other),
            (Policy::RateLimiter(one), Policy::RateLimiter(other)) => one.is(other),
            (Policy::TimeLimiter(one), Policy::TimeLimiter(other)) => one.is(other),
            (Policy::Bulkhead(one), Policy::Bulkhead(other)) => one.is(other),
            _ => false,
        }
    }

    /// Its settings as declared, with what a file says differently.
    pub(crate) fn overlay(&self, file: &serde_json::Value) -> Result<PolicySettings, InvalidPolicy> {
        Ok(match self {
            Policy::Fallback(_) => PolicySettings::None,
            Policy::Retry(one) => PolicySettings::Retry(one.overlay(file)?),
            Policy::CircuitBreaker(one) => PolicySettings::CircuitBreaker(one.overlay(file)?),
            Policy::RateLimiter(one) => PolicySettings::RateLimiter(one.overlay(file)?),
            Policy::TimeLimiter(one) => PolicySettings::TimeLimiter(one.overlay(file)?),
            Policy::Bulkhead(one) => PolicySettings::Bulkhead(one.overlay(file)?),
        })
    }

    /// Its present settings.
    pub(crate) fn present(&self) -> PolicySettings {
        match self {
            Policy::Fallback(_) => PolicySettings::None,
            Policy::Retry(one) => PolicySettings::Retry(one.settings()),
            Policy::CircuitBreaker(one) => PolicySettings::CircuitBreaker(one.settings()),
            Policy::RateLimiter(one) => PolicySettings::RateLimiter(one.settings()),
            Policy::TimeLimiter(one) => PolicySettings::TimeLimiter(one.settings()),
            Policy::Bulkhead(one) => PolicySettings::Bulkhead(one.settings()),
        }
    }

    /// Other settings from now on; those of another kind of policy change nothing.
    pub(crate) fn change(&self, settings: PolicySettings) -> Result<(), InvalidPolicy> {
        match (self, settings) {
            (Policy::Retry(one), PolicySettings::Retry(settings)) => one.change(settings),
            (Policy::CircuitBreaker(one), PolicySettings::CircuitBreaker(settings)) => one.change(settings),
            (Policy::RateLimiter(one), PolicySettings::RateLimiter(settings)) => one.change(settings),
            (Policy::TimeLimiter(one), PolicySettings::TimeLimiter(settings)) => one.change(settings),
            (Policy::Bulkhead(one), PolicySettings::Bulkhead(settings)) => one.change(settings),
            _ => Ok(()),
        }
    }

    /// The present settings in a few words.
    pub(super) fn told_settings(&self) -> String {
        match self {
            Policy::Fallback(_) => String::new(),
            Policy::Retry(one) => {
                let settings = one.settings();
                let endless = settings.attempts == u32::MAX;
                if endless { "attempts without end".to_owned() } else { format!("{} attempts", settings.attempts) }
            }
            Policy::CircuitBreaker(one) => {
                let settings = one.settings();
                format!("opens at {} % for {:?}", settings.failure_rate, settings.open_for)
            }
            Policy::RateLimiter(one) => {
                let settings = one.settings();
                format!("{} per {:?}, waits {:?}", settings.permits, settings.per, settings.timeout)
            }
            Policy::TimeLimiter(one) => format!("{:?}", one.settings().limit),
            Policy::Bulkhead(one) => {
                let settings = one.settings();
                format!("{} at once, waits {:?}", settings.calls, settings.max_wait)
            }
        }
    }
}

/// The settings of a policy of any kind.
#[derive(Debug, Clone)]
pub(crate) enum PolicySettings {
    None,
    Retry(RetrySettings),
    CircuitBreaker(BreakerSettings),
    RateLimiter(RateSettings),
    TimeLimiter(TimeLimitSettings),
    Bulkhead(BulkheadSettings),
}

macro_rules! from_policies {
    ($($kind:ident),*) => {
        $(
            impl From<$kind> for Policy {
                fn from(policy: $kind) -> Self {
                    Policy::$kind(policy)
                }
            }
        )*
    };
}

from_policies!(Fallback, Retry, CircuitBreaker, RateLimiter, TimeLimiter, Bulkhead);
