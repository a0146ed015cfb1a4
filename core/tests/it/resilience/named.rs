//! Named policies: a file over what is declared, changes while they run, health.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::resilience::{
    BreakerSettings, BulkheadSettings, CircuitBreaker, Defeat, Happened, Health, OutcomeWindow, Pipeline, Policies,
    Policy, PolicyFile, RateSettings, RetrySettings, Rules,
};

use super::{Failure, Heard, millis, secs};

fn gateway() -> Pipeline {
    Pipeline::named("gateway")
        .retry(RetrySettings::new().attempts(2).rules(Rules::new().when(|error: &Failure| *error == Failure::Down)))
        .circuit_breaker(BreakerSettings::new())
        .rate_limiter(RateSettings::new(10, secs(1)))
        .time_limiter(secs(2))
        .bulkhead(BulkheadSettings::new(3))
        .build()
        .expect("legal")
}

fn policies(pipelines: &[&Pipeline]) -> Policies {
    let policies = Policies::new();
    pipelines.iter().for_each(|pipeline| policies.add(pipeline).expect("another name"));
    policies
}

fn file(text: &str) -> PolicyFile {
    serde_json::from_str(text).expect("a file of policies")
}

fn attempts(pipeline: &Pipeline) -> u32 {
    pipeline
        .policies()
        .iter()
        .find_map(|policy| match policy {
            Policy::Retry(retry) => Some(retry.settings().attempts),
            _ => None,
        })
        .expect("it has one")
}

#[tokio::test]
async fn a_file_says_some_of_it_differently_and_the_rest_is_as_declared() {
    let gateway = gateway();
    let policies = policies(&[&gateway]);
    let whole = r#"{ "gateway": {
        "retry": { "attempts": 4, "backoff": { "initial": "0s", "growth": "fixed", "max": "0s", "jitter": 0.0 } },
        "circuit-breaker": { "failure_rate": 30.0, "window": { "within": "10s" }, "slow_after": "1.5s", "initial": "closed" },
        "rate-limiter": { "permits": 20, "timeout": "250ms" },
        "time-limiter": { "limit": "5s" },
        "bulkhead": { "calls": 50, "max_wait": "1m" }
    } }"#;
    policies.apply(&file(whole)).expect("legal");
    let breaker = gateway.breaker("gateway").expect("it has one").settings();
    assert_eq!((breaker.failure_rate, breaker.window), (30.0, OutcomeWindow::Within(secs(10))));
    assert_eq!((breaker.slow_after, breaker.open_for), (Some(millis(1_500)), secs(60)));
    for policy in gateway.policies() {
        match policy {
            Policy::RateLimiter(one) => assert_eq!(one.settings(), RateSettings::new(20, secs(1)).timeout(millis(250))),
            Policy::TimeLimiter(one) => assert_eq!(one.settings().limit, secs(5)),
            Policy::Bulkhead(one) => assert_eq!(one.settings(), BulkheadSettings::new(50).max_wait(secs(60))),
            _ => {}
        }
    }
    let calls = std::cell::Cell::new(0);
    let _ = gateway
        .call(async || {
            calls.set(calls.get() + 1);
            Err::<(), _>(if calls.get() < 3 { Failure::Down } else { Failure::Declined })
        })
        .await;
    assert_eq!(calls.get(), 3, "the rules are as declared");
    policies.apply(&file("{}")).expect("legal");
    assert_eq!(attempts(&gateway), 2, "what the file does not say any more is as declared");
    assert_eq!(gateway.breaker("gateway").expect("it has one").settings().failure_rate, 50.0);
}

#[test]
fn what_is_wrong_with_a_file_is_said_at_once_and_changes_nothing() {
    let gateway = gateway();
    let policies = policies(&[&gateway]);
    let wrong = |text: &str| policies.apply(&file(text)).expect_err("it cannot be applied").to_string();
    let both = wrong(r#"{ "gateway": { "retry": { "atempts": 5 }, "bulkhead": { "calls": 9 } }, "ledger": {} }"#);
    assert!(both.contains("unknown field `atempts`, expected one of `attempts`"), "{both}");
    assert!(both.contains("there is no pipeline `ledger`; known: `gateway`"), "{both}");
    let span = wrong(r#"{ "gateway": { "time-limiter": { "limit": "soon" } } }"#);
    assert!(span.contains("`soon` is no span of time: write one such as \"250ms\""), "{span}");
    let zero = wrong(r#"{ "gateway": { "retry": { "attempts": 0 } } }"#);
    assert!(zero.contains("the first call is an attempt"), "{zero}");
    let unknown = wrong(r#"{ "gateway": { "cache": {} } }"#);
    assert!(unknown.contains("has no policy `cache`; it has: `retry:gateway`, `circuit-breaker:gateway`"), "{unknown}");
    let endless = wrong(r#"{ "gateway": { "retry": { "attempts": 4294967295, "when_open": true } } }"#);
    assert!(endless.contains("makes calls without end"), "{endless}");
    assert_eq!(attempts(&gateway), 2);
    let bulkhead = gateway.policies().iter().find_map(|policy| match policy {
        Policy::Bulkhead(one) => Some(one.settings().calls),
        _ => None,
    });
    assert_eq!(bulkhead, Some(3));
}

#[test]
fn a_file_that_makes_a_nesting_suspicious_is_applied_with_a_warning() {
    let policies = policies(&[&gateway()]);
    let warnings = policies.apply(&file(r#"{ "gateway": { "retry": { "attempts": 1 } } }"#)).expect("legal");
    assert_eq!(warnings, [("gateway".to_owned(), Defeat::OneAttempt)]);
}

#[test]
fn names_are_unique_and_a_shared_breaker_is_one() {
    let ledger = CircuitBreaker::new("ledger", BreakerSettings::new()).expect("legal");
    let named = |name: &str| {
        Pipeline::named(name)
            .with(ledger.clone())
            .with(CircuitBreaker::new("own", BreakerSettings::new()).expect("legal"))
            .build()
            .expect("legal")
    };
    let (read, write) = (named("read"), named("write"));
    let policies = policies(&[&read, &write, &read]);
    assert!(
        policies.add(&named("read")).is_err_and(|error| error.to_string().contains("another pipeline has its name"))
    );
    let heard = Heard::default();
    policies.hear(&heard.told());
    let said = r#"{ "write": { "circuit-breaker:ledger": { "failure_rate": 10.0 } } }"#;
    policies.apply(&file(said)).expect("legal");
    assert_eq!(read.breaker("ledger").expect("it has one").settings().failure_rate, 10.0);
    assert_eq!(heard.take(), vec![Happened::Changed; 3], "each of three breakers once");
    let which = policies.apply(&file(r#"{ "write": { "circuit-breaker": { "failure_rate": 10.0 } } }"#));
    assert!(which.is_err_and(|error| error.to_string().contains("has several policies `circuit-breaker`")));
    ledger.open();
    assert_eq!(heard.take().len(), 1, "told once, though two pipelines share it");
}

#[test]
fn health_is_that_of_the_worst_policy() {
    let gateway = gateway();
    let policies = policies(&[&gateway]);
    assert_eq!(policies.worst(), Health::Up);
    let breaker = gateway.breaker("gateway").expect("it has one");
    breaker.half_open();
    assert_eq!(policies.worst(), Health::Degraded);
    breaker.open();
    assert_eq!(policies.worst(), Health::Down);
    let told: Vec<_> = policies.health().into_iter().map(|one| (one.kind, one.health, one.detail)).collect();
    assert_eq!(told[0], ("circuit breaker", Health::Down, "open, failure rate unknown, 0 refused".to_owned()));
    assert_eq!(told[1], ("rate limiter", Health::Up, "10 permits left, 0 wait".to_owned()));
    assert_eq!(told[2], ("bulkhead", Health::Up, "0 of 3 at once, 0 wait".to_owned()));
}

#[test]
fn settings_survive_a_file_and_back() {
    let clock = Arc::new(aftercommit::testing::MovedClock::default());
    let settings =
        BreakerSettings::new().within(millis(1_500)).trial_time(Duration::from_micros(7)).growing(2.0, secs(90));
    let written = serde_json::to_value(&settings).expect("written");
    assert_eq!(written["window"]["within"], "1500ms");
    let read: BreakerSettings = serde_json::from_value(written).expect("read");
    assert_eq!((read.window, read.trial_time, read.open_at_most), (settings.window, settings.trial_time, secs(90)));
    assert!(CircuitBreaker::on_clock("gateway", read, clock).is_ok());
}

#[test]
fn a_shared_policy_that_is_set_in_two_places_is_an_error_that_names_both() {
    let ledger = CircuitBreaker::new("ledger", BreakerSettings::new()).expect("legal");
    let named = |name: &str| Pipeline::named(name).with(ledger.clone()).build().expect("legal");
    let policies = policies(&[&named("read"), &named("write")]);
    let twice = r#"{
        "read": { "circuit-breaker": { "failure_rate": 10.0 } },
        "write": { "circuit-breaker:ledger": { "minimum_calls": 7 } }
    }"#;
    let error = policies.apply(&file(twice)).expect_err("it cannot be applied").to_string();
    assert!(error.contains("`read.circuit-breaker` and `write.circuit-breaker:ledger` both set it"), "{error}");
    assert_eq!(ledger.settings().failure_rate, BreakerSettings::new().failure_rate, "nothing changed");
}
