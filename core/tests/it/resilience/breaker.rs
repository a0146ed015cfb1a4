//! CB: the circuit breaker.

use std::cell::Cell;
use std::sync::Arc;

use aftercommit::clock::Clock;
use aftercommit::error::PolicyError;
use aftercommit::resilience::{BreakerSettings, CircuitBreaker, Happened, Pipeline, Rate, Rules, State};
use aftercommit::testing::MovedClock;

use super::{Failure, Heard, millis, secs};

/// As the peer's tests are set up.
fn settings() -> BreakerSettings {
    BreakerSettings::new()
        .failure_rate(50.0)
        .slow_calls(secs(4), 50.0)
        .last(20)
        .minimum_calls(5)
        .trials(4)
        .open_for(secs(5))
}

fn breaker(settings: BreakerSettings) -> (CircuitBreaker, MovedClock) {
    let clock = MovedClock::default();
    let breaker = CircuitBreaker::on_clock("gateway", settings, Arc::new(clock.clone())).expect("legal");
    (breaker, clock)
}

/// Makes calls: `F` fails, `S` succeeds.
fn calls(breaker: &CircuitBreaker, outcomes: &str) {
    for outcome in outcomes.chars() {
        let permit = breaker.permit().expect("it lets the call through");
        if outcome == 'F' { permit.failed() } else { permit.succeeded() }
    }
}

/// A call that takes so long.
fn slow(breaker: &CircuitBreaker, clock: &MovedClock, took: std::time::Duration, failed: bool) {
    let permit = breaker.permit().expect("it lets the call through");
    clock.advance(took);
    if failed { permit.failed() } else { permit.succeeded() }
}

#[test]
fn cb_01_with_fewer_than_the_minimum_of_calls_the_rate_is_unknown_and_it_stays_closed() {
    let (breaker, _) = breaker(settings());
    calls(&breaker, "FFFF");
    let look = breaker.look();
    assert_eq!((look.state, look.failure_rate, look.slow_rate), (State::Closed, None, None));
    assert_eq!((look.totals.calls, look.totals.failed), (4, 4));
}

#[test]
fn cb_02_the_outcome_that_makes_the_minimum_decides_even_if_it_is_a_success() {
    let (breaker, _) = breaker(settings());
    let heard = Heard::default();
    breaker.hear(heard.told());
    calls(&breaker, "FFFS");
    assert_eq!(breaker.state(), State::Closed);
    calls(&breaker, "S");
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(
        heard.take(),
        [
            Happened::Exceeded { rate: Rate::Failure, percent: 60.0 },
            Happened::Moved { from: State::Closed, to: State::Open }
        ]
    );
}

#[test]
fn cb_03_a_rate_that_is_exactly_the_threshold_opens() {
    let (breaker, _) = breaker(settings().minimum_calls(6));
    calls(&breaker, "FSFSF");
    assert_eq!(breaker.state(), State::Closed);
    calls(&breaker, "S");
    assert_eq!(breaker.state(), State::Open);
    let (below, _) = self::breaker(settings().minimum_calls(6));
    calls(&below, "FSFSSS");
    assert_eq!(below.state(), State::Closed);
}

#[tokio::test]
async fn cb_04_open_it_refuses_without_a_call_and_counts_the_refusal_only() {
    let clock = MovedClock::default();
    let gateway = Pipeline::named("gateway").circuit_breaker(settings()).clock(clock.clone()).build().expect("legal");
    let breaker = gateway.breaker("gateway").expect("it has one").clone();
    breaker.open();
    let before = breaker.look().totals;
    let called = Cell::new(false);
    let answer: Result<(), Failure> = gateway
        .call(async || {
            called.set(true);
            Ok(())
        })
        .await;
    let refusal = PolicyError::CircuitOpen { breaker: "gateway".into(), state: "open", retry_after: Some(secs(5)) };
    assert_eq!(answer, Err(Failure::Policy(refusal)));
    assert!(!called.get());
    assert_eq!((breaker.look().refused, breaker.look().totals), (1, before));
}

#[test]
fn cb_05_slow_outcomes_failed_or_not_reach_their_own_threshold() {
    let (breaker, clock) = breaker(settings());
    let heard = Heard::default();
    breaker.hear(heard.told());
    calls(&breaker, "SSS");
    slow(&breaker, &clock, secs(5), false);
    assert_eq!(breaker.state(), State::Closed);
    slow(&breaker, &clock, secs(4), false);
    assert_eq!(breaker.state(), State::Closed, "exactly as long as is allowed is not slow");
    slow(&breaker, &clock, millis(4_001), true);
    assert_eq!(breaker.state(), State::Closed, "2 of 6");
    slow(&breaker, &clock, secs(6), false);
    assert_eq!(breaker.state(), State::Closed, "3 of 7");
    slow(&breaker, &clock, secs(6), true);
    assert_eq!(breaker.state(), State::Open, "4 of 8");
    assert_eq!(heard.take()[0], Happened::Exceeded { rate: Rate::Slow, percent: 50.0 });
}

#[test]
fn cb_06_after_the_wait_the_next_call_is_a_trial_with_fresh_outcomes() {
    let (breaker, clock) = breaker(settings());
    calls(&breaker, "FFFFF");
    clock.advance(millis(4_999));
    assert!(breaker.permit().is_err());
    assert_eq!(breaker.look().retry_after, Some(millis(1)));
    clock.advance(millis(1));
    assert_eq!(breaker.state(), State::Open, "nobody called yet");
    let trial = breaker.permit().expect("a trial");
    assert_eq!((breaker.state(), breaker.look().totals.calls), (State::HalfOpen, 0));
    trial.succeeded();
    assert_eq!(breaker.look().totals.calls, 1);
}

#[test]
fn cb_07_open_for_or_until_overrides_the_wait() {
    let (breaker, clock) = breaker(settings());
    breaker.open_for(secs(7_200));
    clock.advance(secs(7_199));
    assert!(breaker.permit().is_err());
    clock.advance(secs(1));
    assert!(breaker.permit().is_ok());
    breaker.open_until(clock.now().saturating_add(secs(60)));
    clock.advance(secs(59));
    assert!(breaker.permit().is_err());
    clock.advance(secs(1));
    assert!(breaker.permit().is_ok());
}

#[test]
fn cb_09_half_open_lets_exactly_its_trials_through_and_one_more_for_each_given_back() {
    let (breaker, clock) = breaker(settings());
    breaker.open();
    clock.advance(secs(5));
    let mut trials: Vec<_> = (0..4).map(|_| breaker.permit().expect("a trial")).collect();
    let refused = breaker.permit().expect_err("the fifth");
    assert!(matches!(refused, PolicyError::CircuitOpen { state: "half-open", retry_after: None, .. }));
    drop(trials.pop());
    trials.push(breaker.permit().expect("the one that was given back"));
    assert!(breaker.permit().is_err());
    breaker.open();
    drop(trials);
    clock.advance(secs(5));
    let trials: Vec<_> = std::iter::from_fn(|| breaker.permit().ok()).take(10).collect();
    assert_eq!(trials.len(), 4, "a new cycle has all of them, and none of those given back before");
}

#[test]
fn cb_10_the_trials_decide_and_closed_again_it_counts_anew() {
    let (breaker, clock) = breaker(settings());
    calls(&breaker, "FFFFF");
    clock.advance(secs(5));
    calls(&breaker, "FSF");
    assert_eq!(breaker.state(), State::HalfOpen);
    calls(&breaker, "S");
    assert_eq!(breaker.state(), State::Open, "2 of 4 failed");
    clock.advance(secs(5));
    calls(&breaker, "FSSS");
    assert_eq!((breaker.state(), breaker.look().totals.calls), (State::Closed, 0));
}

#[test]
fn cb_11_slow_trials_open_it_again() {
    let (breaker, clock) = breaker(settings());
    breaker.open();
    clock.advance(secs(5));
    calls(&breaker, "SS");
    slow(&breaker, &clock, secs(5), false);
    slow(&breaker, &clock, secs(5), false);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn cb_14_disabled_lets_all_through_and_says_nothing_forced_open_refuses_for_ever() {
    let (breaker, clock) = breaker(settings());
    let heard = Heard::default();
    breaker.disable();
    breaker.hear(heard.told());
    calls(&breaker, "FFFFFFFFFF");
    assert_eq!((breaker.state(), breaker.look().totals.calls), (State::Disabled, 0));
    assert!(heard.take().is_empty());
    breaker.force_open();
    clock.advance(secs(1_000_000));
    assert!(breaker.permit().is_err());
    assert_eq!(breaker.state(), State::ForcedOpen);
}

#[test]
fn cb_15_metrics_only_counts_tells_once_and_never_opens() {
    let (breaker, _) = breaker(settings());
    let heard = Heard::default();
    breaker.metrics_only();
    breaker.hear(heard.told());
    calls(&breaker, "FFFFFFFFFF");
    assert_eq!((breaker.state(), breaker.look().failure_rate), (State::MetricsOnly, Some(100.0)));
    assert_eq!(heard.take(), [Happened::Exceeded { rate: Rate::Failure, percent: 100.0 }]);
}

#[test]
fn cb_17_it_begins_in_the_state_that_is_said() {
    for state in [State::Closed, State::Open, State::HalfOpen, State::ForcedOpen, State::Disabled, State::MetricsOnly] {
        let (breaker, clock) = breaker(settings().initial(state));
        assert_eq!(breaker.state(), state);
        let refuses = matches!(state, State::Open | State::ForcedOpen);
        assert_eq!(breaker.permit().is_err(), refuses);
        clock.advance(secs(5));
        assert_eq!(breaker.permit().is_err(), state == State::ForcedOpen);
    }
}

#[test]
fn cb_18_in_a_window_of_four_a_fifth_outcome_puts_the_first_out() {
    let (breaker, _) = breaker(settings().last(4).minimum_calls(4).failure_rate(60.0));
    calls(&breaker, "FSSS");
    assert_eq!(breaker.look().failure_rate, Some(25.0));
    calls(&breaker, "S");
    assert_eq!((breaker.look().failure_rate, breaker.look().totals.calls), (Some(0.0), 4));
}

#[test]
fn cb_19_in_a_window_of_time_old_outcomes_leave_also_after_a_gap() {
    let (breaker, clock) = breaker(settings().within(secs(5)).minimum_calls(100));
    let totals = || (breaker.look().totals.calls, breaker.look().totals.failed);
    calls(&breaker, "FF");
    clock.advance(secs(3));
    calls(&breaker, "S");
    assert_eq!(totals(), (3, 2));
    clock.advance(secs(2));
    assert_eq!(totals(), (1, 0));
    clock.advance(secs(1_000));
    assert_eq!(totals(), (0, 0));
    calls(&breaker, "F");
    assert_eq!(totals(), (1, 1));
}

#[test]
fn cb_20_settings_that_cannot_work_are_refused_with_the_legal_forms() {
    let refused =
        |settings: BreakerSettings| CircuitBreaker::new("gateway", settings).expect_err("it cannot work").to_string();
    assert_eq!(
        refused(settings().failure_rate(0.0)),
        "circuit breaker `gateway` cannot work: its failure rate is a percentage: give it one above 0 and up to 100"
    );
    refused(settings().failure_rate(100.5));
    refused(settings().failure_rate(f64::NAN));
    refused(settings().slow_calls(secs(1), 0.0));
    refused(settings().slow_calls(secs(1), 101.0));
    refused(settings().slow_calls(secs(0), 50.0));
    refused(settings().last(0));
    refused(settings().within(secs(0)));
    refused(settings().minimum_calls(0));
    refused(settings().trials(0));
    refused(settings().trial_time(secs(0)));
    refused(settings().open_for(secs(0)));
    refused(settings().growing(0.5, secs(60)));
    assert!(CircuitBreaker::new("gateway", settings().failure_rate(100.0)).is_ok());
}

#[test]
fn trials_that_do_not_come_back_in_time_open_it_again() {
    let (breaker, clock) = breaker(settings().trial_time(secs(2)));
    breaker.open();
    clock.advance(secs(5));
    let lost: Vec<_> = (0..4).map(|_| breaker.permit().expect("a trial")).collect();
    clock.advance(secs(2));
    assert!(breaker.permit().is_err());
    assert_eq!(breaker.state(), State::Open);
    for late in lost {
        late.succeeded();
    }
    assert_eq!(breaker.state(), State::Open, "who comes back late decides nothing");
}

#[test]
fn trials_that_come_back_too_late_open_it_again_even_if_they_succeeded() {
    let (breaker, clock) = breaker(settings().trial_time(secs(2)));
    breaker.open();
    clock.advance(secs(5));
    let late: Vec<_> = (0..4).map(|_| breaker.permit().expect("a trial")).collect();
    clock.advance(secs(2));
    for trial in late {
        trial.succeeded();
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.look().retry_after, Some(secs(5)));
}

#[test]
fn the_time_open_grows_with_each_time_in_a_row_up_to_its_limit_and_begins_anew_once_closed() {
    let (breaker, clock) = breaker(settings().growing(2.0, secs(15)));
    let wait = || breaker.look().retry_after.expect("it is open");
    calls(&breaker, "FFFFF");
    for expected in [5, 10, 15, 15] {
        assert_eq!(wait(), secs(expected));
        clock.advance(secs(expected));
        calls(&breaker, "FFFF");
    }
    clock.advance(secs(15));
    calls(&breaker, "SSSS");
    calls(&breaker, "FFFFF");
    assert_eq!(wait(), secs(5));
}

#[tokio::test]
async fn what_does_not_count_is_as_if_it_had_not_been_called() {
    let rules = Rules::new().never_when(|error: &Failure| *error == Failure::Declined);
    let clock = MovedClock::default();
    let gateway = Pipeline::named("gateway")
        .circuit_breaker(settings().rules(rules.when_value(|answer: &u32| *answer == 503)))
        .clock(clock.clone())
        .build()
        .expect("legal");
    let breaker = gateway.breaker("gateway").expect("it has one");
    for _ in 0..10 {
        let _ = gateway.call(async || Err::<u32, _>(Failure::Declined)).await;
    }
    assert_eq!(breaker.look().totals.calls, 0);
    for _ in 0..5 {
        assert_eq!(gateway.call(async || Ok::<u32, Failure>(503)).await, Ok(503));
    }
    assert_eq!(breaker.state(), State::Open, "a value that says no is a failure");
    clock.advance(secs(5));
    for _ in 0..10 {
        let _ = gateway.call(async || Err::<u32, _>(Failure::Declined)).await;
    }
    assert_eq!(breaker.state(), State::HalfOpen, "each trial was given back");
}

#[tokio::test]
async fn a_call_that_is_dropped_says_nothing_and_one_that_panics_failed() {
    use futures::FutureExt;
    let gateway = Pipeline::named("gateway").circuit_breaker(settings()).build().expect("legal");
    let breaker = gateway.breaker("gateway").expect("it has one");
    breaker.half_open();
    let never = async || {
        std::future::pending::<()>().await;
        Ok::<(), Failure>(())
    };
    for _ in 0..10 {
        assert!(gateway.call(never).now_or_never().is_none(), "it waits, and is dropped");
    }
    for _ in 0..4 {
        let panics = gateway.call(async || -> Result<(), Failure> { panic!("on purpose") });
        assert!(std::panic::AssertUnwindSafe(panics).catch_unwind().await.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn other_settings_hold_from_now_on() {
    let (breaker, _) = breaker(settings());
    calls(&breaker, "FFF");
    breaker.change(settings().minimum_calls(3)).expect("legal");
    calls(&breaker, "S");
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.change(settings().trials(0)).is_err());
    assert_eq!(breaker.settings().minimum_calls, 3, "what cannot work changes nothing");
}
