//! Listeners whose calls go through policies.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::clock::fixed;
use aftercommit::error::{BoxError, PolicyError, StartError};
use aftercommit::listener::{self, Redeliver, Registration};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::resilience::{
    BreakerSettings, BulkheadSettings, Health, Pipeline, PolicyFile, RateSettings, RetrySettings, State as BreakerState,
};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Failure, secs};
use crate::heard::within;
use crate::scene::bus_on;
use crate::stores::Home;

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "policies.paid")]
struct Paid {
    order: u64,
}

fn at_once(attempts: u32) -> RetrySettings {
    RetrySettings::new().attempts(attempts).backoff(fixed(Duration::ZERO))
}

fn failing_twice(pipeline: &Pipeline, calls: Arc<AtomicU32>) -> Registration {
    listener::on::<Paid>("shop.book").resilient(pipeline).call_async(move |_, _| {
        let calls = calls.clone();
        CallFuture::from_or_box(async move {
            tokio::task::yield_now().await;
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Err(Failure::Down.into()),
                _ => Ok(None),
            }
        })
    })
}

#[tokio::test]
async fn a_listener_is_called_through_its_policies_and_is_one_call_to_who_observes() {
    let gateway = Pipeline::named("gateway").retry(at_once(3)).circuit_breaker(BreakerSettings::new()).build();
    let gateway = gateway.expect("legal");
    let calls = Arc::new(AtomicU32::new(0));
    let bus = Bus::builder().listener(failing_twice(&gateway, calls.clone())).start().await.expect("it starts");
    let done = bus.transaction(async |tx| tx.publish(Paid { order: 1 })).await.expect("it commits");
    assert!(done.after_errors.is_empty(), "the third attempt succeeded");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let look = gateway.breaker("gateway").expect("it has one").look();
    assert_eq!((look.totals.calls, look.totals.failed), (3, 2));
    assert!(bus.describe().to_string().contains("through Retry(CircuitBreaker(call)) `gateway`"));
    gateway.breaker("gateway").expect("it has one").force_open();
    let done = bus.transaction(async |tx| tx.publish(Paid { order: 2 })).await.expect("it commits all the same");
    let refused = done.after_errors.first().and_then(|error| error.cause.downcast_ref::<PolicyError>());
    assert!(matches!(refused, Some(PolicyError::CircuitOpen { .. })));
    assert_eq!(calls.load(Ordering::SeqCst), 3, "it was not called");
    assert_eq!(bus.policies().worst(), Health::Down);
}

static CALLS: AtomicU32 = AtomicU32::new(0);
static BREAKER: LazyLock<Pipeline> = LazyLock::new(|| {
    let settings = BreakerSettings::new().last(2).minimum_calls(2);
    Pipeline::named("carrier").circuit_breaker(settings).build().expect("legal")
});

#[listener(phase = Immediate, resilient = BREAKER)]
fn book_carrier(event: &Paid) -> Result<(), Failure> {
    CALLS.fetch_add(1, Ordering::SeqCst);
    if event.order == 0 { Err(Failure::Down) } else { Ok(()) }
}

#[tokio::test]
async fn the_attribute_says_it_too_and_a_publisher_hears_of_the_refusal() {
    let bus = Bus::builder().listeners(listed![book_carrier]).start().await.expect("it starts");
    for _ in 0..2 {
        assert!(bus.publish(&Paid { order: 0 }).is_err());
    }
    let refused = bus.publish(&Paid { order: 1 }).expect_err("the breaker is open");
    assert!(matches!(refused.listener_cause::<PolicyError>(), Some(PolicyError::CircuitOpen { .. })));
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_durable_listener_that_a_policy_refused_is_called_again_later() {
    let clock = aftercommit::testing::MovedClock::default();
    let carrier = Pipeline::named("carrier").circuit_breaker(BreakerSettings::new()).clock(clock.clone()).build();
    let carrier = carrier.expect("legal");
    let called = Arc::new(AtomicU32::new(0));
    let count = called.clone();
    let book = listener::on::<Paid>("shop.book")
        .durable()
        .resilient(&carrier)
        .redeliver(listener::Redeliver::new().attempts(5).backoff(fixed(secs(30))))
        .takes_tx()
        .call_async(move |_, call| {
            let count = count.clone();
            CallFuture::from_or_box(async move {
                let _tx = call.into_tx()?;
                count.fetch_add(1, Ordering::SeqCst);
                Ok(None)
            })
        });
    let bus = Bus::builder().clock(clock.clone()).listener(book).start().await.expect("it starts");
    carrier.breaker("carrier").expect("it has one").open();
    bus.transaction(async |tx| tx.publish(Paid { order: 1 })).await.expect("it commits");
    bus.quiet().await;
    assert_eq!(called.load(Ordering::SeqCst), 0);
    clock.advance(secs(60));
    bus.idle().await;
    assert_eq!(called.load(Ordering::SeqCst), 1, "as a trial");
    assert_eq!(carrier.breaker("carrier").expect("it has one").state(), BreakerState::HalfOpen);
}

async fn refused(listener: Registration) -> String {
    match Bus::builder().listener(listener).start().await {
        Err(StartError::Listener { reason, .. }) => reason,
        other => panic!("it should be refused: {:?}", other.err()),
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_start_with_the_reason() {
    let retry = Pipeline::named("a").retry(at_once(3)).build().expect("legal");
    let with_tx =
        listener::on::<Paid>("a").phase(Phase::BeforeCommit).takes_tx().resilient(&retry).call_with(|_, _| {});
    assert!(refused(with_tx).await.contains("with what the failed call wrote still there"));
    let limited = Pipeline::named("b").time_limiter(secs(1)).build().expect("legal");
    assert!(refused(listener::on::<Paid>("b").resilient(&limited).call(|_| {})).await.contains("cannot stop a `fn`"));
    for waiting in [
        Pipeline::named("c").retry(RetrySettings::new()),
        Pipeline::named("c").rate_limiter(RateSettings::new(1, secs(1)).timeout(secs(1))),
        Pipeline::named("c").bulkhead(BulkheadSettings::new(1).max_wait(secs(1))),
    ] {
        let waiting = waiting.build().expect("legal");
        let reason = refused(listener::on::<Paid>("c").resilient(&waiting).call(|_| {})).await;
        assert!(reason.contains("or say `blocking`"), "{reason}");
        let on_pool = listener::on::<Paid>("c").blocking().resilient(&waiting).call(|_| {});
        assert!(Bus::builder().listener(on_pool).start().await.is_ok());
    }
    let twice = |id: &str| {
        let own = Pipeline::named("same").bulkhead(BulkheadSettings::new(1)).build().expect("legal");
        listener::on::<Paid>(id).resilient(&own).call(|_| {})
    };
    let error = Bus::builder().listener(twice("d")).listener(twice("e")).start().await.expect_err("which one?");
    assert!(error.to_string().contains("another pipeline has its name"), "{error}");
}

#[tokio::test]
async fn the_bus_configures_tells_and_knows_its_policies() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let written = heard.clone();
    let odd = Pipeline::named("odd").as_written().circuit_breaker(BreakerSettings::new()).retry(at_once(3)).build();
    let odd = odd.expect("suspicious, but legal");
    let file: PolicyFile =
        serde_json::from_str(r#"{ "odd": { "circuit-breaker": { "minimum_calls": 1 } } }"#).expect("a file");
    let bus = Bus::builder()
        .policies(&odd)
        .policy_file(file)
        .observer(move |notice: &Notice<'_>| written.lock().push(notice.to_string()))
        .start()
        .await
        .expect("it starts");
    let _ = odd.call(async || Err::<(), BoxError>("down".into())).await;
    assert_eq!(
        *heard.lock(),
        [
            "the policies of pipeline `odd` are nested as written: CircuitBreaker(Retry(call))",
            "pipeline `odd`: the circuit breaker stands around the retry, so that 3 failed attempts are one failure to it, and none \
             of them is stopped once it is open: put the retry outside",
            "retry `odd` makes a call again in 0ns (failed so far: 1)",
            "retry `odd` makes a call again in 0ns (failed so far: 2)",
            "retry `odd` gave up after 3 attempts",
            "circuit breaker `odd` sees 100.0 % of calls fail",
            "circuit breaker `odd` goes from closed to open",
        ]
    );
    assert!(bus.policies().get("odd").is_some());
    drop(bus);
    heard.lock().clear();
    odd.breaker("odd").expect("it has one").close();
    assert!(heard.lock().is_empty(), "a bus that is gone hears nothing");
    let wrong: PolicyFile = serde_json::from_str(r#"{ "even": {} }"#).expect("a file");
    let error = Bus::builder().policies(&odd).policy_file(wrong).start().await.expect_err("there is none");
    assert!(error.to_string().contains("there is no pipeline `even`; known: `odd`"), "{error}");
}

/// A bus on a moved clock with a durable listener that is called through `gateway` and has two attempts in all.
async fn with_two_attempts(
    home: &dyn Home,
    clock: &MovedClock,
    gateway: &Pipeline,
    call: impl Fn(u64) -> Result<(), BoxError> + Send + Sync + 'static,
) -> Bus {
    let redeliver = Redeliver::new().attempts(2).backoff(fixed(secs(1)));
    let listener = listener::on::<Paid>("policies.book").durable().redeliver(redeliver).resilient(gateway);
    let listener = listener.call(move |event: &Paid| call(event.order));
    bus_on(home).clock(clock.clone()).listener(listener).start().await.expect("a bus")
}

async fn pay(bus: &Bus, order: u64) {
    bus.transaction(async |tx| tx.publish(Paid { order })).await.expect("committed");
    within(bus.quiet()).await;
}

crate::on_embedded_stores! {
    async fn a_delivery_that_an_open_breaker_refuses_comes_again_when_it_lets_a_trial_through_and_has_used_no_attempt(home: &dyn Home) {
        let (clock, calls) = (MovedClock::default(), Arc::new(AtomicU32::new(0)));
        let settings = BreakerSettings::new().last(2).minimum_calls(1).trials(1).open_for(secs(60));
        let gateway = Pipeline::named("gateway").clock(clock.clone()).circuit_breaker(settings).build().expect("legal");
        let breaker = gateway.breaker("gateway").expect("it has one").clone();
        let (counted, is_down) = (calls.clone(), Arc::new(AtomicBool::new(true)));
        let down = is_down.clone();
        let bus = with_two_attempts(home, &clock, &gateway, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            if down.load(Ordering::SeqCst) { Err(Failure::Down.into()) } else { Ok(()) }
        })
        .await;
        pay(&bus, 1).await;
        assert_eq!((calls.load(Ordering::SeqCst), breaker.state()), (1, BreakerState::Open), "its first attempt opened it");
        pay(&bus, 2).await;
        // By its redelivery it would come after a second, and again, and be parked: it is refused, and waits for the breaker.
        for _ in 0..59 {
            clock.advance(secs(1));
            within(bus.quiet()).await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(breaker.look().refused, 2, "each was refused once, and came no more until the breaker may let it through");
        is_down.store(false, Ordering::SeqCst);
        clock.advance(secs(1));
        within(bus.idle()).await;
        assert_eq!((calls.load(Ordering::SeqCst), breaker.state()), (3, BreakerState::Closed));
        assert!(bus.parked().await.expect("read").is_empty());
        bus.shutdown(secs(5)).await.expect("stops");
    }

    async fn a_refusal_says_nothing_of_the_event_and_its_own_failures_still_park_it(home: &dyn Home) {
        let clock = MovedClock::default();
        let rate = RateSettings::new(1, secs(60));
        let gateway = Pipeline::named("gateway").clock(clock.clone()).rate_limiter(rate).build().expect("legal");
        let bus = with_two_attempts(home, &clock, &gateway, |order| match order {
            1 => Ok(()),
            _ => Err(Failure::Declined.into()),
        })
        .await;
        pay(&bus, 1).await;
        pay(&bus, 2).await;
        let attempts = async || bus.parked().await.expect("read").first().map(|parked| parked.attempts);
        for minute in 1..=2 {
            assert_eq!(attempts().await, None, "in minute {minute} it had one call less than it has attempts");
            clock.advance(secs(60));
            within(bus.quiet()).await;
        }
        within(bus.idle()).await;
        assert_eq!(attempts().await, Some(2), "two calls, and as many refusals, which do not count");
        bus.shutdown(secs(5)).await.expect("stops");
    }
}
