//! What a running bus says about itself when it is asked.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use tokio::sync::Semaphore;

use crate::heard::{until, within};
use crate::scene::{Heard, Placed, bus_on, counting};

on_embedded_stores! {
    async fn a_durable_listener_is_behind_by_what_it_has_not_settled_and_as_old_as_the_oldest_of_it(home: &dyn Home) {
        let (clock, called, gate) = (MovedClock::default(), Heard::default(), Arc::new(Semaphore::new(0)));
        let waits = listener::on::<Placed>("figures.waits").durable().concurrency(2).call_async({
            let (called, gate) = (called.clone(), gate.clone());
            move |event, _| {
                called.note(event.0.to_string());
                let gate = gate.clone();
                CallFuture::from_or_box(async move {
                    gate.acquire().await?.forget();
                    Ok(None)
                })
            }
        });
        let store = home.open();
        let kind = store.kind();
        let bus = Bus::builder().shared_store(store).clock(clock.clone()).listener(waits).listener(counting("figures.counts")).start().await.expect("the bus starts");
        for number in 1..=3 {
            bus.transaction(async |tx| tx.publish(Placed(number))).await.expect("committed");
            clock.advance(Duration::from_secs(10));
        }
        until(|| called.all().len() == 2).await;
        until(|| (1..=3).all(|number| crate::scene::done(&bus, number) == 1)).await;
        let lags = async || {
            let lags = bus.lags().await.expect("the store answers");
            lags.into_iter().map(|lag| (lag.listener, lag.behind, lag.oldest_age.map(|age| age.as_secs()))).collect::<Vec<_>>()
        };
        let waiting = |behind, age| ("figures.waits".to_owned(), behind, age);
        within(async {
            // The worker takes note of the last settlement after its commit.
            while lags().await != [("figures.counts".to_owned(), 0, None), waiting(3, Some(30))] {
                tokio::task::yield_now().await;
            }
        })
        .await;
        gate.add_permits(3);
        within(bus.idle()).await;
        assert_eq!(lags().await, [("figures.counts".to_owned(), 0, None), waiting(0, None)]);
        assert_eq!(bus.store_size().is_some_and(|bytes| bytes > 0), kind != "memory", "{kind}");
    }
}

#[tokio::test]
async fn a_listener_of_an_empty_log_is_behind_nothing() {
    let bus =
        bus_on(&crate::stores::Memory::new()).listener(counting("figures.counts")).start().await.expect("it starts");
    let lags = bus.lags().await.expect("the store answers");
    assert_eq!((lags.len(), lags[0].behind, lags[0].oldest_age), (1, 0, None));
}
