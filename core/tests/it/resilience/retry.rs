//! RT: retry.

use std::cell::Cell;
use std::time::Duration;

use aftercommit::clock::{Clock, exponential, fixed};
use aftercommit::error::{BoxError, PolicyError};
use aftercommit::resilience::{BreakerSettings, Happened, Pipeline, Retry, RetrySettings, Rules};
use aftercommit::testing::MovedClock;
use futures::FutureExt;

use super::{Failure, Heard, millis, secs};

fn retrying(settings: RetrySettings) -> (Pipeline, MovedClock, Heard) {
    let (clock, heard) = (MovedClock::default(), Heard::default());
    let pipeline = Pipeline::named("gateway").retry(settings).clock(clock.clone()).build().expect("legal");
    pipeline.hear(&heard.told());
    (pipeline, clock, heard)
}

/// Drives a call to its end, moving the clock by what it waits for; answers its result and the waits.
async fn drive<T>(clock: &MovedClock, heard: &Heard, call: impl Future<Output = T>) -> (T, Vec<Duration>) {
    let mut waits = Vec::new();
    tokio::pin!(call);
    loop {
        // Who is asked too often without a rest is told by the runtime that it still waits.
        tokio::task::yield_now().await;
        if let Some(answer) = (&mut call).now_or_never() {
            return (answer, waits);
        }
        for happened in heard.take() {
            if let Happened::Retrying { wait, .. } = happened {
                waits.push(wait);
                clock.advance(wait.saturating_sub(millis(1)));
                assert!((&mut call).now_or_never().is_none(), "it waits to the end");
                clock.advance(millis(1));
            }
        }
    }
}

#[tokio::test]
async fn rt_01_attempts_count_the_first_call_and_one_attempt_waits_for_nothing() {
    let (pipeline, clock, heard) = retrying(RetrySettings::new().attempts(3).backoff(fixed(millis(500))));
    let calls = Cell::new(0);
    let call = pipeline.call(async || {
        calls.set(calls.get() + 1);
        Err::<(), _>(Failure::Down)
    });
    let (answer, waits) = drive(&clock, &heard, call).await;
    assert_eq!((answer, waits, calls.get()), (Err(Failure::Down), vec![millis(500); 2], 3));
    let (pipeline, clock, _) = retrying(RetrySettings::new().attempts(1));
    let calls = Cell::new(0);
    let once = pipeline.call(async || {
        calls.set(calls.get() + 1);
        Err::<(), _>(Failure::Down)
    });
    assert_eq!(once.now_or_never(), Some(Err(Failure::Down)));
    assert_eq!((calls.get(), clock.sleepers()), (1, 0));
}

#[tokio::test]
async fn rt_02_out_of_attempts_the_last_error_comes_back_as_it_is() {
    let (pipeline, _, heard) = retrying(RetrySettings::new().attempts(3).backoff(fixed(Duration::ZERO)));
    let calls = Cell::new(0);
    let answer = pipeline
        .call(async || {
            calls.set(calls.get() + 1);
            Err::<(), _>(if calls.get() < 3 { Failure::Down } else { Failure::Busy(secs(calls.get())) })
        })
        .await;
    assert_eq!(answer, Err(Failure::Busy(secs(3))));
    assert_eq!(heard.take().last(), Some(&Happened::GaveUp { attempts: 3 }));
}

#[tokio::test]
async fn rt_03_an_error_that_stays_comes_back_at_once() {
    let rules = Rules::new().when(|error: &Failure| *error == Failure::Down);
    let (pipeline, clock, heard) = retrying(RetrySettings::new().attempts(3).rules(rules));
    let calls = Cell::new(0);
    let call = pipeline.call(async || {
        calls.set(calls.get() + 1);
        Err::<(), _>(Failure::Declined)
    });
    assert_eq!(call.now_or_never(), Some(Err(Failure::Declined)));
    assert_eq!((calls.get(), clock.sleepers(), heard.take()), (1, 0, vec![Happened::NotRetried]));
}

#[tokio::test]
async fn rt_04_a_value_that_is_not_wanted_is_asked_for_again_and_never_hides_an_error() {
    let rules = || Rules::new().when_value(|answer: &u32| *answer == 202);
    let at_once = || RetrySettings::new().attempts(3).backoff(fixed(Duration::ZERO)).rules(rules());
    let (pipeline, ..) = retrying(at_once());
    let calls = Cell::new(0);
    let answer = pipeline
        .call(async || {
            calls.set(calls.get() + 1);
            Ok::<_, Failure>(202_u32)
        })
        .await;
    assert_eq!((answer, calls.get()), (Ok(202), 3), "the last value is the answer");
    let (pipeline, ..) = retrying(at_once().fail_on_value());
    let exhausted = PolicyError::Exhausted { retry: "gateway".into(), attempts: 3 };
    assert_eq!(pipeline.call(async || Ok::<_, Failure>(202_u32)).await, Err(Failure::Policy(exhausted)));
    let calls = Cell::new(0);
    let answer = pipeline
        .call(async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Ok(202_u32) } else { Err(Failure::Down) }
        })
        .await;
    assert_eq!(answer, Err(Failure::Down));
}

#[tokio::test]
async fn rt_06_waits_double_up_to_their_cap_and_jitter_stays_in_its_bounds() {
    let failing = |settings: RetrySettings| async {
        let (pipeline, clock, heard) = retrying(settings);
        drive(&clock, &heard, pipeline.call(async || Err::<(), _>(Failure::Down))).await.1
    };
    let doubling = exponential(millis(500));
    assert_eq!(failing(RetrySettings::new().attempts(3).backoff(doubling)).await, [millis(500), millis(1_000)]);
    let capped = failing(RetrySettings::new().attempts(6).backoff(doubling.max(millis(1_500)))).await;
    assert_eq!(capped, [500, 1_000, 1_500, 1_500, 1_500].map(millis));
    let spread = failing(RetrySettings::new().attempts(200).backoff(fixed(millis(1_000)).jitter(0.2))).await;
    assert!(spread.iter().all(|wait| (millis(800)..=millis(1_200)).contains(wait)));
    assert!(spread.iter().any(|wait| *wait < millis(950)) && spread.iter().any(|wait| *wait > millis(1_050)));
}

#[tokio::test]
async fn rt_07_the_wait_may_depend_on_the_attempt_and_on_what_it_came_to() {
    let by_error = |failed: u32, error: &Failure| match error {
        Failure::Busy(wait) => Some(*wait * failed),
        _ => None,
    };
    let settings = RetrySettings::new().attempts(4).backoff(fixed(millis(10))).wait_by(by_error);
    let (pipeline, clock, heard) = retrying(settings);
    let calls = Cell::new(0);
    let call = pipeline.call(async || {
        calls.set(calls.get() + 1);
        Err::<(), _>(if calls.get() == 3 { Failure::Down } else { Failure::Busy(secs(2)) })
    });
    assert_eq!(drive(&clock, &heard, call).await.1, [secs(2), secs(4), millis(10)]);
}

#[tokio::test]
async fn rt_08_dropped_while_it_waits_it_ends_at_once_and_tells_so() {
    let (pipeline, clock, heard) = retrying(RetrySettings::new().attempts(3).backoff(fixed(secs(60))));
    let calls = Cell::new(0);
    let call = pipeline.call(async || {
        calls.set(calls.get() + 1);
        Err::<(), _>(Failure::Down)
    });
    assert!(call.now_or_never().is_none(), "it waited, and was dropped");
    assert_eq!((calls.get(), clock.sleepers()), (1, 0));
    assert_eq!(heard.take(), [Happened::Retrying { failed: 1, wait: secs(60) }, Happened::Cancelled { attempts: 1 }]);
}

#[tokio::test]
async fn rt_10_rules_that_say_no_win_and_what_cannot_work_is_refused() {
    let rules = Rules::new().on::<Failure>().never_when(|error: &Failure| *error == Failure::Declined);
    let (pipeline, ..) = retrying(RetrySettings::new().attempts(3).backoff(fixed(Duration::ZERO)).rules(rules));
    let calls = Cell::new(0);
    let answer = pipeline
        .call(async || {
            calls.set(calls.get() + 1);
            Err::<(), _>(if calls.get() == 1 { Failure::Down } else { Failure::Declined })
        })
        .await;
    assert_eq!((answer, calls.get()), (Err(Failure::Declined), 2));
    let refused = |settings| Retry::new("gateway", settings).is_err();
    assert!(refused(RetrySettings::new().attempts(0)));
    assert!(refused(RetrySettings::new().backoff(exponential(Duration::ZERO))));
    assert!(refused(RetrySettings::new().backoff(fixed(secs(1)).jitter(-0.5))));
    assert!(refused(RetrySettings::new().budget(0.1, 0)));
    assert!(!refused(RetrySettings::new().backoff(fixed(Duration::ZERO))), "to wait for nothing is legal");
}

#[tokio::test]
async fn a_rule_by_type_meets_the_causes_of_a_boxed_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Failure);
    let settings = RetrySettings::new().attempts(2).backoff(fixed(Duration::ZERO)).rules(Rules::new().on::<Failure>());
    let (pipeline, ..) = retrying(settings);
    let calls = Cell::new(0);
    let answer: Result<(), BoxError> = pipeline
        .call(async || {
            calls.set(calls.get() + 1);
            Err(Outer(Failure::Down).into())
        })
        .await;
    assert!(answer.is_err_and(|error| error.is::<Outer>()));
    assert_eq!(calls.get(), 2);
}

#[tokio::test]
async fn what_an_open_breaker_refuses_is_not_called_again_unless_said_and_then_when_it_lets_a_trial_through() {
    let clock = MovedClock::default();
    let stack = |retry: RetrySettings| {
        let breaker = BreakerSettings::new().open_for(secs(5));
        Pipeline::named("gateway").retry(retry).circuit_breaker(breaker).clock(clock.clone()).build().expect("legal")
    };
    let hard = stack(RetrySettings::new().attempts(3));
    hard.breaker("gateway").expect("it has one").open();
    let refused = hard.call(async || Ok::<(), Failure>(())).now_or_never().expect("at once");
    assert!(matches!(refused, Err(Failure::Policy(PolicyError::CircuitOpen { .. }))));
    let patient = stack(RetrySettings::new().attempts(3).when_open());
    patient.breaker("gateway").expect("it has one").open();
    let call = patient.call(async || Ok::<(), Failure>(()));
    tokio::pin!(call);
    assert!((&mut call).now_or_never().is_none());
    clock.advance(millis(4_999));
    assert!((&mut call).now_or_never().is_none());
    clock.advance(millis(1));
    assert_eq!((&mut call).now_or_never(), Some(Ok(())));
}

#[tokio::test]
async fn a_budget_ends_retries_when_too_little_succeeds() {
    let settings = RetrySettings::new().attempts(2).backoff(fixed(Duration::ZERO)).budget(0.5, 2);
    let (pipeline, _, _) = retrying(settings);
    let made = async |fails: bool| {
        let calls = Cell::new(0);
        let _ = pipeline
            .call(async || {
                calls.set(calls.get() + 1);
                if fails { Err(Failure::Down) } else { Ok(()) }
            })
            .await;
        calls.get()
    };
    assert_eq!([made(true).await, made(true).await, made(true).await], [2, 2, 1], "the reserve is used up");
    assert_eq!([made(false).await, made(true).await], [1, 1], "half a retry");
    assert_eq!([made(false).await, made(true).await], [1, 2]);
}

#[tokio::test]
async fn no_attempt_begins_later_than_said() {
    let settings = RetrySettings::new().attempts(10).backoff(fixed(secs(2))).within(secs(5));
    let (pipeline, clock, heard) = retrying(settings);
    let call = pipeline.call(async || Err::<(), _>(Failure::Down));
    assert_eq!(drive(&clock, &heard, call).await.1, [secs(2), secs(2)]);
}

#[test]
fn on_a_thread_without_a_runtime_it_waits_on_the_thread() {
    let (pipeline, clock, _) = retrying(RetrySettings::new().attempts(2).backoff(fixed(secs(3600))));
    let began = clock.now();
    let answer = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let calls = Cell::new(0);
            pipeline.call_blocking(|| {
                calls.set(calls.get() + 1);
                if calls.get() == 1 { Err(Failure::Down) } else { Ok(calls.get()) }
            })
        });
        while clock.sleepers() == 0 {
            std::thread::yield_now();
        }
        clock.advance(secs(3600));
        caller.join().expect("no panic")
    });
    assert_eq!(answer, Ok(2));
    assert_eq!(clock.now().since(began), secs(3600));
    let real = Pipeline::named("real").retry(RetrySettings::new().backoff(fixed(millis(1)))).build().expect("legal");
    let calls = Cell::new(0);
    let answer = real.call_blocking(|| {
        calls.set(calls.get() + 1);
        if calls.get() == 1 { Err(Failure::Down) } else { Ok(calls.get()) }
    });
    assert_eq!(answer, Ok(2), "on the machine's clock too");
}

#[tokio::test]
async fn a_wait_from_outside_that_has_no_end_is_not_in_time() {
    // Some time has passed before the second wait, so that their sum is more than there is.
    let wait = |failed: u32, _: &Failure| Some(if failed == 1 { secs(1) } else { Duration::MAX });
    let (pipeline, clock, heard) = retrying(RetrySettings::new().wait_by(wait).within(secs(10)));
    let calls = Cell::new(0);
    let call = pipeline.call(async || {
        calls.set(calls.get() + 1);
        Err::<(), _>(Failure::Down)
    });
    let (answer, waits) = drive(&clock, &heard, call).await;
    assert_eq!((answer, waits, calls.get()), (Err(Failure::Down), vec![secs(1)], 2));
}

#[tokio::test]
async fn a_budget_that_comes_later_begins_full_and_a_smaller_one_keeps_what_is_left() {
    let settings = || RetrySettings::new().attempts(9).backoff(fixed(Duration::ZERO));
    let retry = Retry::new("gateway", settings()).expect("legal");
    let pipeline = Pipeline::of(retry.clone());
    retry.change(settings().budget(0.5, 2)).expect("legal");
    let failed = pipeline.call(async || Err::<(), _>(Failure::Down)).await;
    assert_eq!((failed, retry.retries()), (Err(Failure::Down), 2), "as many as are saved up at most");
    retry.change(settings().budget(0.5, 1)).expect("legal");
    let failed = pipeline.call(async || Err::<(), _>(Failure::Down)).await;
    assert_eq!((failed, retry.retries()), (Err(Failure::Down), 2), "nothing is left");
}
