//! What a crash left owed, and the guard against an event that ends the process again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::clock::{Clock, SystemClock};
use aftercommit::error::BoxError;
use aftercommit::listener::{self, Redeliver, Registration};
use aftercommit::prelude::*;
use aftercommit::publication::{Offline, Query};
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{ParkedCause, Position, Store};
use aftercommit::transaction::CallFuture;

use super::{APPLIED, Failed, Life, Placed, applied, place, stop};
use crate::heard::{Heard, within};

/// Hangs on every order of the given shop, so that the program can be ended there.
fn hanging(heard: &Heard, shop: &'static str, concurrency: usize) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>("crash.hanging").durable().concurrency(concurrency).takes_tx().call_async(
        move |event, call| {
            let to = to.clone();
            CallFuture::from_or_box(async move {
                to.note(event.line());
                APPLIED.add(call.into_tx()?, &(event.shop.clone(), event.order), 1)?;
                if event.shop == shop {
                    std::future::pending::<()>().await;
                }
                Ok(None)
            })
        },
    )
}

fn over(store: Arc<dyn Store>, limit: u32) -> BusBuilder {
    Bus::builder().shared_store(store).crash_limit(limit)
}

on_embedded_stores! {
    async fn what_a_crash_left_owed_is_taken_up_at_the_next_start(home: &dyn Home) {
        let heard = Heard::new();
        let life = Life::begin();
        let bus = life.start(over(home.open(), 3).listener(hanging(&heard, "north", 2))).await;
        place(&bus, "north", 1).await;
        place(&bus, "south", 1).await;
        place(&bus, "north", 2).await;
        heard.until(2).await;
        within(async { while applied(&bus).is_empty() { tokio::task::yield_now().await; } }).await;
        life.crash(bus);
        let life = Life::begin();
        let bus = life.start(over(home.open(), 3).listener(hanging(&heard, "nowhere", 2))).await;
        within(bus.idle()).await;
        let all: Vec<(String, i64)> = ["north 1", "north 2", "south 1"].iter().map(|line| ((*line).to_owned(), 1)).collect();
        assert_eq!(applied(&bus), all, "each once: the call that was cut off left nothing behind");
        assert_eq!(heard.all().iter().filter(|line| *line == "south 1").count(), 1, "what was done is not called again");
        life.crash(bus);
    }

    async fn after_a_crash_what_may_have_caused_it_is_called_alone_and_marked(home: &dyn Home) {
        let heard = Heard::new();
        let life = Life::begin();
        let bus = life.start(over(home.open(), 3).listener(hanging(&heard, "north", 2))).await;
        let first = place(&bus, "north", 1).await;
        heard.until(1).await;
        life.crash(bus);
        assert!(home.open().suspects().await.expect("readable").is_empty(), "nothing was marked while all was well");

        let life = Life::begin();
        let store = home.open();
        assert!(!store.was_clean());
        let quick = heard.clone();
        let other = listener::on::<Placed>("crash.other").durable().call(move |event| quick.note(format!("other {}", event.line())));
        let bus = life.start(over(store, 3).listener(hanging(&heard, "north", 2)).listener(other)).await;
        // Both listeners are owed what the log held when the process ended, and call it one at a time; the one that hangs holds the other,
        // or comes after it.
        within(async { while heard.all().iter().filter(|line| *line == "north 1").count() < 2 { tokio::task::yield_now().await; } }).await;
        place(&bus, "south", 1).await;
        place(&bus, "south", 2).await;
        tokio::task::yield_now().await;
        let hanging_calls: Vec<String> = heard.all().into_iter().filter(|line| !line.starts_with("other")).collect();
        assert_eq!(hanging_calls, ["north 1", "north 1"], "its concurrency is 2, but the suspect is alone");
        life.crash(bus);

        let suspects = home.open().suspects().await.expect("readable");
        assert_eq!(suspects.iter().map(|one| (one.listener.as_str(), one.position, one.count)).collect::<Vec<_>>(), [("crash.hanging", first, 1)]);
    }

    async fn an_event_that_ends_the_process_again_and_again_parks(home: &dyn Home) {
        let heard = Heard::new();
        let mut first = Position(0);
        for life_number in 0..3 {
            let life = Life::begin();
            let bus = life.start(over(home.open(), 2).listener(hanging(&heard, "north", 1))).await;
            if life_number == 0 {
                first = place(&bus, "north", 1).await;
                place(&bus, "north", 2).await;
                place(&bus, "south", 1).await;
            }
            heard.until(life_number + 1).await;
            life.crash(bus);
        }
        assert_eq!(heard.all(), ["north 1", "north 1", "north 1"]);
        let life = Life::begin();
        let bus = life.start(over(home.open(), 2).listener(hanging(&heard, "north", 1))).await;
        within(bus.idle()).await;
        assert_eq!(heard.all()[3..], ["south 1"], "it is not called a fourth time, and others go on");
        let parked = bus.parked().await.expect("the parked ones");
        let causes: Vec<(Position, ParkedCause)> = parked.iter().map(|one| (one.position, one.cause.clone())).collect();
        assert_eq!(causes, [(first, ParkedCause::Crashed(2)), (Position(first.0 + 1), ParkedCause::Behind(first))]);
        life.crash(bus);
        // Mended, it is called again on demand.
        let life = Life::begin();
        let bus = life.start(over(home.open(), 2).listener(hanging(&heard, "nowhere", 1))).await;
        assert!(bus.resubmit("crash.hanging", first).await.expect("readable"));
        within(bus.idle()).await;
        assert_eq!(applied(&bus), [("north 1".into(), 1), ("north 2".into(), 1), ("south 1".into(), 1)]);
        life.crash(bus);
    }

    async fn a_dead_letter_asked_for_offline_that_ends_the_process_again_and_again_stays_dead(home: &dyn Home) {
        let failing = listener::on::<Placed>("crash.hanging").durable().redeliver(Redeliver::new().attempts(1));
        let bus = Bus::builder().shared_store(home.open()).listener(failing.call(|_| Err::<(), _>(Failed("not yet"))));
        let bus = bus.start().await.expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        within(bus.idle()).await;
        stop(bus).await;
        let store = home.open();
        let offline = Offline::new(store.clone(), SystemClock.now());
        assert_eq!(offline.replay(&Query::new()).await.expect("writable").asked, 1);
        within(store.close()).await.expect("it closes");
        drop((store, offline));

        let heard = Heard::new();
        for life_number in 0..3 {
            let life = Life::begin();
            let bus = life.start(over(home.open(), 2).listener(hanging(&heard, "north", 1))).await;
            heard.until(life_number + 1).await;
            life.crash(bus);
        }
        let life = Life::begin();
        let bus = life.start(over(home.open(), 2).listener(hanging(&heard, "north", 1))).await;
        within(bus.idle()).await;
        assert_eq!(heard.len(), 3, "it is not called a fourth time");
        let parked = bus.parked().await.expect("the parked ones");
        let causes: Vec<(Position, ParkedCause)> = parked.iter().map(|one| (one.position, one.cause.clone())).collect();
        assert_eq!(causes, [(first, ParkedCause::Crashed(2))]);
        life.crash(bus);
        // Nobody suspects it any more when it is asked for again.
        let life = Life::begin();
        let bus = life.start(over(home.open(), 2).listener(hanging(&heard, "nowhere", 1))).await;
        assert!(bus.resubmit("crash.hanging", first).await.expect("readable"));
        within(bus.idle()).await;
        assert_eq!((heard.len(), applied(&bus)), (4, vec![("north 1".to_owned(), 1)]));
        life.crash(bus);
    }

    async fn without_a_crash_limit_an_event_is_called_for_ever(home: &dyn Home) {
        let heard = Heard::new();
        for life_number in 0..8 {
            let life = Life::begin();
            let bus = life.start(over(home.open(), 0).listener(hanging(&heard, "north", 1))).await;
            if life_number == 0 {
                place(&bus, "north", 1).await;
            }
            heard.until(life_number + 1).await;
            life.crash(bus);
        }
        assert_eq!(heard.len(), 8);
    }

    async fn a_suspect_that_fails_or_panics_is_a_failed_call_and_no_crash(home: &dyn Home) {
        let panics = Arc::new(AtomicBool::new(false));
        let heard = Heard::new();
        let declare = || {
            let (to, panics) = (heard.clone(), panics.clone());
            listener::on::<Placed>("crash.panics").durable().redeliver(Redeliver::new().attempts(1)).call_async(move |event, _| {
                let (to, panics) = (to.clone(), panics.clone());
                CallFuture::from_or_box(async move {
                    to.note(event.line());
                    if panics.load(Ordering::SeqCst) {
                        panic!("caught");
                    }
                    std::future::pending::<Result<_, BoxError>>().await
                })
            })
        };
        let life = Life::begin();
        let bus = life.start(over(home.open(), 1).listener(declare())).await;
        let first = place(&bus, "north", 1).await;
        heard.until(1).await;
        life.crash(bus);
        panics.store(true, Ordering::SeqCst);
        let life = Life::begin();
        let bus = life.start(over(home.open(), 1).listener(declare())).await;
        within(bus.idle()).await;
        let parked = bus.parked().await.expect("the parked ones");
        assert_eq!(parked[0].cause, ParkedCause::Failed("panicked: caught".to_owned()));
        life.crash(bus);
        // The mark of a call that came back is gone, and nobody is suspected of what came later.
        assert!(home.open().suspects().await.expect("readable").iter().all(|one| one.position != first));
    }
}
