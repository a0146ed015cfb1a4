//! When a circuit breaker opens, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::machine::{Limits, State};
use super::window::Reach;
use crate::clock::span;
use crate::resilience::judge::Rules;
use crate::resilience::settings::Settings;

/// The outcomes that a circuit breaker looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeWindow {
    /// The last so many; `{ last = 100 }` in a file.
    Last(u32),
    /// Those of the last so long, let go of in twentieths of it; `{ within = "10s" }` in a file.
    Within(#[serde(with = "span")] Duration),
}

/// When a circuit breaker opens, and for how long.
///
/// As in resilience4j, except that no call is slow unless it is said which.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// The percentage of failed calls at which it opens; 50 by default.
    pub failure_rate: f64,
    /// The percentage of slow calls at which it opens; 100 by default.
    pub slow_rate: f64,
    /// From when on a call is slow; none is by default, and then no clock is read around a call.
    #[serde(with = "span::optional")]
    pub slow_after: Option<Duration>,
    /// The outcomes it looks at; the last 100 by default.
    pub window: OutcomeWindow,
    /// Fewer calls than this say nothing; 100 by default, and never more than the window holds.
    pub minimum_calls: u32,
    /// How many trials it lets through when half-open; 10 by default.
    pub trials: u32,
    /// How long it may stay half-open before it opens again; as long as the trials take by default.
    #[serde(with = "span::optional")]
    pub trial_time: Option<Duration>,
    /// How long it stays open before it lets trials through; 60 s by default.
    #[serde(with = "span")]
    pub open_for: Duration,
    /// By which factor that grows each time it opens again without having been closed; 1 by default.
    pub growth: f64,
    /// How long it stays open at most where that grows; an hour by default.
    #[serde(with = "span")]
    pub open_at_most: Duration,
    /// The state it begins in; closed by default.
    pub initial: State,
    #[serde(skip)]
    pub(crate) rules: Rules,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failure_rate: 50.0,
            slow_rate: 100.0,
            slow_after: None,
            window: OutcomeWindow::Last(100),
            minimum_calls: 100,
            trials: 10,
            trial_time: None,
            open_for: Duration::from_secs(60),
            growth: 1.0,
            open_at_most: Duration::from_secs(3600),
            initial: State::Closed,
            rules: Rules::default(),
        }
    }
}

impl BreakerSettings {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens when so many percent of calls failed.
    pub fn failure_rate(mut self, percent: f64) -> Self {
        self.failure_rate = percent;
        self
    }

    /// Opens when so many percent of calls took longer than `after`.
    pub fn slow_calls(mut self, after: Duration, percent: f64) -> Self {
        (self.slow_after, self.slow_rate) = (Some(after), percent);
        self
    }

    /// Looks at the last so many outcomes.
    pub fn last(mut self, count: u32) -> Self {
        self.window = OutcomeWindow::Last(count);
        self
    }

    /// Looks at the outcomes of the last so long.
    pub fn within(mut self, time: Duration) -> Self {
        self.window = OutcomeWindow::Within(time);
        self
    }

    /// Judges from so many calls on.
    pub fn minimum_calls(mut self, count: u32) -> Self {
        self.minimum_calls = count;
        self
    }

    /// Lets so many trials through when half-open.
    pub fn trials(mut self, count: u32) -> Self {
        self.trials = count;
        self
    }

    /// Opens again if the trials are not back within so long.
    pub fn trial_time(mut self, time: Duration) -> Self {
        self.trial_time = Some(time);
        self
    }

    /// Stays open for so long.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Stays open longer by this factor each further time, at most `at_most`.
    pub fn growing(mut self, factor: f64, at_most: Duration) -> Self {
        (self.growth, self.open_at_most) = (factor, at_most);
        self
    }

    /// Begins in this state.
    pub fn initial(mut self, state: State) -> Self {
        self.initial = state;
        self
    }

    /// Which errors count as failures; all by default. Others are as if the call had not been made.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    pub(super) fn limits(&self) -> Limits {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Limits {
            failure_rate: self.failure_rate,
            slow_rate: self.slow_rate,
            minimum_calls: self.minimum_calls,
            reach: match self.window {
                OutcomeWindow::Last(count) => Reach::Count(count),
                OutcomeWindow::Within(time) => Reach::Time(nanos(time)),
            },
            trials: self.trials,
            trial_time: self.trial_time.map(nanos),
            open_for: nanos(self.open_for),
            growth: self.growth,
            open_at_most: nanos(self.open_at_most),
        }
    }
}

/// Rings of outcomes are kept in memory.
const MOST: u32 = 1_000_000;

impl Settings for BreakerSettings {
    const KIND: &'static str = "circuit breaker";

    fn check(&self) -> Result<(), String> {
        let percent = |rate: f64| rate > 0.0 && rate <= 100.0;
        let wrong = [
            (!percent(self.failure_rate), "its failure rate is a percentage: give it one above 0 and up to 100"),
            (!percent(self.slow_rate), "its rate of slow calls is a percentage: give it one above 0 and up to 100"),
            (self.slow_after == Some(Duration::ZERO), "every call takes longer than nothing: give slow calls a time"),
            (
                matches!(self.window, OutcomeWindow::Last(count) if count == 0 || count > MOST),
                "it looks at none of its outcomes, or at too many: let it look at the last 1 to 1,000,000",
            ),
            (
                matches!(self.window, OutcomeWindow::Within(time) if time < Duration::from_millis(20)),
                "it looks at the outcomes of no time: let it look at 20 ms or more",
            ),
            (self.minimum_calls == 0, "it judges without a call: let it wait for 1 or more"),
            (self.trials == 0, "it lets no trial through, so that it never closes again: give it 1 or more"),
            (self.trial_time == Some(Duration::ZERO), "it has no time for its trials: give it some, or leave it out"),
            (self.open_for.is_zero(), "it stays open for no time: give it some"),
            (!(self.growth.is_finite() && self.growth >= 1.0), "its time open shrinks: give it a factor of 1 or more"),
        ];
        wrong.into_iter().find_map(|(is_wrong, reason)| is_wrong.then(|| Err(reason.to_owned()))).unwrap_or(Ok(()))
    }

    fn keep(&mut self, declared: &Self) {
        self.rules = declared.rules.clone();
    }
}
