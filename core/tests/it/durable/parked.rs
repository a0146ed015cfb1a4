//! Given up for now: what is parked, behind what, and its way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Redeliver, Registration, StartAt};
use aftercommit::prelude::*;
use aftercommit::store::{Parked, ParkedCause, Position};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{APPLIED, Failed, Placed, applied, place, stop};
use crate::heard::{Heard, within};

/// Fails on every order of the north while it is closed.
fn north(heard: &Heard, open: &Arc<AtomicBool>) -> Registration {
    let (to, open) = (heard.clone(), open.clone());
    listener::on::<Placed>("parked.north").durable().redeliver(Redeliver::new().attempts(1)).call(move |event| {
        to.note(event.line());
        if event.shop == "north" && !open.load(Ordering::SeqCst) { Err(Failed("closed")) } else { Ok(()) }
    })
}

fn causes(parked: &[Parked]) -> Vec<(Position, ParkedCause)> {
    parked.iter().map(|one| (one.position, one.cause.clone())).collect()
}

on_every_store! {
    async fn out_of_attempts_an_event_parks_with_its_cause_and_its_followers_behind_it(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let open = Arc::new(AtomicBool::new(false));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(north(&heard, &open)).start().await.expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        place(&bus, "south", 1).await;
        let second = place(&bus, "north", 2).await;
        within(bus.idle()).await;
        let third = place(&bus, "north", 3).await;
        place(&bus, "south", 2).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "south 1", "south 2"], "followers are not even called, other keys go on");
        let parked = bus.parked().await.expect("the parked ones");
        let behind = ParkedCause::Behind(first);
        assert_eq!(causes(&parked), [(first, ParkedCause::Failed("closed".into())), (second, behind.clone()), (third, behind)]);
        assert_eq!(parked.iter().map(|one| one.attempts).collect::<Vec<_>>(), [1, 0, 0]);
        assert!(parked.iter().all(|one| one.listener == "parked.north" && one.envelope.header.key.as_deref() == Some(b"north")));
    }

    async fn a_resubmitted_key_is_called_in_order_and_what_arrived_meanwhile_after_it(home: &dyn Home) {
        let heard = Heard::new();
        let gate = Arc::new(Semaphore::new(0));
        let open = Arc::new(AtomicBool::new(false));
        let (to, closed, may) = (heard.clone(), gate.clone(), open.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("parked.gated").durable().concurrency(4).redeliver(Redeliver::new().attempts(1)).call_async(move |event, _| {
                let (to, closed, may) = (to.clone(), closed.clone(), may.clone());
                CallFuture::from_or_box(async move {
                    to.note(event.line());
                    if !may.load(Ordering::SeqCst) {
                        return Err(Failed("closed").into());
                    }
                    closed.acquire().await?.forget();
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        place(&bus, "north", 2).await;
        within(bus.idle()).await;
        let other = place(&bus, "south", 1).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "south 1"]);
        assert!(!bus.resubmit("parked.gated", Position(1_000)).await.expect("readable"), "nothing is parked there");
        assert!(!bus.resubmit("parked.other", first).await.expect("readable"), "nor for a listener that there is not");
        open.store(true, Ordering::SeqCst);
        assert!(bus.resubmit("parked.gated", first).await.expect("readable"));
        heard.until(3).await;
        place(&bus, "north", 3).await;
        assert!(bus.resubmit("parked.gated", first).await.expect("readable"), "asked twice is asked once");
        gate.add_permits(3);
        within(bus.idle()).await;
        assert_eq!(heard.all()[2..], ["north 1", "north 2", "north 3"]);
        let left: Vec<Position> = bus.parked().await.expect("the parked ones").iter().map(|one| one.position).collect();
        assert_eq!(left, [other], "another key stays parked until somebody asks");
    }

    async fn what_fails_again_stays_parked_with_the_new_cause(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("parked.again").durable().redeliver(Redeliver::new().attempts(1)).call(move |event| {
                to.note(event.line());
                match (event.order, to.len()) {
                    (_, 1) => Err(Failed("the first cause")),
                    (2, _) => Err(Failed("the second cause")),
                    _ => Ok(()),
                }
            }))
            .start()
            .await
            .expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        let second = place(&bus, "north", 2).await;
        let third = place(&bus, "north", 3).await;
        within(bus.idle()).await;
        assert_eq!(causes(&bus.parked().await.expect("parked"))[0], (first, ParkedCause::Failed("the first cause".into())));
        assert!(bus.resubmit("parked.again", third).await.expect("readable"), "one of the key stands for all");
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "north 1", "north 2"], "the third waits behind the second");
        let fourth = place(&bus, "north", 4).await;
        within(bus.idle()).await;
        let parked = bus.parked().await.expect("parked");
        assert_eq!(parked.iter().map(|one| one.position).collect::<Vec<_>>(), [second, third, fourth]);
        assert_eq!((&parked[0].cause, parked[0].attempts), (&ParkedCause::Failed("the second cause".into()), 1));
        assert_eq!(parked[2].cause, ParkedCause::Behind(second));
    }

    async fn what_cannot_be_read_parks_at_once_and_is_read_by_a_program_that_can(home: &dyn Home) {
        #[derive(Serialize, Deserialize)]
        struct Newer {
            shop: u64,
        }
        impl Event for Newer {
            const STORED: Option<Stored<Self>> = Some(Stored::json("durable.placed").version(2).oldest(2).logged());
        }
        impl StoredEvent for Newer {}
        /// Stored under the same name and version as `Placed`, and cannot be read as one.
        #[derive(Serialize, Deserialize)]
        struct Damaged;
        impl Event for Damaged {
            const STORED: Option<Stored<Self>> = Some(Stored::json("durable.placed").logged());
        }
        let ahead = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        let placed = ahead.transaction(async |tx| {
            tx.publish(Newer { shop: 7 })?;
            tx.publish(Damaged)
        });
        let positions = placed.await.expect("committed").positions;
        stop(ahead).await;
        let heard = Heard::new();
        let (to, start) = (heard.clone(), StartAt::Beginning);
        let unread = listener::on::<Placed>("parked.north").durable().start_at(start).call(move |event| to.note(event.line()));
        let bus = Bus::builder().shared_store(home.open()).listener(unread).start().await.expect("the bus starts");
        within(bus.idle()).await;
        let parked = bus.parked().await.expect("the parked ones");
        assert_eq!(parked.iter().map(|one| (one.position, one.attempts)).collect::<Vec<_>>(), [(positions[0], 0), (positions[1], 0)]);
        assert!(matches!(&parked[0].cause, ParkedCause::Undecodable(text) if text.contains("version 2, newer than the 1")), "{parked:?}");
        assert!(matches!(&parked[1].cause, ParkedCause::Undecodable(_)), "{parked:?}");
        assert_eq!(heard.len(), 0, "nobody is called with what cannot be read");
        stop(bus).await;
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Newer>("parked.north").durable().call(move |event| to.note(format!("newer {}", event.shop))))
            .start()
            .await
            .expect("the bus starts");
        assert!(bus.resubmit("parked.north", positions[0]).await.expect("readable"));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["newer 7"]);
    }
}

on_embedded_stores! {
    async fn the_log_is_pruned_and_parked_copies_live_on_over_a_restart(home: &dyn Home) {
        let heard = Heard::new();
        let open = Arc::new(AtomicBool::new(false));
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).retention(Retention::delete_when_done()).listener(north(&heard, &open)).start().await.expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        let second = place(&bus, "north", 2).await;
        within(bus.idle()).await;
        let mut order = 0;
        while store.read_event(second).await.expect("readable").is_some() {
            order += 1;
            assert!(order < 5_000, "one dead letter pins the log");
            place(&bus, "south", order).await;
            within(bus.idle()).await;
        }
        stop(bus).await;
        drop(store);
        open.store(true, Ordering::SeqCst);
        let bus = Bus::builder().shared_store(home.open()).listener(north(&heard, &open)).start().await.expect("the bus starts");
        let parked = bus.parked().await.expect("the parked ones");
        assert_eq!(causes(&parked), [(first, ParkedCause::Failed("closed".into())), (second, ParkedCause::Behind(first))]);
        let before = heard.len();
        assert!(bus.resubmit("parked.north", first).await.expect("readable"));
        place(&bus, "north", 3).await;
        within(bus.idle()).await;
        assert_eq!(heard.all()[before..], ["north 1", "north 2", "north 3"]);
        assert!(bus.parked().await.expect("the parked ones").is_empty());
        stop(bus).await;
    }
}

on_every_store! {
    async fn a_resubmitted_delivery_with_tx_is_applied_once(home: &dyn Home) {
        let clock = MovedClock::default();
        let open = Arc::new(AtomicBool::new(false));
        let may = open.clone();
        let redeliver = Redeliver::new().attempts(2);
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("parked.tx").durable().redeliver(redeliver).takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?;
                if may.load(Ordering::SeqCst) { Ok(()) } else { Err(Failed("closed").into()) }
            }))
            .start()
            .await
            .expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        // Its attempts are counted anew: it fails once more, waits, and then succeeds.
        assert!(bus.resubmit("parked.tx", first).await.expect("readable"));
        within(bus.quiet()).await;
        assert_eq!(bus.parked().await.expect("parked").len(), 1, "it is parked until it is done");
        open.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!(applied(&bus), [("north 1".to_owned(), 1)]);
        assert!(bus.parked().await.expect("parked").is_empty());
        assert!(!bus.resubmit("parked.tx", first).await.expect("readable"), "it is done");
    }
}
