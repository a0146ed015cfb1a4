//! Policies around a call, one inside the other.
//!
//! In the default nesting it does not matter in which order they are written:
//!
//! ```text
//! Fallback( Retry( CircuitBreaker( RateLimiter( TimeLimiter( Bulkhead( call ))))))
//! ```
//!
//! as in resilience4j, with the fallback around everything. Another nesting is asked for with `as_written`, and then the policy that
//! is written first is the outermost. How a call goes through them is in [`run`](super::run).

mod builder;

use std::fmt;
use std::sync::Arc;

pub use builder::PipelineBuilder;

use super::circuit_breaker::CircuitBreaker;
use super::defeat::{self, Defeat};
use super::event::Told;
use super::policy::Policy;
use super::run;
use crate::clock::{Clock, SystemClock};
use crate::error::PolicyError;

/// Why a call through a pipeline failed: a policy, or the call itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// A policy answered in the place of the call.
    #[error(transparent)]
    Policy(PolicyError),
    /// The call's own error, as it is.
    #[error("the call failed")]
    Call(E),
}

impl<E: From<PolicyError>> CallError<E> {
    /// The error as the call would say it.
    pub fn into_own(self) -> E {
        match self {
            CallError::Policy(error) => error.into(),
            CallError::Call(error) => error,
        }
    }
}

/// Policies around a call; clones are the same ones.
///
/// It lives where its dependency lives: one pipeline for a gateway, not one for each function that calls it.
///
/// ```
/// use std::sync::LazyLock;
/// use std::time::Duration;
///
/// use aftercommit::resilience::{BreakerSettings, BulkheadSettings, Pipeline, RateSettings, RetrySettings};
///
/// static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| {
///     Pipeline::named("gateway")
///         .retry(RetrySettings::new().attempts(3))
///         .circuit_breaker(BreakerSettings::new().failure_rate(50.0))
///         .rate_limiter(RateSettings::new(100, Duration::from_secs(1)))
///         .time_limiter(Duration::from_secs(2))
///         .bulkhead(BulkheadSettings::new(10))
///         .build()
///         .expect("legal")
/// });
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let answer: Result<u32, Box<dyn std::error::Error + Send + Sync>> = GATEWAY.call(async || Ok(7)).await;
/// assert_eq!(answer?, 7);
/// assert_eq!(GATEWAY.nesting(), "Retry(CircuitBreaker(RateLimiter(TimeLimiter(Bulkhead(call)))))");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pipeline(pub(crate) Arc<Plan>);

/// What a pipeline is made of.
pub(crate) struct Plan {
    pub(crate) name: Arc<str>,
    /// The outermost first.
    pub(crate) levels: Box<[Policy]>,
    pub(crate) clock: Arc<dyn Clock>,
    as_written: bool,
    /// Whether a call may be made several times.
    pub(crate) retries: bool,
    /// Whether a policy looks at the values of calls that succeed.
    pub(crate) judges_values: bool,
    /// The name of its outermost time limiter, if there is one.
    pub(crate) limiter: Option<Arc<str>>,
}

impl Plan {
    fn new(name: Arc<str>, levels: Box<[Policy]>, clock: Arc<dyn Clock>, as_written: bool) -> Self {
        let retries = levels.iter().any(|level| matches!(level, Policy::Retry(_)));
        let judges_values = levels.iter().any(|level| match level {
            Policy::Retry(retry) => retry.judges_values(),
            Policy::CircuitBreaker(breaker) => breaker.judges_values(),
            _ => false,
        });
        let limiter = levels.iter().find_map(|level| match level {
            Policy::TimeLimiter(limiter) => Some(limiter.name().into()),
            _ => None,
        });
        Self { name, levels, clock, as_written, retries, judges_values, limiter }
    }
}

/// How many policies one pipeline has at most.
pub const LEVELS: usize = 8;

impl Pipeline {
    /// Begins a pipeline of this name, which its policies get too.
    pub fn named(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder::named(name.into())
    }

    /// A pipeline of one policy, with its name.
    pub fn of(policy: impl Into<Policy>) -> Self {
        let policy = policy.into();
        let clock: Arc<dyn Clock> = match &policy {
            Policy::CircuitBreaker(breaker) => breaker.clock().clone(),
            _ => Arc::new(SystemClock),
        };
        Self(Arc::new(Plan::new(policy.name().into(), Box::new([policy]), clock, false)))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn retries(&self) -> bool {
        self.0.retries
    }

    pub(crate) fn limits_time(&self) -> bool {
        self.0.limiter.is_some()
    }

    /// Whether a call may have to wait, as things are configured now.
    pub(crate) fn may_wait(&self) -> bool {
        self.0.levels.iter().any(|level| match level {
            Policy::Retry(retry) => {
                let settings = retry.settings();
                !settings.waits().is_zero() || settings.wait_by.is_some() || settings.when_open
            }
            Policy::RateLimiter(limiter) => !limiter.settings().timeout.is_zero(),
            Policy::Bulkhead(bulkhead) => !bulkhead.settings().max_wait.is_zero(),
            Policy::Fallback(_) | Policy::CircuitBreaker(_) | Policy::TimeLimiter(_) => false,
        })
    }

    /// Whether its nesting is another than the default.
    pub(crate) fn is_as_written(&self) -> bool {
        self.0.as_written
    }

    /// Its policies, the outermost first.
    pub fn policies(&self) -> &[Policy] {
        &self.0.levels
    }

    /// The nesting as one would write it: `Retry(CircuitBreaker(call))`.
    pub fn nesting(&self) -> String {
        let open: String = self.0.levels.iter().map(|level| format!("{}(", level.kind().picture())).collect();
        format!("{open}call{}", ")".repeat(self.0.levels.len()))
    }

    /// What is suspicious about this nesting with these settings, as far as one can see.
    pub fn warnings(&self) -> Vec<Defeat> {
        defeat::look(&self.0.levels).unwrap_or_else(|defeat| vec![defeat])
    }

    /// Its circuit breaker of this name.
    pub fn breaker(&self, name: &str) -> Option<&CircuitBreaker> {
        self.0.levels.iter().find_map(|level| match level {
            Policy::CircuitBreaker(breaker) if breaker.name() == name => Some(breaker),
            _ => None,
        })
    }

    /// Tells `told` what happens in its policies out of the ordinary from now on.
    pub fn hear(&self, told: &Told) {
        self.0.levels.iter().for_each(|level| level.hear(told.clone()));
    }

    /// As [`hear`](Self::hear), and each call that is let through and comes back too, which every call then pays for.
    pub fn hear_all(&self, told: &Told) {
        self.0.levels.iter().for_each(|level| level.hear_all(told.clone()));
    }

    /// Calls `call` through all policies; a policy's answer is turned into the call's own error type. Each attempt is a clone of
    /// `call`, which costs nothing where it borrows what it needs.
    ///
    /// # Errors
    /// The call's own, unwrapped; or a [`PolicyError`] in it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call and gives back all it holds of the policies; a breaker counts it as not made.
    #[inline]
    pub fn call<T, E>(&self, call: impl AsyncFnOnce() -> Result<T, E> + Clone) -> impl Future<Output = Result<T, E>>
    where
        T: 'static,
        E: From<PolicyError> + 'static,
    {
        let mut kept = run::Again::new(&self.0, call);
        run::call(&self.0, move || kept.take()(), own)
    }

    /// As [`call`](Self::call), for an error type that cannot hold a [`PolicyError`].
    ///
    /// # Errors
    /// The call's own, or a policy's.
    #[inline]
    pub fn run<T, E>(
        &self,
        call: impl AsyncFnOnce() -> Result<T, E> + Clone,
    ) -> impl Future<Output = Result<T, CallError<E>>>
    where
        T: 'static,
        E: 'static,
    {
        let mut kept = run::Again::new(&self.0, call);
        run::call(&self.0, move || kept.take()(), std::convert::identity)
    }

    /// As [`call`](Self::call), for a `fn`, waiting on the calling thread.
    ///
    /// # Errors
    /// As for `call`; [`PolicyError::CannotStop`] if it has a time limiter, as a `fn` cannot be stopped.
    pub fn call_blocking<T, E>(&self, call: impl FnMut() -> Result<T, E>) -> Result<T, E>
    where
        T: 'static,
        E: From<PolicyError> + 'static,
    {
        run::call_blocking(&self.0, call, own)
    }

    /// As [`call_blocking`](Self::call_blocking), for an error type that cannot hold a [`PolicyError`].
    ///
    /// # Errors
    /// The call's own, or a policy's.
    pub fn run_blocking<T, E>(&self, call: impl FnMut() -> Result<T, E>) -> Result<T, CallError<E>>
    where
        T: 'static,
        E: 'static,
    {
        run::call_blocking(&self.0, call, std::convert::identity)
    }

    /// As [`call`](Self::call), with arguments that are cloned only where another attempt may need them.
    ///
    /// # Errors
    /// As for `call`.
    #[inline]
    pub fn call_with<A, T, E, C>(
        &self,
        arguments: A,
        mut call: impl FnMut(A) -> C,
    ) -> impl Future<Output = Result<T, E>>
    where
        A: Clone,
        T: 'static,
        E: From<PolicyError> + 'static,
        C: Future<Output = Result<T, E>>,
    {
        let mut kept = run::Again::new(&self.0, arguments);
        run::call(&self.0, move || call(kept.take()), own)
    }

    /// As [`call`](Self::call), where each attempt is made by one function.
    pub(crate) fn call_each<T, E, C>(&self, call: impl FnMut() -> C) -> impl Future<Output = Result<T, E>>
    where
        T: 'static,
        E: From<PolicyError> + 'static,
        C: Future<Output = Result<T, E>>,
    {
        run::call(&self.0, call, own)
    }

    /// As [`call_blocking`](Self::call_blocking), with arguments that are cloned only where another attempt may need them.
    ///
    /// # Errors
    /// As for `call_blocking`.
    pub fn call_blocking_with<A, T, E>(&self, arguments: A, mut call: impl FnMut(A) -> Result<T, E>) -> Result<T, E>
    where
        A: Clone,
        T: 'static,
        E: From<PolicyError> + 'static,
    {
        let mut kept = run::Again::new(&self.0, arguments);
        self.call_blocking(|| call(kept.take()))
    }
}

/// What a call came to, as the call would say it.
#[inline]
fn own<T, E: From<PolicyError>>(came: Result<T, CallError<E>>) -> Result<T, E> {
    came.map_err(CallError::into_own)
}

/// The name, the nesting, each policy's settings from the outermost in, and what is suspicious about it.
impl fmt::Display for Pipeline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.0.as_written { "as written" } else { "default nesting" };
        writeln!(out, "{}: {} ({how})", self.0.name, self.nesting())?;
        for level in &self.0.levels {
            write!(out, "  {} `{}`", level.kind().name(), level.name())?;
            let settings = level.told_settings();
            if settings.is_empty() { writeln!(out) } else { writeln!(out, ": {settings}") }?;
        }
        self.warnings().iter().try_for_each(|warning| writeln!(out, "  warning: {warning}"))
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pipeline").field("name", &self.0.name).field("nesting", &self.nesting()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::fixed;
    use crate::error::InvalidPolicy;
    use crate::resilience::retry::RetrySettings;

    #[test]
    fn who_retries_when_a_breaker_is_open_may_wait_for_it() -> Result<(), InvalidPolicy> {
        let at_once = || RetrySettings::new().backoff(fixed(Duration::ZERO));
        assert!(!Pipeline::named("gateway").retry(at_once()).build()?.may_wait());
        assert!(Pipeline::named("gateway").retry(at_once().when_open()).build()?.may_wait());
        Ok(())
    }
}
