//! Figures of policies.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::resilience::{Happened, Policies, Policy, PolicyEvent, State};

pub(super) fn describe() {
    describe_counter!("aftercommit_policy_refused_total", "calls that a policy did not let through");
    describe_counter!("aftercommit_breaker_moved_total", "transitions of circuit breakers");
    describe_counter!("aftercommit_retried_total", "calls made again");
    describe_counter!("aftercommit_gave_up_total", "calls not made again");
    describe_counter!("aftercommit_timed_out_total", "calls dropped, as they took too long");
    describe_counter!("aftercommit_fell_back_total", "answers of fallbacks");
    describe_gauge!("aftercommit_breaker_state", "1 for the state a circuit breaker is in");
    describe_gauge!("aftercommit_breaker_failure_rate", metrics::Unit::Percent, "calls that failed");
    describe_gauge!("aftercommit_bulkhead_calls", "calls under way");
    describe_gauge!("aftercommit_policy_waiting", "callers that wait for a bulkhead or a rate limiter");
    describe_gauge!("aftercommit_permits", "permits that a rate limiter has left");
}

pub(super) fn count(event: &PolicyEvent) {
    let name = event.name.to_string();
    match event.what {
        Happened::Refused => {
            counter!("aftercommit_policy_refused_total", "kind" => event.kind.key(), "name" => name).increment(1);
        }
        Happened::Moved { to, .. } => {
            counter!("aftercommit_breaker_moved_total", "name" => name, "to" => to.name()).increment(1);
        }
        Happened::Retrying { .. } => counter!("aftercommit_retried_total", "name" => name).increment(1),
        Happened::GaveUp { .. } => counter!("aftercommit_gave_up_total", "name" => name).increment(1),
        Happened::TimedOut { .. } => counter!("aftercommit_timed_out_total", "name" => name).increment(1),
        Happened::FellBack => counter!("aftercommit_fell_back_total", "name" => name).increment(1),
        _ => {}
    }
}

const STATES: [State; 6] =
    [State::Closed, State::Open, State::HalfOpen, State::ForcedOpen, State::Disabled, State::MetricsOnly];

pub(super) fn sample(policies: &Policies) {
    for policy in policies.each() {
        let name = policy.name().to_owned();
        match policy {
            Policy::CircuitBreaker(breaker) => {
                let look = breaker.look();
                for state in STATES {
                    let is = if state == look.state { 1.0 } else { 0.0 };
                    gauge!("aftercommit_breaker_state", "name" => name.clone(), "state" => state.name()).set(is);
                }
                if let Some(rate) = look.failure_rate {
                    gauge!("aftercommit_breaker_failure_rate", "name" => name).set(rate);
                }
            }
            Policy::Bulkhead(bulkhead) => {
                waiting("bulkhead", &name, bulkhead.waiting());
                gauge!("aftercommit_bulkhead_calls", "name" => name).set(bulkhead.inside());
            }
            Policy::RateLimiter(limiter) => {
                waiting("rate-limiter", &name, limiter.waiting());
                gauge!("aftercommit_permits", "name" => name).set(limiter.available());
            }
            Policy::Retry(_) | Policy::TimeLimiter(_) | Policy::Fallback(_) => {}
        }
    }
}

fn waiting(kind: &'static str, name: &str, count: u32) {
    gauge!("aftercommit_policy_waiting", "kind" => kind, "name" => name.to_owned()).set(count);
}
