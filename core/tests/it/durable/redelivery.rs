//! Failed deliveries: when they are called again, and what that survives.

use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::listener::{self, IntoAnswer, Redeliver, Registration, exponential, fixed};
use aftercommit::prelude::*;
use aftercommit::store::ParkedCause;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;

use super::{APPLIED, Failed, Life, Placed, applied, place, stop};
use crate::heard::{Heard, until, within};

fn failing(heard: &Heard, attempts: u32) -> Registration {
    let to = heard.clone();
    let redeliver = Redeliver::new()
        .attempts(attempts)
        .backoff(exponential(Duration::from_millis(100)).max(Duration::from_millis(400)));
    listener::on::<Placed>("redelivery.failing").durable().redeliver(redeliver).call(move |event| {
        to.note(event.line());
        Err::<(), _>(Failed("never"))
    })
}

on_embedded_stores! {
    async fn the_waits_double_up_to_their_cap_and_not_a_moment_is_missing(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(failing(&heard, 6)).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 1);
        for (failed, wait) in [(1, 100), (2, 200), (3, 400), (4, 400), (5, 400)] {
            clock.advance(Duration::from_millis(wait - 1));
            within(bus.quiet()).await;
            assert_eq!(heard.len(), failed, "a moment too early");
            clock.advance(Duration::from_millis(1));
            within(bus.quiet()).await;
            assert_eq!(heard.len(), failed + 1);
        }
        within(bus.idle()).await;
        assert_eq!((bus.counts().redeliveries, bus.counts().parked), (5, 1));
    }

    async fn attempts_and_due_times_survive_a_restart(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let start = async |store, life: &Life| {
            life.start(Bus::builder().shared_store(store).clock(clock.clone()).listener(failing(&heard, 4))).await
        };
        let life = Life::begin();
        let bus = start(home.open(), &life).await;
        place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_millis(100));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 2);
        stop(bus.clone()).await;
        life.crash(bus);

        // Stopped in good order, while 200 ms were to pass.
        let life = Life::begin();
        let bus = start(home.open(), &life).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_millis(199));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 2, "not before its time");
        clock.advance(Duration::from_millis(1));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 3);
        life.crash(bus);

        // Crashed, while 400 ms were to pass; they pass while the program is down.
        clock.advance(Duration::from_millis(400));
        let life = Life::begin();
        let bus = start(home.open(), &life).await;
        within(bus.idle()).await;
        assert_eq!(heard.len(), 4, "the fourth and last");
        let parked = bus.parked().await.expect("the parked ones");
        assert_eq!((parked.len(), parked[0].attempts), (1, 4));
        assert_eq!(parked[0].cause, ParkedCause::Failed("never".to_owned()));
        life.crash(bus);
    }

    async fn a_waiting_delivery_holds_its_own_key_and_no_other(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("redelivery.waiting").durable().call(move |event| {
                to.note(event.line());
                let seen = to.all().iter().filter(|line| **line == event.line()).count();
                if event.line() == "north 1" && seen < 3 { Err(Failed("not yet")) } else { Ok(()) }
            }))
            .start()
            .await
            .expect("the bus starts");
        for order in 1..=2 {
            place(&bus, "north", order).await;
            place(&bus, "south", order).await;
        }
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["north 1", "south 1", "south 2"]);
        clock.advance(Duration::from_millis(100));
        within(bus.quiet()).await;
        assert_eq!(heard.all()[3..], ["north 1"]);
        clock.advance(Duration::from_millis(200));
        within(bus.idle()).await;
        assert_eq!(heard.all()[4..], ["north 1", "north 2"]);
    }

    async fn a_call_past_its_time_limit_is_dropped_undone_and_counted(home: &dyn Home) {
        /// Notes that the call was dropped.
        struct Dropped(Heard, &'static str);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.note(self.1);
            }
        }
        let heard = Heard::new();
        let clock = MovedClock::default();
        let (in_unit, outside) = (heard.clone(), heard.clone());
        let redeliver = Redeliver::new().attempts(2).backoff(fixed(Duration::from_secs(1)));
        let limit = Duration::from_secs(5);
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("limit.tx").durable().redeliver(redeliver).time_limit(limit).takes_tx().call_async(move |event, call| {
                let to = in_unit.clone();
                CallFuture::from_or_box(async move {
                    let _dropped = Dropped(to.clone(), "tx dropped");
                    to.note("tx called");
                    APPLIED.add(call.into_tx()?, &(event.shop.clone(), event.order), 1)?;
                    std::future::pending::<()>().await;
                    Ok(None)
                })
            }))
            .listener(listener::on::<Placed>("limit.delivery").durable().redeliver(redeliver).time_limit(limit).takes_delivery().call_async(move |_, mut call| {
                let to = outside.clone();
                CallFuture::from_or_box(async move {
                    let _dropped = Dropped(to.clone(), "delivery dropped");
                    to.note("delivery called");
                    let delivery: Delivery = call.take()?;
                    std::future::pending::<()>().await;
                    delivery.done().await?.into_answer()
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 1).await;
        for attempt in 1..=2 {
            heard.until(attempt * 4 - 2).await;
            until(|| clock.sleepers() == 2).await;
            clock.advance(limit);
            heard.until(attempt * 4).await;
            within(bus.quiet()).await;
            clock.advance(Duration::from_secs(1));
        }
        within(bus.idle()).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines, ["delivery called", "delivery called", "delivery dropped", "delivery dropped", "tx called", "tx called", "tx dropped", "tx dropped"]);
        assert!(applied(&bus).is_empty(), "what it wrote is undone");
        let causes: Vec<ParkedCause> = bus.parked().await.expect("the parked ones").into_iter().map(|one| one.cause).collect();
        assert_eq!(causes.len(), 2);
        assert!(causes.iter().all(|cause| matches!(cause, ParkedCause::Failed(text) if text.contains("time limit of 5s"))), "{causes:?}");
    }

    async fn a_panic_is_contained_its_writes_undone_and_its_text_kept(home: &dyn Home) {
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("panic.tx").durable().redeliver(Redeliver::new().attempts(1)).takes_tx().call_with(|event, call| -> Result<(), BoxError> {
                APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?;
                assert_ne!(event.order, 1, "the first is one too few");
                Ok(())
            }))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 1).await;
        place(&bus, "south", 2).await;
        within(bus.idle()).await;
        assert_eq!(applied(&bus), [("south 2".to_owned(), 1)]);
        let parked = bus.parked().await.expect("the parked ones");
        assert!(matches!(&parked[0].cause, ParkedCause::Failed(text) if text.contains("one too few")), "{parked:?}");
    }
}
