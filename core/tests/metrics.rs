//! What a bus tells the `metrics` facade. A runtime on the test's own thread, as is the recorder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::metrics::Metrics;
use aftercommit::error::BoxError;
use aftercommit::event::{Event, Stored};
use aftercommit::listener::{self, Redeliver, fixed};
use aftercommit::prelude::*;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Placed(u32);

impl Event for Placed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("shop.placed"));
}

impl StoredEvent for Placed {}

struct Rang;

impl Event for Rang {}

/// The figures by name and labels, counters and gauges as they are, histograms by how many values they have.
fn figures(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let figures = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        (format!("{}{{{}}}", key.name().trim_start_matches("aftercommit_"), labels.join(",")), value)
    });
    figures.collect()
}

fn check(figures: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        assert_eq!(figures.get(*name), Some(value), "{name} of {figures:#?}");
    }
}

/// Runs `test` on one thread, with a recorder of its own.
fn recorded<T: Future<Output = ()>>(test: impl FnOnce(Snapshotter) -> T) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    metrics::with_local_recorder(&recorder, || runtime.block_on(test(snapshotter)));
}

#[test]
fn what_happens_is_counted_and_timed() {
    recorded(async |snapshotter| {
        let clock = MovedClock::default();
        let fails = |event: &Placed, _: &mut listener::Call<'_>| -> Result<(), BoxError> {
            if event.0 == 1 { Ok(()) } else { Err("no".into()) }
        };
        let twice = Redeliver::new().attempts(2).backoff(fixed(Duration::from_secs(1)));
        let bus = Bus::builder()
            .clock(clock.clone())
            .observer(Metrics::new())
            .listener(listener::on::<Placed>("durable").durable().redeliver(twice).call_with(fails))
            .listener(listener::on::<Placed>("immediate").phase(Phase::Immediate).call(|_| {}))
            .listener(listener::on::<Placed>("after").call(|_| Err::<(), _>(std::io::Error::other("no"))))
            .start()
            .await
            .expect("the bus starts");
        for number in 1..=2 {
            bus.transaction(async |tx| tx.publish(Placed(number))).await.expect("committed");
        }
        bus.quiet().await;
        clock.advance(Duration::from_secs(1));
        bus.idle().await;
        bus.publish(&Rang).expect("nobody objects");
        check(
            &figures(&snapshotter),
            &[
                ("published_total{event=shop.placed}", 2.0),
                ("dead_events_total{event=metrics::Rang}", 1.0),
                ("listener_duration_seconds{listener=immediate,event=shop.placed,failed=false}", 2.0),
                ("listener_duration_seconds{listener=after,event=shop.placed,failed=true}", 2.0),
                ("listener_duration_seconds{listener=durable,event=shop.placed,failed=false}", 1.0),
                ("listener_duration_seconds{listener=durable,event=shop.placed,failed=true}", 2.0),
                ("after_errors_total{listener=after}", 2.0),
                ("delivered_total{listener=durable}", 1.0),
                ("failed_total{listener=durable}", 2.0),
                ("redelivered_total{listener=durable}", 1.0),
                ("parked_total{listener=durable}", 1.0),
                // Two units of the test, and one that settles the delivery.
                ("commit_duration_seconds{failed=false}", 3.0),
                ("group_units{}", 3.0),
            ],
        );
    });
}

#[test]
fn lag_age_and_size_are_sampled() {
    recorded(async |snapshotter| {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (clock, gate) = (MovedClock::default(), Arc::new(Semaphore::new(0)));
        let waits = listener::on::<Placed>("waits").durable().call_async({
            let gate = gate.clone();
            move |_, _| {
                let gate = gate.clone();
                CallFuture::from_or_box(async move {
                    gate.acquire().await?.forget();
                    Ok(None)
                })
            }
        });
        let bus = Bus::builder()
            .store(SledStore::open(folder.path().join("store")).expect("a store on sled opens"))
            .clock(clock.clone())
            .observer(Metrics::new())
            .listener(waits)
            .start()
            .await
            .expect("the bus starts");
        for number in 1..=3 {
            bus.transaction(async |tx| tx.publish(Placed(number))).await.expect("committed");
            clock.advance(Duration::from_secs(10));
        }
        Metrics::sample(&bus).await.expect("the store answers");
        let sampled = figures(&snapshotter);
        check(&sampled, &[("lag{listener=waits}", 3.0), ("oldest_age_seconds{listener=waits}", 30.0)]);
        assert!(sampled["store_bytes{}"] > 0.0);
        gate.add_permits(3);
        bus.idle().await;
        Metrics::sample(&bus).await.expect("the store answers");
        check(&figures(&snapshotter), &[("lag{listener=waits}", 0.0), ("oldest_age_seconds{listener=waits}", 0.0)]);
    });
}

#[test]
fn a_slow_call_is_counted() {
    recorded(async |snapshotter| {
        let clock = MovedClock::default();
        let slow = listener::on::<Rang>("slow").phase(Phase::Immediate).slow_after(Duration::from_secs(1)).call({
            let clock = clock.clone();
            move |_| clock.advance(Duration::from_secs(2))
        });
        let bus = Bus::builder().clock(clock).observer(Metrics::new()).listener(slow).start().await.expect("it starts");
        bus.publish(&Rang).expect("nobody objects");
        check(&figures(&snapshotter), &[("slow_total{who=slow}", 1.0)]);
    });
}

#[cfg(feature = "resilience")]
#[test]
fn what_happens_in_policies_is_counted_and_how_they_are_is_sampled() {
    use aftercommit::resilience::{BreakerSettings, BulkheadSettings, Pipeline, RateSettings, RetrySettings};

    recorded(async |snapshotter| {
        let gateway = Pipeline::named("gateway")
            .retry(RetrySettings::new().attempts(2).backoff(fixed(Duration::ZERO)))
            .circuit_breaker(BreakerSettings::new().last(2).minimum_calls(2))
            .rate_limiter(RateSettings::new(5, Duration::from_secs(60)))
            .bulkhead(BulkheadSettings::new(3))
            .clock(MovedClock::default())
            .build()
            .expect("legal");
        let bus = Bus::builder().observer(Metrics::new()).policies(&gateway).start().await.expect("it starts");
        for _ in 0..2 {
            assert!(gateway.call(async || Err::<(), BoxError>("down".into())).await.is_err());
        }
        Metrics::sample(&bus).await.expect("the store answers");
        check(
            &figures(&snapshotter),
            &[
                ("retried_total{name=gateway}", 1.0),
                ("gave_up_total{name=gateway}", 1.0),
                ("breaker_moved_total{name=gateway,to=open}", 1.0),
                ("policy_refused_total{kind=circuit-breaker,name=gateway}", 1.0),
                ("breaker_state{name=gateway,state=open}", 1.0),
                ("breaker_state{name=gateway,state=closed}", 0.0),
                ("breaker_failure_rate{name=gateway}", 100.0),
                ("bulkhead_calls{name=gateway}", 0.0),
                ("policy_waiting{kind=rate-limiter,name=gateway}", 0.0),
                ("permits{name=gateway}", 3.0),
            ],
        );
    });
}
