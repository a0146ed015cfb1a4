//! How the dependencies behind the policies are, as far as the policies can see.

use super::Policies;
use super::each;
use crate::resilience::circuit_breaker::State;
use crate::resilience::policy::{Kind, Policy};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Calls are let through.
    Up,
    /// Some calls are refused: a breaker is half-open, a bulkhead is full, a cycle is used up.
    Degraded,
    /// No call is let through: a breaker is open.
    Down,
}

/// How one policy is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PolicyHealth {
    /// What kind of policy, as in `circuit breaker`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// Why, in figures.
    pub detail: String,
}

impl Policies {
    /// How each breaker, bulkhead and rate limiter is right now; a policy that several pipelines share stands there once.
    pub fn health(&self) -> Vec<PolicyHealth> {
        each(&self.pipelines()).filter_map(health).collect()
    }

    /// How the worst of them is; up if there is none.
    pub fn worst(&self) -> Health {
        self.health().iter().map(|one| one.health).max().unwrap_or(Health::Up)
    }
}

fn health(policy: &Policy) -> Option<PolicyHealth> {
    let (health, detail) = match policy {
        Policy::CircuitBreaker(breaker) => {
            let look = breaker.look();
            let health = match look.state {
                State::Closed | State::Disabled | State::MetricsOnly => Health::Up,
                State::HalfOpen => Health::Degraded,
                State::Open | State::ForcedOpen => Health::Down,
            };
            let rate = look.failure_rate.map_or("unknown".to_owned(), |rate| format!("{rate:.1} %"));
            (health, format!("{}, failure rate {rate}, {} refused", look.state.name(), look.refused))
        }
        Policy::Bulkhead(bulkhead) => {
            let (inside, calls) = (bulkhead.inside(), bulkhead.settings().calls);
            let health = if inside >= calls { Health::Degraded } else { Health::Up };
            (health, format!("{inside} of {calls} at once, {} wait", bulkhead.waiting()))
        }
        Policy::RateLimiter(limiter) => {
            let available = limiter.available();
            let health = if available <= 0 { Health::Degraded } else { Health::Up };
            (health, format!("{available} permits left, {} wait", limiter.waiting()))
        }
        Policy::Retry(_) | Policy::TimeLimiter(_) | Policy::Fallback(_) => return None,
    };
    Some(PolicyHealth { kind: Kind::name(policy.kind()), name: policy.name().to_owned(), health, detail })
}
