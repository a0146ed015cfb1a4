//! ORD: policies around each other, and the fallback.

use std::cell::Cell;
use std::time::Duration;

use aftercommit::clock::{Clock, exponential, fixed};
use aftercommit::error::{BoxError, PolicyError};
use aftercommit::resilience::{
    BreakerSettings, BulkheadSettings, Defeat, Fallback, Happened, Kind, Pipeline, PipelineBuilder, RateSettings,
    RetrySettings, State,
};
use aftercommit::testing::MovedClock;
use futures::FutureExt;

use super::{Failure, Heard, millis, secs};

fn breaker() -> BreakerSettings {
    BreakerSettings::new().last(10).minimum_calls(3).open_for(secs(5))
}

fn at_once(attempts: u32) -> RetrySettings {
    RetrySettings::new().attempts(attempts).backoff(fixed(Duration::ZERO))
}

fn five(builder: PipelineBuilder) -> PipelineBuilder {
    builder
        .bulkhead(BulkheadSettings::new(1))
        .time_limiter(secs(2))
        .rate_limiter(RateSettings::new(100, secs(1)))
        .circuit_breaker(breaker())
        .retry(at_once(3))
}

/// Goes through five policies, of which each leaves its mark: three attempts, each an outcome, each with a permit.
#[tokio::test]
async fn ord_01_the_default_nesting_is_the_same_in_whatever_order_it_is_written() {
    let clock = MovedClock::default();
    let stack = five(Pipeline::named("gateway")).clock(clock.clone()).build().expect("legal");
    assert_eq!(stack.nesting(), "Retry(CircuitBreaker(RateLimiter(TimeLimiter(Bulkhead(call)))))");
    assert!(
        stack.to_string().starts_with(
            "gateway: Retry(CircuitBreaker(RateLimiter(TimeLimiter(Bulkhead(call))))) (default nesting)\n"
        )
    );
    let heard = Heard::default();
    stack.hear_all(&heard.told());
    let calls = Cell::new(0);
    let answer = stack
        .call(async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(Failure::Down) } else { Ok(calls.get()) }
        })
        .await;
    assert_eq!(answer, Ok(3));
    use Happened::{Admitted, Exceeded, Finished, Moved, Recovered, Retrying};
    let (wait, percent) = (Duration::ZERO, 200.0 / 3.0);
    let rate = aftercommit::resilience::Rate::Failure;
    assert_eq!(
        heard.take(),
        [
            Admitted, // by the rate limiter
            Admitted, // by the bulkhead
            Finished,
            Retrying { failed: 1, wait },
            Admitted,
            Admitted,
            Finished,
            Retrying { failed: 2, wait },
            Admitted,
            Admitted,
            Finished,
            Exceeded { rate, percent },
            Moved { from: State::Closed, to: State::Open },
            Recovered { attempts: 3 },
        ]
    );
}

#[tokio::test]
async fn ord_02_another_nesting_is_the_one_that_is_written() {
    let stack = five(Pipeline::named("gateway")).as_written().build().expect("suspicious, but legal");
    assert_eq!(stack.nesting(), "Bulkhead(TimeLimiter(RateLimiter(CircuitBreaker(Retry(call)))))");
    assert!(stack.to_string().contains("(as written)"));
    let _ = stack.call(async || Err::<(), _>(Failure::Down)).await;
    let look = stack.breaker("gateway").expect("it has one").look();
    assert_eq!((look.totals.calls, look.totals.failed), (1, 1), "three attempts are one outcome");
}

#[tokio::test]
async fn ord_04_the_nearest_type_answers_and_without_one_the_error_stays() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Failure);
    let fallback = Fallback::new("price")
        .on(|_: &Failure| Ok::<u32, BoxError>(1))
        .on(|_: &Outer| Ok::<u32, BoxError>(2))
        .on(|_: &PolicyError| Ok::<u32, BoxError>(3))
        .when(|error: &Failure| *error == Failure::Down, |_| Ok::<u32, Failure>(4));
    let prices = Pipeline::named("prices").fallback(fallback).circuit_breaker(breaker()).build().expect("legal");
    let answer = async |error: BoxError| {
        let error = Cell::new(Some(error));
        prices.call(async || Err::<u32, BoxError>(error.take().expect("one call"))).await
    };
    assert_eq!(answer(Failure::Down.into()).await.ok(), Some(1));
    assert_eq!(answer(Outer(Failure::Down).into()).await.ok(), Some(2), "nearer than its cause");
    let unknown = answer("no route".into()).await.expect_err("nobody answers");
    assert_eq!(unknown.to_string(), "no route");
    prices.breaker("prices").expect("it has one").close();
    assert_eq!(prices.call(async || Err::<u32, _>(Failure::Down)).await, Ok(4), "by predicate");
    assert_eq!(prices.call(async || Err::<u32, _>(Failure::Declined)).await, Err(Failure::Declined));
    prices.breaker("prices").expect("it has one").force_open();
    assert_eq!(answer("never called".into()).await.ok(), Some(3));
}

#[test]
fn ord_06_two_answers_to_one_type_of_error_are_refused() {
    let twice =
        Fallback::new("price").on(|_: &Failure| Ok::<u32, BoxError>(1)).on(|_: &Failure| Ok::<u32, BoxError>(2));
    let refused = Pipeline::named("prices").fallback(twice).build().expect_err("which one?").to_string();
    assert!(refused.starts_with("fallback `price` cannot work: it has two answers to errors of type"), "{refused}");
    let apart = Fallback::new("price").on(|_: &Failure| Ok::<u32, BoxError>(1)).on(|_: &Failure| Ok::<u8, BoxError>(2));
    assert!(Pipeline::named("prices").fallback(apart).build().is_ok(), "in two kinds of call");
}

#[test]
fn a_nesting_that_can_come_to_nothing_good_is_refused_with_the_reason() {
    let refused = |builder: PipelineBuilder| builder.build().expect_err("it defeats itself").to_string();
    let hidden = Pipeline::named("gateway").as_written().retry(at_once(3)).fallback(Fallback::new("price"));
    assert_eq!(
        refused(hidden),
        "pipeline `gateway` cannot work: the fallback stands inside the retry, which then never sees an error: put it around the retry"
    );
    let counted = Pipeline::named("gateway").as_written().circuit_breaker(breaker()).fallback(Fallback::new("price"));
    assert!(refused(counted).contains("inside the circuit breaker"));
    let endless = Pipeline::named("gateway").retry(at_once(1).without_end().when_open()).circuit_breaker(breaker());
    assert!(refused(endless).contains("makes calls without end"));
    let ended = Pipeline::named("gateway").retry(at_once(1).without_end().within(secs(60)).when_open());
    assert!(ended.circuit_breaker(breaker()).build().is_ok());
}

#[test]
fn a_suspicious_nesting_is_warned_about_in_numbers() {
    let warnings = |builder: PipelineBuilder| builder.build().expect("legal").warnings();
    let named = || Pipeline::named("gateway").as_written();
    let doubling = || RetrySettings::new().attempts(4).backoff(exponential(millis(500)));
    assert_eq!(warnings(named().circuit_breaker(breaker()).retry(doubling())), [Defeat::OneOutcome { attempts: 4 }]);
    assert_eq!(
        warnings(named().time_limiter(secs(3)).retry(doubling())),
        [Defeat::WaitsTooLong { waits: millis(3_500), limit: secs(3) }]
    );
    assert!(warnings(named().time_limiter(secs(4)).retry(doubling())).is_empty());
    assert_eq!(
        warnings(named().bulkhead(BulkheadSettings::new(1)).retry(doubling())),
        [Defeat::KeepsItsPlace { waits: millis(3_500) }]
    );
    assert_eq!(
        warnings(named().rate_limiter(RateSettings::new(1, secs(1))).retry(doubling())),
        [Defeat::Unlimited { attempts: 4 }]
    );
    assert_eq!(warnings(named().retry(doubling()).retry(at_once(3))), [Defeat::Multiplied { attempts: 12 }]);
    assert_eq!(warnings(named().time_limiter(secs(1)).circuit_breaker(breaker())), [Defeat::UnseenTimeouts]);
    assert_eq!(warnings(named().retry(at_once(1))), [Defeat::OneAttempt]);
    assert_eq!(
        warnings(Pipeline::named("gateway").time_limiter(secs(1)).bulkhead(BulkheadSettings::new(1).max_wait(secs(1)))),
        [Defeat::WaitsInside { kind: Kind::Bulkhead, wait: secs(1), limit: secs(1) }]
    );
    let slow = breaker().slow_calls(secs(3), 50.0);
    assert_eq!(
        warnings(Pipeline::named("gateway").circuit_breaker(slow).time_limiter(secs(2))),
        [Defeat::NeverSlow { slow_after: secs(3), limit: secs(2) }]
    );
    let few = breaker().within(secs(10)).minimum_calls(100);
    assert_eq!(
        warnings(Pipeline::named("gateway").circuit_breaker(few).rate_limiter(RateSettings::new(5, secs(1)))),
        [Defeat::TooFewCalls { calls: 55, minimum: 100 }]
    );
    let hasty = at_once(3).when_open().within(secs(2));
    assert_eq!(
        warnings(Pipeline::named("gateway").retry(hasty).circuit_breaker(breaker())),
        [Defeat::AllWhileOpen { waits: secs(2), open_for: secs(5) }]
    );
    let five = five(Pipeline::named("gateway")).build().expect("legal");
    assert!(five.warnings().is_empty(), "{five}");
}

/// Each attempt has its own time, and what is cut short is a failure to the breaker.
#[tokio::test]
async fn timeouts_inside_a_breaker_open_it_and_leave_the_bulkhead_free() {
    let clock = MovedClock::default();
    let stack = five(Pipeline::named("gateway")).clock(clock.clone()).build().expect("legal");
    let call = stack.call(async || {
        std::future::pending::<()>().await;
        Ok::<(), Failure>(())
    });
    tokio::pin!(call);
    for _attempt in 0..3 {
        assert!((&mut call).now_or_never().is_none());
        clock.advance(secs(2));
    }
    let answer = (&mut call).now_or_never().expect("out of attempts");
    assert!(matches!(answer, Err(Failure::Policy(PolicyError::TimedOut { .. }))));
    assert_eq!(stack.breaker("gateway").expect("it has one").state(), State::Open);
    stack.breaker("gateway").expect("it has one").close();
    assert_eq!(stack.call(async || Ok::<_, Failure>(1)).await, Ok(1));
}

/// A limiter around a retry ends its waits as well, and what the inner policies refused is no failure of the dependency.
#[tokio::test]
async fn a_time_limiter_around_everything_ends_waits_and_a_full_bulkhead_is_no_failure() {
    let clock = MovedClock::default();
    let stack = Pipeline::named("gateway")
        .as_written()
        .time_limiter(secs(3))
        .retry(RetrySettings::new().attempts(2).backoff(fixed(secs(60))))
        .clock(clock.clone())
        .build()
        .expect("suspicious, but legal");
    let call = stack.call(async || Err::<(), _>(Failure::Down));
    tokio::pin!(call);
    assert!((&mut call).now_or_never().is_none());
    clock.advance(secs(3));
    let answer = (&mut call).now_or_never().expect("over");
    assert!(matches!(answer, Err(Failure::Policy(PolicyError::TimedOut { .. }))));
    assert_eq!(clock.sleepers(), 0);
    let full = Pipeline::named("full")
        .circuit_breaker(breaker())
        .bulkhead(BulkheadSettings::new(0))
        .clock(clock.clone())
        .build()
        .expect("legal");
    for _ in 0..20 {
        assert!(full.call(async || Ok::<(), Failure>(())).await.is_err());
    }
    let look = full.breaker("full").expect("it has one").look();
    assert_eq!((look.state, look.totals.calls), (State::Closed, 0));
    let _ = clock.now();
}

/// Dropped at every point, a call leaves nothing behind.
#[tokio::test]
async fn a_call_dropped_anywhere_gives_back_what_it_held() {
    let clock = MovedClock::default();
    let stack = Pipeline::named("gateway")
        .retry(RetrySettings::new().attempts(3).backoff(fixed(secs(1))))
        .circuit_breaker(breaker().minimum_calls(10))
        .rate_limiter(RateSettings::new(1, secs(10)).timeout(secs(1_000)))
        .time_limiter(secs(100))
        .bulkhead(BulkheadSettings::new(1).max_wait(secs(1)))
        .clock(clock.clone())
        .build()
        .expect("legal");
    let work = clock.clone();
    for polls in 0..12 {
        let call = stack.call(async || {
            work.sleep(secs(1)).await;
            Err::<(), _>(Failure::Down)
        });
        tokio::pin!(call);
        for _ in 0..polls {
            assert!((&mut call).now_or_never().is_none());
            clock.advance(secs(1));
        }
    }
    assert_eq!(clock.sleepers(), 0);
    clock.advance(secs(10_000));
    stack.breaker("gateway").expect("it has one").close();
    assert_eq!(stack.call(async || Ok::<_, Failure>(1)).now_or_never(), Some(Ok(1)));
}

static SHOP: std::sync::LazyLock<Pipeline> =
    std::sync::LazyLock::new(|| Pipeline::named("shop").retry(at_once(2)).build().expect("legal"));

#[aftercommit::resilient(with = SHOP, fallback(Failure::Down => with_arguments, Failure::Declined => of_the_error))]
fn price(product: u32, error: Failure) -> Result<String, Failure> {
    let _ = product;
    Err(error)
}

fn with_arguments(product: u32, asked: Failure, error: Failure) -> Result<String, Failure> {
    Ok(format!("{product} {asked} {error}"))
}

fn of_the_error(error: Failure) -> Result<String, Failure> {
    Ok(error.to_string())
}

#[test]
fn ord_05_a_fallback_takes_the_arguments_and_the_error_or_the_error_alone() {
    assert_eq!(price(7, Failure::Down), Ok("7 down down".to_owned()));
    assert_eq!(price(7, Failure::Declined), Ok("declined".to_owned()));
    assert_eq!(price(7, Failure::Busy(secs(1))), Err(Failure::Busy(secs(1))), "one that no pattern meets stays");
}

#[aftercommit::resilient(with = SHOP, fallback = later_price)]
async fn async_price(product: u32) -> Result<u32, Failure> {
    tokio::task::yield_now().await;
    Err(Failure::Busy(secs(product.into())))
}

async fn later_price(product: u32, error: Failure) -> Result<u32, Failure> {
    tokio::task::yield_now().await;
    if error == Failure::Busy(secs(7)) { Ok(product) } else { Err(error) }
}

/// That of another kind does not compile: `macros/tests/ui/resilient/fail/fallback_not_async.rs`.
#[tokio::test]
async fn ord_08_an_async_function_has_an_async_fallback() {
    assert_eq!(async_price(7).await, Ok(7));
    assert_eq!(async_price(8).await, Err(Failure::Busy(secs(8))));
}
