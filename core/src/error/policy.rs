//! A call that a policy did not let through, or cut short.

use std::sync::Arc;
use std::time::Duration;

/// What a resilience policy answers in the place of a call; each names the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The circuit breaker lets no call through, or no further trial.
    #[error("circuit breaker `{breaker}` is {state} and lets no call through")]
    CircuitOpen {
        /// The breaker.
        breaker: Arc<str>,
        /// Its state: `open`, `half-open` or `forced-open`.
        state: &'static str,
        /// When it lets a trial through, if that is known.
        retry_after: Option<Duration>,
    },
    /// The rate limiter has no permit within the time that the caller would wait.
    #[error("rate limiter `{limiter}` has no permit within {timeout:?}")]
    RateLimited {
        /// The limiter.
        limiter: Arc<str>,
        /// How long the caller would have waited.
        timeout: Duration,
        /// When there is a permit.
        retry_after: Duration,
    },
    /// As many calls as the bulkhead allows were under way for as long as the caller would wait.
    #[error("bulkhead `{bulkhead}` was full for {waited:?}")]
    BulkheadFull {
        /// The bulkhead.
        bulkhead: Arc<str>,
        /// How long the caller waited.
        waited: Duration,
    },
    /// The call took too long and was dropped.
    #[error("time limiter `{limiter}`: the call took longer than {limit:?}")]
    TimedOut {
        /// The limiter.
        limiter: Arc<str>,
        /// How long it may take.
        limit: Duration,
    },
    /// The last allowed attempt brought a value that is not wanted.
    #[error("retry `{retry}`: the answer was still not one to keep after {attempts} attempts")]
    Exhausted {
        /// The retry.
        retry: Arc<str>,
        /// How many calls were made.
        attempts: u32,
    },
    /// A `fn` was called through a time limiter, which can only drop a future.
    #[error("time limiter `{limiter}` cannot stop a `fn`: make the call an `async fn`, or leave the limiter out")]
    CannotStop {
        /// The limiter.
        limiter: Arc<str>,
    },
}

impl PolicyError {
    /// The name of the policy that answered.
    pub fn policy(&self) -> &str {
        match self {
            PolicyError::CircuitOpen { breaker: name, .. }
            | PolicyError::RateLimited { limiter: name, .. }
            | PolicyError::BulkheadFull { bulkhead: name, .. }
            | PolicyError::TimedOut { limiter: name, .. }
            | PolicyError::Exhausted { retry: name, .. }
            | PolicyError::CannotStop { limiter: name } => name,
        }
    }

    /// When it may be worth it to ask again, where the policy knows.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            PolicyError::CircuitOpen { retry_after, .. } => *retry_after,
            PolicyError::RateLimited { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether the call was never made: by a breaker, a rate limiter or a bulkhead.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, PolicyError::TimedOut { .. } | PolicyError::Exhausted { .. })
    }
}

/// A policy, or a pipeline of them, that cannot work as it is declared or configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{policy} cannot work: {reason}")]
#[non_exhaustive]
pub struct InvalidPolicy {
    /// What kind of policy, and its name.
    pub policy: String,
    /// What is wrong, and the legal forms.
    pub reason: String,
}

impl InvalidPolicy {
    /// That `policy` cannot work for this reason.
    pub fn new(policy: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { policy: policy.into(), reason: reason.into() }
    }
}
