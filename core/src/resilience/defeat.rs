//! Nestings that defeat themselves: refused where nothing good can come of them, else warned about, with the reason in numbers.

use std::fmt;
use std::time::Duration;

use super::circuit_breaker::OutcomeWindow;
use super::policy::{Kind, Policy};

/// Why a nesting with its settings does not do what its policies are for; its `Display` is a sentence that says what to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Defeat {
    /// A fallback inside a policy hides the errors that the policy lives on. Refused.
    Hidden {
        /// The policy around it: a retry or a circuit breaker.
        from: Kind,
    },
    /// A retry without end makes calls again that an open breaker refuses. Refused.
    Hammers,
    /// A retry inside a breaker: the breaker sees one outcome for all attempts, and an open one stops no attempt under way.
    OneOutcome {
        /// How many attempts.
        attempts: u32,
    },
    /// A time limiter around a breaker: what is cut short never reaches the breaker.
    UnseenTimeouts,
    /// A time limiter around a retry whose waits alone take longer.
    WaitsTooLong {
        /// How long the waits take together.
        waits: Duration,
        /// How long all may take.
        limit: Duration,
    },
    /// A bulkhead around a retry keeps its place while the retry waits.
    KeepsItsPlace {
        /// How long the waits take together.
        waits: Duration,
    },
    /// A rate limiter around a retry: further attempts take no permit.
    Unlimited {
        /// How many attempts.
        attempts: u32,
    },
    /// Two retries, one inside the other, multiply their attempts.
    Multiplied {
        /// How many calls one call becomes at most.
        attempts: u64,
    },
    /// A time limiter around a wait that may take as long as all.
    WaitsInside {
        /// The policy that waits.
        kind: Kind,
        /// How long it may wait.
        wait: Duration,
        /// How long all may take.
        limit: Duration,
    },
    /// All attempts after an open breaker's refusal come while it is still open.
    AllWhileOpen {
        /// How long the waits take together.
        waits: Duration,
        /// How long the breaker stays open.
        open_for: Duration,
    },
    /// No call is slow, as a time limiter cuts it short before.
    NeverSlow {
        /// From when on a call is slow.
        slow_after: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// A retry of one attempt makes nothing again.
    OneAttempt,
    /// A breaker inside a rate limiter sees too few calls in its window to judge.
    TooFewCalls {
        /// How many calls it sees at most.
        calls: u64,
        /// How many it wants.
        minimum: u32,
    },
}

impl fmt::Display for Defeat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defeat::Hidden { from } => write!(
                out,
                "the fallback stands inside the {0}, which then never sees an error: put it around the {0}",
                from.name()
            ),
            Defeat::Hammers => out.write_str(
                "the retry makes calls without end that the open circuit breaker inside it refuses: give it `attempts`, `within` or a \
                 `budget`, or drop `when_open`",
            ),
            Defeat::OneOutcome { attempts } => write!(
                out,
                "the circuit breaker stands around the retry, so that {attempts} failed attempts are one failure to it, and none of \
                 them is stopped once it is open: put the retry outside"
            ),
            Defeat::UnseenTimeouts => out.write_str(
                "the time limiter stands around the circuit breaker, so that calls which take too long are no failures to it: put it inside",
            ),
            Defeat::WaitsTooLong { waits, limit } => write!(
                out,
                "the waits of the retry take {waits:?} and the time limiter around it ends everything after {limit:?}: the last attempts \
                 are never made"
            ),
            Defeat::KeepsItsPlace { waits } => write!(
                out,
                "the bulkhead stands around the retry and keeps its place while that waits, up to {waits:?} a call: put it inside"
            ),
            Defeat::Unlimited { attempts } => write!(
                out,
                "the rate limiter stands around the retry, so that one permit pays for {attempts} calls: put it inside"
            ),
            Defeat::Multiplied { attempts } => {
                write!(out, "one retry stands inside another, so that one call becomes up to {attempts}: drop one of them")
            }
            Defeat::WaitsInside { kind, wait, limit } => write!(
                out,
                "the {} waits up to {wait:?} inside a time limiter of {limit:?}: waiting alone can use that time up",
                kind.name()
            ),
            Defeat::AllWhileOpen { waits, open_for } => write!(
                out,
                "all attempts of the retry are over after {waits:?} while the circuit breaker stays open for {open_for:?}: none is let \
                 through once it opened"
            ),
            Defeat::NeverSlow { slow_after, limit } => write!(
                out,
                "a call is slow after {slow_after:?} but dropped after {limit:?}: it fails before it is slow"
            ),
            Defeat::OneAttempt => out.write_str("the retry has 1 attempt, which is the first call: it makes nothing again"),
            Defeat::TooFewCalls { calls, minimum } => write!(
                out,
                "the rate limiter lets at most {calls} calls into the window of the circuit breaker, which judges from {minimum} on: it \
                 never opens"
            ),
        }
    }
}

/// Looks at every pair of policies, one around the other. A defeat that nothing good can come of is the error.
pub(crate) fn look(levels: &[Policy]) -> Result<Vec<Defeat>, Defeat> {
    let mut warnings = Vec::new();
    for (at, outer) in levels.iter().enumerate() {
        if let Policy::Retry(retry) = outer
            && retry.settings().attempts == 1
        {
            warnings.push(Defeat::OneAttempt);
        }
        for inner in &levels[at + 1..] {
            if let Some(defeat) = refused(outer, inner) {
                return Err(defeat);
            }
            warnings.extend(suspicious(outer, inner));
        }
    }
    Ok(warnings)
}

fn refused(outer: &Policy, inner: &Policy) -> Option<Defeat> {
    match (outer, inner) {
        (Policy::Retry(_) | Policy::CircuitBreaker(_), Policy::Fallback(_)) => {
            Some(Defeat::Hidden { from: outer.kind() })
        }
        (Policy::Retry(retry), Policy::CircuitBreaker(_)) => {
            let settings = retry.settings();
            (settings.is_endless() && settings.when_open).then_some(Defeat::Hammers)
        }
        _ => None,
    }
}

fn suspicious(outer: &Policy, inner: &Policy) -> Option<Defeat> {
    match (outer, inner) {
        (Policy::Retry(outer), Policy::Retry(inner)) => {
            let attempts = u64::from(outer.settings().attempts) * u64::from(inner.settings().attempts);
            Some(Defeat::Multiplied { attempts })
        }
        (Policy::CircuitBreaker(_), Policy::Retry(retry)) => {
            Some(Defeat::OneOutcome { attempts: retry.settings().attempts })
        }
        (Policy::RateLimiter(_), Policy::Retry(retry)) => {
            Some(Defeat::Unlimited { attempts: retry.settings().attempts })
        }
        (Policy::Bulkhead(_), Policy::Retry(retry)) => Some(Defeat::KeepsItsPlace { waits: retry.settings().waits() }),
        (Policy::TimeLimiter(limiter), Policy::Retry(retry)) => {
            let (waits, limit) = (retry.settings().waits(), limiter.settings().limit);
            (waits >= limit).then_some(Defeat::WaitsTooLong { waits, limit })
        }
        (Policy::TimeLimiter(_), Policy::CircuitBreaker(_)) => Some(Defeat::UnseenTimeouts),
        (Policy::TimeLimiter(limiter), Policy::RateLimiter(rate)) => {
            waits_inside(Kind::RateLimiter, rate.settings().timeout, limiter.settings().limit)
        }
        (Policy::TimeLimiter(limiter), Policy::Bulkhead(bulkhead)) => {
            waits_inside(Kind::Bulkhead, bulkhead.settings().max_wait, limiter.settings().limit)
        }
        (Policy::Retry(retry), Policy::CircuitBreaker(breaker)) => {
            let (settings, open_for) = (retry.settings(), breaker.settings().open_for);
            let (waits, waits_for_it) = (settings.waits(), settings.when_open);
            // Waiting as long as the breaker says is what `when_open` does, unless its own time ends before.
            let ends_before = settings.within.is_some_and(|within| within < open_for);
            (waits_for_it && ends_before)
                .then_some(Defeat::AllWhileOpen { waits: settings.within.unwrap_or(waits), open_for })
        }
        (Policy::CircuitBreaker(breaker), Policy::TimeLimiter(limiter)) => {
            let (slow_after, limit) = (breaker.settings().slow_after?, limiter.settings().limit);
            (limit <= slow_after).then_some(Defeat::NeverSlow { slow_after, limit })
        }
        (Policy::RateLimiter(rate), Policy::CircuitBreaker(breaker))
        | (Policy::CircuitBreaker(breaker), Policy::RateLimiter(rate)) => {
            let (rate, breaker) = (rate.settings(), breaker.settings());
            let OutcomeWindow::Within(window) = breaker.window else { return None };
            let cycles = window.as_nanos().div_ceil(rate.per.as_nanos().max(1));
            let calls = u64::try_from(cycles).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(rate.permits.into());
            let minimum = breaker.minimum_calls;
            (calls < minimum.into()).then_some(Defeat::TooFewCalls { calls, minimum })
        }
        _ => None,
    }
}

fn waits_inside(kind: Kind, wait: Duration, limit: Duration) -> Option<Defeat> {
    (wait >= limit).then_some(Defeat::WaitsInside { kind, wait, limit })
}
