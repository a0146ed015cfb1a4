//! Promises kept in the corners: renamed listeners, handles that listeners hold, limits that pass late, observers that fail.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::event::{Event, Stored, StoredEvent};
use aftercommit::listener::{self, Redeliver};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::store::ParkedCause;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::heard::{Heard, within};
use crate::scene::{No, Placed, Rang};

/// Another event that can be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moved(u32);

impl Event for Moved {
    const STORED: Option<Stored<Self>> = Some(Stored::json("review.moved"));
}

impl StoredEvent for Moved {}

/// Every order on one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Queued(u32);

impl Event for Queued {
    const STORED: Option<Stored<Self>> = Some(Stored::json("review.queued"));

    fn key(&self, _: &mut Vec<u8>) -> bool {
        true
    }
}

impl StoredEvent for Queued {}

async fn publish<E: Event>(bus: &Bus, event: E) {
    bus.transaction(async |tx| tx.publish(event)).await.expect("committed");
}

async fn stop(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

on_every_store! {
    async fn what_a_listener_was_not_owed_it_is_not_owed_under_its_new_id(home: &dyn Home) {
        let gate = Arc::new(Semaphore::new(0));
        let (closed, called) = (gate.clone(), Heard::new());
        let to = called.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("review.old").durable().when(|event| event.0 % 2 == 1).call_async(move |_, _| {
                let (closed, to) = (closed.clone(), to.clone());
                CallFuture::from_or_box(async move {
                    to.note("called");
                    closed.acquire().await?.forget();
                    Ok(None)
                })
            }))
            .listener(listener::on::<Placed>("review.other").durable().call(|_| ()))
            .start()
            .await
            .expect("the bus starts");
        for order in 1..=3 {
            publish(&bus, Placed(order)).await;
        }
        called.until(1).await;
        // Cut off in its first call, so that it has passed nothing.
        assert!(bus.shutdown(Duration::ZERO).await.is_err());
        let heard = Heard::new();
        let to = heard.clone();
        let renamed = listener::on::<Placed>("review.new").formerly("review.old").durable();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(renamed.when(|event| event.0 % 2 == 1).call(move |event| to.note(event.0.to_string())))
            .start()
            .await
            .expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1", "3"]);
        stop(bus).await;
    }

    async fn a_durable_listener_registered_through_a_listeners_handle_is_delivered_to(home: &dyn Home) {
        let handle: Arc<OnceLock<Bus>> = Arc::default();
        let kept = handle.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Rang>("review.keeps").phase(Phase::Immediate).call_with(move |_, call| -> Result<(), BoxError> {
                kept.set(call.take()?).map_err(|_| No)?;
                Ok(())
            }))
            .start()
            .await
            .expect("the bus starts");
        bus.publish(&Rang(1)).expect("heard");
        let theirs = handle.get().expect("it was given one");
        let heard = Heard::new();
        let to = heard.clone();
        let late = listener::on::<Placed>("review.late").durable().call(move |event| to.note(event.0.to_string()));
        theirs.register(late).await.expect("registered");
        publish(&bus, Placed(1)).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1"]);
        assert!(theirs.unregister("review.late"));
        publish(&bus, Placed(2)).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1"], "taken out, it is not called any more");
        stop(bus).await;
    }

    async fn what_was_passed_by_during_a_call_does_not_hold_back_the_log(home: &dyn Home) {
        let gate = Arc::new(Semaphore::new(0));
        let closed = gate.clone();
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("review.slow").durable().call_async(move |_, _| {
                let (closed, to) = (closed.clone(), to.clone());
                CallFuture::from_or_box(async move {
                    to.note("called");
                    closed.acquire().await?.forget();
                    Ok(None)
                })
            }))
            .listener(listener::on::<Moved>("review.quick").durable().call(|_| ()))
            .start()
            .await
            .expect("the bus starts");
        publish(&bus, Placed(1)).await;
        heard.until(1).await;
        for number in 0..20 {
            publish(&bus, Moved(number)).await;
        }
        gate.add_permits(1);
        within(bus.idle()).await;
        stop(bus).await;
        let store = home.open();
        let end = store.delivered_up_to().borrow().next().0;
        let cursors = store.cursors().await.expect("readable");
        assert!(cursors.iter().all(|(_, cursor)| cursor.low() == end), "{cursors:?}, the log ends at {end}");
    }

    async fn a_call_that_hangs_after_it_settled_ends_at_its_time_limit(home: &dyn Home) {
        let clock = MovedClock::default();
        let heard = Heard::new();
        let to = heard.clone();
        let limit = Duration::from_secs(1);
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("review.hangs").durable().time_limit(limit).takes_delivery().call_async(move |event, mut call| {
                let to = to.clone();
                CallFuture::from_or_box(async move {
                    let delivery: Delivery = call.take()?;
                    let settled = delivery.done().await;
                    to.note(event.0.to_string());
                    if event.0 == 1 {
                        std::future::pending::<()>().await;
                    }
                    let _settled = settled?;
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        publish(&bus, Placed(1)).await;
        heard.until(1).await;
        publish(&bus, Placed(2)).await;
        clock.advance(limit);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1", "2"], "it is settled, and the next one has its turn");
        stop(bus).await;
    }

    async fn a_parked_event_settled_behind_its_listeners_back_does_not_hold_its_key(home: &dyn Home) {
        let clock = MovedClock::default();
        let kept: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let heard = Heard::new();
        let (to, keep) = (heard.clone(), kept.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Queued>("review.kept").durable().redeliver(Redeliver::new().attempts(2)).takes_delivery().call_async(move |event, mut call| {
                let (to, keep) = (to.clone(), keep.clone());
                CallFuture::from_or_box(async move {
                    let delivery: Delivery = call.take()?;
                    to.note(event.0.to_string());
                    // Its first three calls fail: it parks, is resubmitted and waits.
                    if to.len() <= 3 {
                        keep.lock().push(delivery);
                        return Err(No.into());
                    }
                    // An error of its own around the bus's.
                    let _settled = delivery.done().await.map_err(|_| No)?;
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        publish(&bus, Queued(1)).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        let first = bus.parked().await.expect("readable")[0].position;
        assert!(bus.resubmit("review.kept", first).await.expect("readable"));
        within(bus.quiet()).await;
        let late = kept.lock().pop().expect("the third call's");
        let _settled = within(late.done()).await.expect("settled late");
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        publish(&bus, Queued(2)).await;
        within(bus.idle()).await;
        assert!(bus.parked().await.expect("readable").is_empty());
        assert_eq!(heard.all(), ["1", "1", "1", "2"], "it is not called again, and the next one has its turn");
        stop(bus).await;
    }

    async fn a_long_lane_parks_whole_behind_its_head(home: &dyn Home) {
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Queued>("review.long").durable().redeliver(Redeliver::new().attempts(1)).call(|_| Err::<(), No>(No)))
            .start()
            .await
            .expect("the bus starts");
        let publishing = bus.transaction(async |tx| (0..300).try_for_each(|number| tx.publish(Queued(number))));
        let positions = publishing.await.expect("committed").positions;
        within(bus.idle()).await;
        let parked = bus.parked().await.expect("readable");
        assert_eq!(parked.iter().map(|one| one.position).collect::<Vec<_>>(), positions);
        assert!(parked[1..].iter().all(|one| one.cause == ParkedCause::Behind(positions[0])));
        stop(bus).await;
    }

    async fn an_observer_that_panics_ends_nobody(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .observer(|notice: &Notice<'_>| assert!(!matches!(notice, Notice::Parked { .. }), "an observer that cannot bear it"))
            .listener(listener::on::<Placed>("review.parks").durable().redeliver(Redeliver::new().attempts(1)).call(move |event| {
                to.note(event.0.to_string());
                if event.0 == 1 { Err(No) } else { Ok(()) }
            }))
            .start()
            .await
            .expect("the bus starts");
        publish(&bus, Placed(1)).await;
        publish(&bus, Placed(2)).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1", "2"]);
        assert_eq!(bus.parked().await.expect("readable").len(), 1);
        assert_eq!(bus.counts().observer_panics, 1);
        stop(bus).await;
    }

    async fn an_immediate_listener_in_the_background_is_waited_for_and_its_error_answered(home: &dyn Home) {
        let gate = Arc::new(Semaphore::new(0));
        let closed = gate.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Rang>("review.background").phase(Phase::Immediate).spawn().cloning().call_async(move |_, _| {
                let closed = closed.clone();
                CallFuture::from_or_box(async move {
                    closed.acquire().await?.forget();
                    Err(No.into())
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        let done = bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
        gate.add_permits(1);
        let errors = within(done.settled()).await;
        assert_eq!(errors.iter().map(|error| error.who.as_str()).collect::<Vec<_>>(), ["review.background"]);
        stop(bus).await;
    }
}
