//! How often, after how long, and for which errors a call is made again.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Backoff, exponential, span};
use crate::error::PolicyError;
use crate::resilience::judge::Rules;
use crate::resilience::settings::Settings;

/// How often, after how long, and for which errors a call is made again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RetrySettings {
    /// How many calls are made in all, the first one counted; 3 by default.
    pub attempts: u32,
    /// How long to wait between them; exponential from 100 ms to 1 min by default.
    pub backoff: Backoff,
    /// How long after the first call came back the last one may begin; no limit by default.
    #[serde(with = "span::optional")]
    pub within: Option<Duration>,
    /// How many calls may be made again in proportion to those that succeed; no limit by default.
    pub budget: Option<RetryBudget>,
    /// Whether a value that is not wanted is an error once the attempts are used up; `false` by default: it is the answer.
    pub fail_on_value: bool,
    /// Whether a call that an open breaker refused is made again, once the breaker lets a trial through; `false` by default.
    pub when_open: bool,
    /// Whether a call that a rate limiter or a bulkhead refused is made again; `false` by default.
    pub when_full: bool,
    #[serde(skip)]
    pub(crate) rules: Rules,
    #[serde(skip)]
    pub(crate) wait_by: Option<WaitBy>,
}

/// How long to wait, by how many attempts failed and by what the last one came to.
pub(crate) type WaitBy = Arc<dyn Fn(u32, &dyn Any) -> Option<Duration> + Send + Sync>;

/// A limit for retries in proportion to success: `{ share = 0.1, reserve = 10 }` in a file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryBudget {
    /// How much of a retry each success pays for; 0.1 for one retry per ten successes.
    pub share: f64,
    /// How many retries are saved up at most; as many may be made at the beginning.
    pub reserve: u32,
}

impl fmt::Debug for RetrySettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RetrySettings")
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("within", &self.within)
            .field("budget", &self.budget)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: exponential(Duration::from_millis(100)),
            within: None,
            budget: None,
            fail_on_value: false,
            when_open: false,
            when_full: false,
            rules: Rules::default(),
            wait_by: None,
        }
    }
}

/// Attempts without end.
const WITHOUT_END: u32 = u32::MAX;

impl RetrySettings {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many calls are made in all, the first one counted.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Makes the call until it succeeds, or until [`within`](Self::within) or the budget says stop.
    pub fn without_end(mut self) -> Self {
        self.attempts = WITHOUT_END;
        self
    }

    /// How long to wait between calls.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long to wait, by how many attempts failed and by the error or value of the last one, where it is of this type; the
    /// [backoff](Self::backoff) where it is not, or where the function answers `None`.
    pub fn wait_by<A: 'static>(mut self, wait: impl Fn(u32, &A) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.wait_by = Some(Arc::new(move |failed, answer| wait(failed, answer.downcast_ref()?)));
        self
    }

    /// Begins no call later than this after the first one came back.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Makes at most so much of a call again for each that succeeds, and saves up `reserve` of them.
    pub fn budget(mut self, share: f64, reserve: u32) -> Self {
        self.budget = Some(RetryBudget { share, reserve });
        self
    }

    /// Which errors may pass, and which values are not wanted; all errors and no values by default.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Answers [`PolicyError::Exhausted`] instead of a value that is not wanted.
    pub fn fail_on_value(mut self) -> Self {
        self.fail_on_value = true;
        self
    }

    /// Makes a call again that an open breaker refused, once the breaker lets a trial through.
    pub fn when_open(mut self) -> Self {
        self.when_open = true;
        self
    }

    /// Makes a call again that a rate limiter or a bulkhead refused.
    pub fn when_full(mut self) -> Self {
        self.when_full = true;
        self
    }

    /// Whether nothing but success ends it.
    pub(crate) fn is_endless(&self) -> bool {
        self.attempts == WITHOUT_END && self.within.is_none() && self.budget.is_none()
    }

    /// How long all its waits take together, without jitter.
    pub(crate) fn waits(&self) -> Duration {
        let waits = self.attempts.saturating_sub(1).min(10_000);
        (1..=waits).fold(Duration::ZERO, |all, failed| all.saturating_add(self.backoff.after(failed)))
    }

    pub(super) fn repeats(&self, refusal: &PolicyError) -> bool {
        match refusal {
            PolicyError::TimedOut { .. } => true,
            PolicyError::CircuitOpen { .. } => self.when_open,
            PolicyError::RateLimited { .. } | PolicyError::BulkheadFull { .. } => self.when_full,
            _ => false,
        }
    }
}

impl Settings for RetrySettings {
    const KIND: &'static str = "retry";

    fn check(&self) -> Result<(), String> {
        if self.attempts == 0 {
            return Err("the first call is an attempt, so there is at least 1: give it 1 for no retry".to_owned());
        }
        if let Some(budget) = &self.budget
            && !((0.0..=100.0).contains(&budget.share) && budget.reserve > 0)
        {
            return Err(
                "its budget pays for nothing: give it a share from 0.0 to 100.0 and a reserve of 1 or more".to_owned()
            );
        }
        self.backoff.check().map_err(str::to_owned)
    }

    fn keep(&mut self, declared: &Self) {
        (self.rules, self.wait_by) = (declared.rules.clone(), declared.wait_by.clone());
    }
}
