//! Retry: makes a call again that failed in a way that may pass.
//!
//! The first call is an attempt too. A call that succeeds at first costs nothing here. What a policy inside refused is not made
//! again unless it is said so: an open breaker would only refuse again.

mod budget;
mod settings;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::event::{Happened, Hearers, Told};
use super::judge::Came;
use super::policy::Kind;
use super::settings::{checked, overlaid};
use crate::clock::Chance;
use crate::error::{InvalidPolicy, PolicyError};
use budget::Budget;

pub use settings::{RetryBudget, RetrySettings};

/// A retry; clones are the same one, with one budget.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::clock::exponential;
/// use aftercommit::resilience::{Pipeline, RetrySettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let retrying = Pipeline::named("gateway")
///     .retry(RetrySettings::new().attempts(3).backoff(exponential(Duration::from_millis(1)).jitter(0.2)))
///     .build()?;
/// let calls = std::cell::Cell::new(0);
/// let answer: Result<u32, Box<dyn std::error::Error + Send + Sync>> = retrying
///     .call(async || {
///         calls.set(calls.get() + 1);
///         if calls.get() < 3 { Err("not yet".into()) } else { Ok(calls.get()) }
///     })
///     .await;
/// assert_eq!(answer?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Retry(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    declared: Arc<RetrySettings>,
    settings: Mutex<Arc<RetrySettings>>,
    /// Asked on every success, hence beside the settings.
    has_budget: AtomicBool,
    judges_values: bool,
    budget: Budget,
    chance: Chance,
    retries: AtomicU64,
    gave_up: AtomicU64,
    hearers: Hearers,
}

/// What becomes of a call that came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its answer is the answer.
    Keep,
    /// It is made again after this time.
    Again(Duration),
    /// Its value is not wanted, and there is no further attempt.
    Exhausted(PolicyError),
}

impl Retry {
    /// A retry with these settings.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(name: impl Into<Arc<str>>, settings: RetrySettings) -> Result<Self, InvalidPolicy> {
        Self::with_chance(name, settings, Chance::from_system())
    }

    /// As [`new`](Self::new), with jitter drawn from `chance`; for runs that must repeat.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn with_chance(
        name: impl Into<Arc<str>>,
        settings: RetrySettings,
        chance: Chance,
    ) -> Result<Self, InvalidPolicy> {
        let name = name.into();
        let declared = Arc::new(checked(&name, settings)?);
        Ok(Self(Arc::new(Inner {
            has_budget: AtomicBool::new(declared.budget.is_some()),
            judges_values: declared.rules.has_values(),
            budget: Budget::new(declared.budget.as_ref()),
            settings: Mutex::new(declared.clone()),
            declared,
            chance,
            retries: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
            hearers: Hearers::default(),
            name,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many calls were made again.
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }

    /// How many times it gave up although the error was of a kind that may pass.
    pub fn gave_up(&self) -> u64 {
        self.0.gave_up.load(Ordering::Relaxed)
    }

    /// Tells `told` what happens in it out of the ordinary from now on.
    pub fn hear(&self, told: Told) {
        self.0.hearers.add(told, false);
    }

    /// The present settings.
    pub fn settings(&self) -> RetrySettings {
        (**self.0.settings.lock()).clone()
    }

    /// Other settings from now on, calls under way included; the rules stay as they were declared.
    ///
    /// # Errors
    /// If they cannot work; the present ones stay.
    pub fn change(&self, settings: RetrySettings) -> Result<(), InvalidPolicy> {
        let mut settings = checked(&self.0.name, settings)?;
        let mut present = self.0.settings.lock();
        super::settings::Settings::keep(&mut settings, &present);
        self.0.has_budget.store(settings.budget.is_some(), Ordering::Relaxed);
        self.0.budget.change(settings.budget.as_ref());
        *present = Arc::new(settings);
        drop(present);
        self.happened(Happened::Changed);
        Ok(())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn overlay(&self, file: &serde_json::Value) -> Result<RetrySettings, InvalidPolicy> {
        overlaid(&self.0.name, &self.0.declared, file)
    }

    #[inline]
    pub(crate) fn judges_values(&self) -> bool {
        self.0.judges_values
    }

    /// A call succeeded.
    #[inline]
    pub(crate) fn succeeded(&self, attempts: u32) {
        if self.0.has_budget.load(Ordering::Relaxed) {
            self.0.budget.deposit();
        }
        if attempts > 1 {
            self.happened(Happened::Recovered { attempts });
        }
    }

    /// What becomes of the answer of attempt number `attempts`, so long after the first began to fail.
    #[cold]
    pub(crate) fn next(&self, attempts: u32, passed: impl FnOnce() -> Duration, came: Came<'_>) -> Next {
        let settings = self.0.settings.lock().clone();
        let unwanted = match &came {
            Came::Value(value) => settings.rules.counts_value(*value),
            Came::Error(error) => settings.rules.counts(*error),
            Came::Policy(refusal) => settings.repeats(refusal),
        };
        let is_value = matches!(came, Came::Value(_));
        if !unwanted {
            match is_value {
                true => self.succeeded(attempts),
                false => self.happened(Happened::NotRetried),
            }
            return Next::Keep;
        }
        let wait = self.wait(&settings, attempts, &came);
        let in_time = |wait: Duration| settings.within.is_none_or(|within| passed().saturating_add(wait) <= within);
        let may = attempts < settings.attempts && in_time(wait);
        if may && (settings.budget.is_none() || self.0.budget.withdraw()) {
            self.0.retries.fetch_add(1, Ordering::Relaxed);
            self.happened(Happened::Retrying { failed: attempts, wait });
            return Next::Again(wait);
        }
        self.0.gave_up.fetch_add(1, Ordering::Relaxed);
        self.happened(Happened::GaveUp { attempts });
        if is_value && settings.fail_on_value {
            return Next::Exhausted(PolicyError::Exhausted { retry: self.0.name.clone(), attempts });
        }
        Next::Keep
    }

    fn wait(&self, settings: &RetrySettings, failed: u32, came: &Came<'_>) -> Duration {
        let own = |answer: &dyn Any| settings.wait_by.as_ref().and_then(|wait_by| wait_by(failed, answer));
        let said = match came {
            Came::Value(answer) | Came::Error(answer) => own(*answer),
            // It comes back when a trial may be let through, and not before.
            Came::Policy(PolicyError::CircuitOpen { retry_after, .. }) => *retry_after,
            Came::Policy(_) => None,
        };
        said.unwrap_or_else(|| settings.backoff.spread(failed, self.0.chance.fraction()))
    }

    #[cold]
    pub(crate) fn happened(&self, what: Happened) {
        self.0.hearers.tell(Kind::Retry, &self.0.name, || what);
    }
}

impl std::fmt::Debug for Retry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Retry").field("name", &self.0.name).finish_non_exhaustive()
    }
}
