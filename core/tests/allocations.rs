//! What a publish and a listener allocate, counted: nothing of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aftercommit::event::{Event, EventSlot};
use aftercommit::listener::{self, Registration};
use aftercommit::transaction::{CallFuture, SLOT};
use aftercommit::{Bus, Error, Phase};
use allocation_counter::measure;
use tokio::runtime::Runtime;

#[derive(Clone)]
struct Ticked(u64);

impl Event for Ticked {
    fn slot() -> Option<&'static EventSlot> {
        static SLOT: EventSlot = EventSlot::new();
        Some(&SLOT)
    }
}

const EVENTS: u64 = 10;

/// A runtime on this thread, whose allocations are the ones that are counted.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn bus(runtime: &Runtime, listeners: usize, listener: impl Fn(String) -> Registration) -> Bus {
    let listeners = (0..listeners).map(|number| listener(format!("listener-{number}")));
    runtime.block_on(Bus::builder().listeners(listeners).start()).expect("the bus starts")
}

/// The allocations of a unit of work with [`EVENTS`] events and so many listeners, once everything has been used before.
fn of_a_unit(listeners: usize, listener: impl Fn(String, Arc<AtomicU64>) -> Registration) -> u64 {
    let runtime = runtime();
    let sum = Arc::new(AtomicU64::new(0));
    let bus = bus(&runtime, listeners, |id| listener(id, sum.clone()));
    let unit = || {
        let committed = runtime.block_on(bus.transaction(async |tx| {
            (0..EVENTS).try_for_each(|_| tx.publish(Ticked(1)))?;
            Ok::<_, Error>(())
        }));
        assert!(committed.expect("the unit commits").after_errors.is_empty());
    };
    unit();
    let counted = measure(unit).count_total;
    assert_eq!(sum.load(Ordering::Relaxed), 2 * EVENTS * listeners as u64, "every listener saw every event");
    counted
}

fn awaited(id: String, sum: Arc<AtomicU64>) -> Registration {
    let sum: &'static AtomicU64 = Box::leak(Box::new(sum));
    listener::on::<Ticked>(id).call_async(move |event, _| {
        CallFuture::from_or_box(async move {
            std::future::ready(()).await;
            sum.fetch_add(event.0, Ordering::Relaxed);
            Ok(None)
        })
    })
}

fn awaited_with<const BYTES: usize>(id: String, sum: Arc<AtomicU64>) -> Registration {
    let sum: &'static AtomicU64 = Box::leak(Box::new(sum));
    listener::on::<Ticked>(id).call_async(move |event, _| {
        CallFuture::from_or_box(async move {
            let kept = [1u8; BYTES];
            std::future::ready(()).await;
            sum.fetch_add(event.0 * u64::from(std::hint::black_box(&kept)[0]), Ordering::Relaxed);
            Ok(None)
        })
    })
}

#[test]
fn a_publish_to_immediate_listeners_allocates_nothing() {
    let runtime = runtime();
    let sum = Arc::new(AtomicU64::new(0));
    let bus = bus(&runtime, 100, |id| {
        let sum = sum.clone();
        listener::on::<Ticked>(id).phase(Phase::Immediate).call(move |event| {
            sum.fetch_add(event.0, Ordering::Relaxed);
        })
    });
    let events: Vec<Ticked> = (0..EVENTS).map(Ticked).collect();
    let one_by_one = measure(|| events.iter().try_for_each(|event| bus.publish(event)).expect("nobody fails"));
    assert_eq!(one_by_one.count_total, 0);
    let at_once = measure(|| bus.publish_all(&events).expect("nobody fails"));
    assert_eq!(at_once.count_total, 0);
    assert_eq!(sum.load(Ordering::Relaxed), 2 * 100 * events.iter().map(|event| event.0).sum::<u64>());
}

#[test]
fn a_subscriber_that_has_gone_leaves_no_cost_behind() {
    let runtime = runtime();
    let sum = Arc::new(AtomicU64::new(0));
    let bus = bus(&runtime, 10, |id| {
        let sum = sum.clone();
        listener::on::<Ticked>(id).phase(Phase::Immediate).call(move |event| {
            sum.fetch_add(event.0, Ordering::Relaxed);
        })
    });
    let publish = || measure(|| bus.publish(&Ticked(1)).expect("nobody fails")).count_total;
    for _ in 0..3 {
        let mut stream = bus.subscribe::<Ticked>();
        assert!(publish() > 0, "the event is cloned for who reads it");
        assert!(runtime.block_on(stream.next()).is_some_and(|item| item.is_ok()));
        drop(stream);
        assert_eq!(publish(), 0);
    }
}

#[test]
fn an_awaited_listener_that_does_not_wait_allocates_nothing() {
    let one = of_a_unit(1, awaited);
    assert!(one > 0, "the unit itself allocates, so what is counted is this thread");
    assert_eq!(of_a_unit(100, awaited), one);
}

#[test]
fn a_call_that_fits_its_slot_allocates_nothing_and_a_larger_one_once() {
    const SMALL: usize = SLOT / 2;
    const LARGE: usize = SLOT + 1;
    let one = of_a_unit(1, awaited);
    assert_eq!(of_a_unit(100, awaited_with::<SMALL>), one);
    assert_eq!(of_a_unit(100, awaited_with::<LARGE>), one + 100 * EVENTS);
}

#[cfg(feature = "resilience")]
mod policies {
    use std::time::Duration;

    use aftercommit::error::PolicyError;
    use aftercommit::resilience::{
        BreakerSettings, BulkheadSettings, Pipeline, PipelineBuilder, RateSettings, RetrySettings,
    };
    use allocation_counter::measure;
    use futures::FutureExt;

    fn check(builder: PipelineBuilder) {
        let pipeline = builder.build().expect("legal");
        let call = || {
            let answer = pipeline.call(async || Ok::<_, PolicyError>(std::hint::black_box(7))).now_or_never();
            assert_eq!(answer, Some(Ok(7)));
        };
        call();
        assert_eq!(measure(call).count_total, 0, "{pipeline}");
    }

    #[test]
    fn a_call_that_succeeds_allocates_nothing_through_each_policy_and_through_all_five() {
        let named = || Pipeline::named("gateway");
        let breaker = || BreakerSettings::new().slow_calls(Duration::from_secs(4), 50.0);
        let rate = RateSettings::new(1_000_000, Duration::from_secs(1));
        check(named().retry(RetrySettings::new()));
        check(named().circuit_breaker(breaker()));
        check(named().circuit_breaker(breaker().within(Duration::from_secs(10))));
        check(named().rate_limiter(rate));
        check(named().time_limiter(Duration::from_secs(1)));
        check(named().bulkhead(BulkheadSettings::new(10)));
        let five = named().retry(RetrySettings::new()).circuit_breaker(breaker()).rate_limiter(rate);
        check(five.time_limiter(Duration::from_secs(1)).bulkhead(BulkheadSettings::new(10)));
    }
}
