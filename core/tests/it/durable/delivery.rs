//! The three forms of a delivery, and what an event inherits from the one it follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aftercommit::error::BoxError;
use aftercommit::listener::{self, IntoAnswer, Redeliver};
use aftercommit::prelude::*;
use aftercommit::store::ParkedCause;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use tokio::sync::Semaphore;

use super::{APPLIED, Failed, Placed, Shipped, applied, place, stop};
use crate::heard::{Heard, within};

const READ: Counters<u32> = Counters::new("durable.read");

/// Lets everything be called again until it is done, however long it would wait.
async fn drain(bus: &Bus, clock: &MovedClock) {
    let moving = async {
        loop {
            bus.quiet().await;
            clock.advance(std::time::Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    within(async {
        tokio::select! {
            biased;
            () = bus.idle() => {}
            () = moving => {}
        }
    })
    .await;
}

on_embedded_stores! {
    async fn with_tx_its_writes_and_done_are_one_commit(home: &dyn Home) {
        let clock = MovedClock::default();
        let calls = Arc::new(AtomicU32::new(0));
        let declare = || {
            let calls = calls.clone();
            listener::on::<Placed>("delivery.tx").durable().takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?;
                // Every other call fails after it has written.
                if calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { Err(Failed("after writing").into()) } else { Ok(()) }
            })
        };
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(declare()).start().await.expect("the bus starts");
        for order in 1..=5 {
            place(&bus, "north", order).await;
        }
        drain(&bus, &clock).await;
        let expected: Vec<(String, i64)> = (1..=5).map(|order| (format!("north {order}"), 1)).collect();
        assert_eq!((applied(&bus), calls.load(Ordering::SeqCst)), (expected.clone(), 10));
        stop(bus).await;
        let bus = Bus::builder().shared_store(home.open()).clock(clock).listener(declare()).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!((applied(&bus), calls.load(Ordering::SeqCst)), (expected, 10), "what is done is not called again");
    }

    async fn a_conflict_of_its_unit_runs_it_again_at_once_and_is_no_attempt(home: &dyn Home) {
        let heard = Heard::new();
        let gate = Arc::new(Semaphore::new(0));
        let (to, closed) = (heard.clone(), gate.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("delivery.conflict").durable().redeliver(Redeliver::new().attempts(1)).takes_tx().call_async(move |event, call| {
                let (to, closed) = (to.clone(), closed.clone());
                CallFuture::from_or_box(async move {
                    let tx = call.into_tx()?;
                    let read = READ.get(tx, &1)?;
                    to.note(format!("read {read}"));
                    closed.acquire().await?.forget();
                    READ.set(tx, &1, read + i64::from(event.order))?;
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 5).await;
        heard.until(1).await;
        bus.transaction(async |tx| READ.add(tx, &1, 100)).await.expect("committed");
        gate.add_permits(2);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["read 0", "read 100"]);
        assert_eq!(READ.get(&mut bus.reader().expect("a reader"), &1).expect("a row"), 105);
        let counts = bus.counts();
        assert_eq!((counts.conflicts, counts.redeliveries, counts.parked), (1, 0, 0));
    }

    async fn a_delivery_keeps_its_id_over_attempts_and_settles_once(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let gate = Arc::new(Semaphore::new(0));
        let (to, closed) = (heard.clone(), gate.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("delivery.settle").durable().takes_delivery().call_async(move |event, mut call| {
                let (to, closed) = (to.clone(), closed.clone());
                CallFuture::from_or_box(async move {
                    let id = call.metadata().id;
                    let delivery: Delivery = call.take()?;
                    assert_eq!(delivery.id().to_string(), format!("{id}/delivery.settle"));
                    to.note(format!("{} attempt {}", delivery.id(), delivery.attempt()));
                    if delivery.attempt() < 3 {
                        return Err(Failed("the carrier is away").into());
                    }
                    let settled = delivery.settle(async |tx| {
                        let read = READ.get(tx, &2)?;
                        to.note(format!("read {read}"));
                        // The first time, somebody else gets in between.
                        closed.acquire().await.map_err(|_| aftercommit::error::StoreError::Closed)?.forget();
                        READ.set(tx, &2, read + 1)?;
                        APPLIED.add(tx, &(event.shop.clone(), event.order), 1)
                    });
                    settled.await?.into_answer()
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        clock.advance(std::time::Duration::from_millis(100));
        within(bus.quiet()).await;
        clock.advance(std::time::Duration::from_millis(200));
        heard.until(4).await;
        bus.transaction(async |tx| READ.add(tx, &2, 10)).await.expect("committed");
        gate.add_permits(2);
        within(bus.idle()).await;
        let lines = heard.all();
        let id = lines[0].strip_suffix(" attempt 1").expect("the first attempt").to_owned();
        assert_eq!(lines, [format!("{id} attempt 1"), format!("{id} attempt 2"), format!("{id} attempt 3"), "read 0".into(), "read 10".into()]);
        assert_eq!(applied(&bus), [("north 1".to_owned(), 1)]);
        assert_eq!((bus.counts().redeliveries, bus.counts().parked), (2, 0));
    }

    /// The macro refuses an answer that is not `Settled` (`tests/ui/listener/fail/delivery_not_settled.rs`); by hand it is a failed call.
    async fn a_delivery_that_is_not_settled_has_failed(home: &dyn Home) {
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(
                listener::on::<Placed>("delivery.unsettled").durable().redeliver(Redeliver::new().attempts(1)).takes_delivery().call_with(
                    |_, call| -> Result<(), BoxError> { call.take::<Delivery>().map(drop) },
                ),
            )
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.idle()).await;
        let parked = bus.parked().await.expect("the parked ones");
        assert!(matches!(&parked[0].cause, ParkedCause::Failed(cause) if cause.contains("without settling")), "{parked:?}");
    }

    async fn a_plain_listener_is_called_until_it_succeeds_and_then_no_more(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let declare = || {
            let to = heard.clone();
            listener::on::<Placed>("delivery.plain").durable().call(move |event| {
                to.note(event.line());
                if to.len() < 3 { Err(Failed("not yet")) } else { Ok(()) }
            })
        };
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(declare()).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        drain(&bus, &clock).await;
        assert_eq!(heard.all(), ["north 1", "north 1", "north 1"]);
        stop(bus).await;
        let bus = Bus::builder().shared_store(home.open()).clock(clock).listener(declare()).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard.len(), 3);
    }

    async fn a_reply_is_published_in_the_unit_of_its_delivery_or_not_at_all(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let veto = Arc::new(AtomicBool::new(true));
        let (vetoing, to) = (veto.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("delivery.reply").durable().takes_tx().call_with(|event, call| -> Result<Publish<Shipped>, BoxError> {
                APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?;
                Ok(Publish(Shipped { order: event.order }))
            }))
            .listener(listener::on::<Shipped>("delivery.veto").phase(Phase::BeforeCommit).call(move |_| {
                if vetoing.load(Ordering::SeqCst) { Err(Failed("not today")) } else { Ok(()) }
            }))
            .listener(listener::on::<Shipped>("delivery.shipped").durable().call(move |event| to.note(format!("shipped {}", event.order))))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        assert!(applied(&bus).is_empty() && heard.len() == 0, "neither its write nor its reply");
        veto.store(false, Ordering::SeqCst);
        drain(&bus, &clock).await;
        assert_eq!((applied(&bus), heard.all()), (vec![("north 1".to_owned(), 1)], vec!["shipped 1".to_owned()]));
    }

    async fn what_a_durable_listener_publishes_descends_from_its_event(home: &dyn Home) {
        let heard = Heard::new();
        let note = |name: &'static str| {
            let to = heard.clone();
            move |order: u32, metadata: Metadata| {
                let Metadata { id, correlation, causation, .. } = metadata;
                to.note(format!("{name} {order} is {id} of {correlation} by {}", causation.map_or_else(|| "nobody".to_owned(), |id| id.to_string())));
            }
        };
        let (placed, shipped) = (note("placed"), note("shipped"));
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("descent.tx").durable().takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                placed(event.order, call.metadata());
                Ok(call.tx()?.publish(Shipped { order: 1 })?)
            }))
            .listener(listener::on::<Placed>("descent.reply").durable().call(|_| Publish(Shipped { order: 2 })))
            .listener(listener::on::<Placed>("descent.settle").durable().takes_delivery().call_async(|_, mut call| {
                CallFuture::from_or_box(async move {
                    let delivery: Delivery = call.take()?;
                    delivery.settle(async |tx| tx.publish(Shipped { order: 3 })).await?.into_answer()
                })
            }))
            .listener(listener::on::<Placed>("descent.bus").durable().call_async(|_, mut call| {
                CallFuture::from_or_box(async move {
                    let bus: Bus = call.take()?;
                    bus.transaction(async |tx| tx.publish(Shipped { order: 4 })).await?;
                    Ok(None)
                })
            }))
            .listener(listener::on::<Placed>("descent.after").call(|_| Publish(Shipped { order: 5 })))
            .listener(listener::on::<Shipped>("descent.shipped").durable().call_with(move |event, call| shipped(event.order, call.metadata())))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 0).await;
        within(bus.idle()).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines.len(), 6, "{lines:?}");
        let id = lines[0].split(' ').nth(3).expect("an id").to_owned();
        assert_eq!(lines[0], format!("placed 0 is {id} of {id} by nobody"));
        for line in &lines[1..] {
            assert!(line.ends_with(&format!("of {id} by {id}")), "{line} should descend from {id}");
        }
    }

    async fn a_condition_is_asked_when_the_event_is_published_and_never_again(home: &dyn Home) {
        let heard = Heard::new();
        let open = Arc::new(AtomicBool::new(false));
        let declare = || {
            let (asked, to) = (open.clone(), heard.clone());
            listener::on::<Placed>("delivery.condition").durable().when(move |_| asked.load(Ordering::SeqCst)).call(move |event| to.note(event.line()))
        };
        let other = || listener::on::<Placed>("delivery.other").durable().call(|_| ());
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).listener(declare()).listener(other()).start().await.expect("the bus starts");
        let declined = place(&bus, "north", 1).await;
        let logged = store.read_event(declined).await.expect("readable");
        if let Some(logged) = logged {
            assert_eq!(logged.envelope.header.not_owed, ["delivery.condition"], "the envelope says who is not owed");
        }
        open.store(true, Ordering::SeqCst);
        place(&bus, "north", 2).await;
        open.store(false, Ordering::SeqCst);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 2"], "asked at publish, whatever it would say later");
        stop(bus).await;
        drop(store);
        open.store(true, Ordering::SeqCst);
        let bus = Bus::builder().shared_store(home.open()).listener(declare()).listener(other()).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard.len(), 1);
    }
}
