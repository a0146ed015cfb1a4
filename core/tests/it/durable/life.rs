//! Listeners that come, go and change their names, and a bus that starts and ends.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::error::{BoxError, StartError, Warning};
use aftercommit::listener::{self, Redeliver, Registration, fixed};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::runtime::ShutdownError;
use aftercommit::testing::{FailingStore, Fault, MovedClock};
use aftercommit::transaction::CallFuture;
use tokio::sync::Semaphore;

use super::{APPLIED, Failed, Life, Placed, Shipped, applied, place, stop};
use crate::heard::{Heard, until, within};

fn counting(id: &str) -> Registration {
    listener::on::<Placed>(id).durable().takes_tx().call_with(|event, call| -> Result<(), BoxError> {
        Ok(APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?)
    })
}

on_embedded_stores! {
    async fn shutdown_names_what_it_abandons_and_the_next_start_takes_it_up(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let hanging = |id: &str| {
            let to = heard.clone();
            listener::on::<Placed>(id).durable().concurrency(2).takes_tx().call_async(move |event, call| {
                let to = to.clone();
                CallFuture::from_or_box(async move {
                    APPLIED.add(call.into_tx()?, &(event.shop.clone(), event.order), 1)?;
                    to.note(event.line());
                    std::future::pending::<()>().await;
                    Ok(None)
                })
            })
        };
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(hanging("life.a")).listener(hanging("life.b")).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        place(&bus, "south", 1).await;
        heard.until(4).await;
        let stopping = tokio::spawn({
            let bus = bus.clone();
            async move { bus.shutdown(Duration::from_secs(3)).await }
        });
        until(|| clock.sleepers() == 1).await;
        assert!(bus.transaction(async |tx| tx.publish(Placed::new("late", 1))).await.is_err(), "nothing more is taken in");
        clock.advance(Duration::from_secs(3));
        match within(stopping).await.expect("no panic") {
            // The units of work that the calls had begun are theirs.
            Err(ShutdownError::Abandoned { what }) => {
                assert_eq!(what, [("life.a".to_owned(), 2), ("life.b".to_owned(), 2), ("unit of work".to_owned(), 4)]);
            }
            other => panic!("{other:?}"),
        }
        drop(bus);
        let store = home.open();
        assert!(store.was_clean(), "the store was closed in good order");
        let bus = Bus::builder().shared_store(store).listener(counting("life.a")).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(applied(&bus), [("north 1".to_owned(), 1), ("south 1".to_owned(), 1)]);
    }

    async fn a_dropped_bus_stops_after_the_calls_that_run_and_what_is_owed_stays_owed(home: &dyn Home) {
        let heard = Heard::new();
        let gate = Arc::new(Semaphore::new(0));
        let (to, closed) = (heard.clone(), gate.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("life.dropped").durable().takes_tx().call_async(move |event, call| {
                let (to, closed) = (to.clone(), closed.clone());
                CallFuture::from_or_box(async move {
                    to.note(event.line());
                    closed.acquire().await?.forget();
                    APPLIED.add(call.into_tx()?, &(event.shop.clone(), event.order), 1)?;
                    to.note("written");
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "north", 1).await;
        place(&bus, "north", 2).await;
        heard.until(1).await;
        let stop_signal = heard.clone();
        drop(bus);
        gate.add_permits(2);
        stop_signal.until(2).await;
        let bus = Bus::builder().shared_store(home.open()).listener(counting("life.dropped")).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(applied(&bus), [("north 1".to_owned(), 1), ("north 2".to_owned(), 1)]);
        assert!(!heard.all().contains(&"north 2".to_owned()), "no call began after the last handle was dropped");
    }

    async fn a_listener_that_comes_at_run_time_is_owed_all_from_then_on(home: &dyn Home) {
        let bus = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Placed::new("early", 1))).await.expect("committed, and stored for nobody");
        bus.register(counting("life.late")).await.expect("its id is free");
        assert!(matches!(bus.register(counting("life.late")).await, Err(StartError::DuplicateId { .. })));
        for order in 1..=3 {
            place(&bus, "north", order).await;
        }
        within(bus.idle()).await;
        let three: Vec<(String, i64)> = (1..=3).map(|order| (format!("north {order}"), 1)).collect();
        assert_eq!(applied(&bus), three);
        assert!(bus.unregister("life.late"));
        assert!(!bus.unregister("life.late"));
        bus.register(counting("life.late")).await.expect("its id is free again");
        place(&bus, "north", 4).await;
        within(bus.idle()).await;
        assert_eq!(applied(&bus).last(), Some(&("north 4".to_owned(), 1)));
        assert_eq!(applied(&bus).len(), 4);
    }

    /// Under its new name a listener goes on where it was: neither done again, nor lost, nor due too early.
    async fn a_renamed_listener_takes_everything_over(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let redeliver = Redeliver::new().attempts(2).backoff(fixed(Duration::from_secs(1)));
        let to = heard.clone();
        let before = listener::on::<Placed>("life.old").durable().redeliver(redeliver).takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
            to.note(event.line());
            APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?;
            match event.shop.as_str() {
                "poison" | "waiting" => Err(Failed("not now").into()),
                _ => Ok(()),
            }
        });
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(before).start().await.expect("the bus starts");
        let poison = place(&bus, "poison", 1).await;
        place(&bus, "poison", 2).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        place(&bus, "north", 1).await;
        place(&bus, "waiting", 1).await;
        place(&bus, "north", 2).await;
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["poison 1", "poison 1", "north 1", "waiting 1", "north 2"]);
        stop(bus).await;

        let (to, warned) = (heard.clone(), Heard::new());
        let warnings = warned.clone();
        let after = listener::on::<Placed>("life.new").formerly("life.old").durable().redeliver(redeliver).takes_delivery().call_async(move |event, mut call| {
            let to = to.clone();
            CallFuture::from_or_box(async move {
                let delivery: Delivery = call.take()?;
                to.note(format!("{} attempt {}", event.line(), delivery.attempt()));
                let settled = delivery.settle(async |tx| APPLIED.add(tx, &(event.shop.clone(), event.order), 1)).await?;
                listener::IntoAnswer::into_answer(settled)
            })
        });
        let store = home.open();
        let bus = Bus::builder()
            .shared_store(store.clone())
            .clock(clock.clone())
            .observer(move |notice: &Notice<'_>| {
                if let Notice::Warning(Warning::OrphanedCursor { listener, .. }) = notice {
                    warnings.note(listener.clone());
                }
            })
            .listener(after)
            .start()
            .await
            .expect("the bus starts");
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 5, "done is done, parked is parked, and what waits has not come due");
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!(heard.all()[5..], ["waiting 1 attempt 2"]);
        let parked = bus.parked().await.expect("the parked ones");
        assert!(parked.iter().all(|one| one.listener == "life.new"), "{parked:?}");
        assert!(bus.resubmit("life.new", poison).await.expect("readable"));
        within(bus.idle()).await;
        assert_eq!(heard.all()[6..], ["poison 1 attempt 1", "poison 2 attempt 1"]);
        let all = ["north 1", "north 2", "poison 1", "poison 2", "waiting 1"];
        assert_eq!(applied(&bus), all.map(|line| (line.to_owned(), 1)));
        let known: Vec<String> = store.cursors().await.expect("readable").into_iter().map(|(listener, _)| listener).collect();
        assert_eq!((known, warned.len()), (vec!["life.new".to_owned()], 0), "the old cursor no longer holds the log back");
    }

    /// More is parked than goes into one commit; each start but the last is cut off at a later step of the store.
    async fn taking_over_a_former_id_may_be_cut_off_anywhere_and_goes_on_at_the_next_start(home: &dyn Home) {
        const ORDERS: u32 = 150;
        let broken = |listener: listener::Declaration<Placed>| {
            listener.durable().redeliver(Redeliver::new().attempts(1)).call(|_| Err::<(), _>(Failed("broken")))
        };
        let bus = Bus::builder().shared_store(home.open()).listener(broken(listener::on("life.old"))).start().await.expect("the bus starts");
        let all = bus.transaction(async |tx| (1..=ORDERS).try_for_each(|order| tx.publish(Placed::new("north", order))));
        let positions = all.await.expect("committed").positions;
        within(bus.idle()).await;
        stop(bus).await;

        let mut cut_off = 0;
        let bus = loop {
            let store = FailingStore::around(home.open());
            store.fail_after(cut_off, Fault::Error);
            let started =
                Bus::builder().store(store.clone()).listener(broken(listener::on("life.new").formerly("life.old"))).start().await;
            match started {
                Ok(bus) => break bus,
                Err(_) => cut_off += store.fired(),
            }
        };
        assert!(cut_off > 10, "only {cut_off} steps failed");
        let parked = bus.parked().await.expect("readable");
        assert!(parked.iter().all(|one| one.listener == "life.new"), "{parked:?}");
        assert_eq!(parked.iter().map(|one| one.position).collect::<Vec<_>>(), positions, "each once, in order");
        stop(bus).await;
        let known = home.open().cursors().await.expect("readable");
        assert_eq!(known.into_iter().map(|(listener, _)| listener).collect::<Vec<_>>(), ["life.new"]);
    }

    /// The one that publishes is taken up before the one that is owed it has ever run.
    async fn what_is_published_while_the_bus_starts_reaches_a_new_listener(home: &dyn Home) {
        let hanging = listener::on::<Placed>("life.1-publishes")
            .durable()
            .call_async(|_, _| CallFuture::from_or_box(std::future::pending()));
        let life = Life::begin();
        let bus = life.start(Bus::builder().shared_store(home.open()).listener(hanging)).await;
        for order in 0..50 {
            place(&bus, &format!("shop-{order}"), order).await;
        }
        life.crash(bus);
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("life.1-publishes").durable().concurrency(4).call(|event| Publish(Shipped { order: event.order })))
            .listener(listener::on::<Shipped>("life.2-new").durable().call(move |event| to.note(format!("{}", event.order))))
            .start()
            .await
            .expect("the bus starts");
        within(bus.idle()).await;
        let mut orders: Vec<u32> = heard.all().iter().map(|line| line.parse().expect("a number")).collect();
        orders.sort_unstable();
        assert_eq!(orders, (0..50).collect::<Vec<_>>());
    }

    async fn a_forgotten_listener_is_owed_nothing_and_a_missing_one_is_warned_of(home: &dyn Home) {
        let bus = Bus::builder().shared_store(home.open()).listener(counting("life.gone")).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.idle()).await;
        stop(bus).await;
        let start = async || {
            let warned = Heard::new();
            let warnings = warned.clone();
            let bus = Bus::builder()
                .shared_store(home.open())
                .observer(move |notice: &Notice<'_>| {
                    if let Notice::Warning(Warning::OrphanedCursor { listener, .. }) = notice {
                        warnings.note(listener.clone());
                    }
                })
                .start()
                .await
                .expect("the bus starts");
            (bus, warned)
        };
        let (bus, warned) = start().await;
        assert_eq!(warned.all(), ["life.gone"]);
        bus.forget_listener("life.gone").await.expect("forgotten");
        stop(bus).await;
        let (_bus, warned) = start().await;
        assert_eq!(warned.len(), 0);
    }

    async fn an_orphan_is_warned_of_with_its_size_and_forgotten_once_its_time_has_come(home: &dyn Home) {
        let day = Duration::from_secs(86_400);
        let clock = MovedClock::default();
        let parking = listener::on::<Placed>("life.parking")
            .durable()
            .redeliver(Redeliver::new().attempts(1))
            .call(|_| Err::<(), _>(Failed("closed")));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(parking).start().await.expect("the bus starts");
        for order in 1..=3 {
            place(&bus, "north", order).await;
        }
        within(bus.idle()).await;
        let halted = bus.pause("life.parking");
        place(&bus, "south", 4).await;
        within(bus.idle()).await;
        assert!(halted);
        stop(bus).await;
        let start = async |listeners: Vec<Registration>| {
            let told = Heard::new();
            let tell = told.clone();
            let bus = Bus::builder()
                .shared_store(home.open())
                .clock(clock.clone())
                .forget_orphans_after(3 * day)
                .observer(move |notice: &Notice<'_>| match notice {
                    Notice::Warning(Warning::OrphanedCursor { listener, behind, bytes, missing }) => {
                        assert!(bytes.is_none_or(|bytes| (50..1_000).contains(&bytes)), "{bytes:?}");
                        tell.note(format!("{listener} {behind} {missing:?}"));
                    }
                    Notice::Warning(Warning::OrphanForgotten { listener, behind, parked }) => {
                        tell.note(format!("{listener} {behind} {parked} forgotten"));
                    }
                    _ => {}
                })
                .listeners(listeners)
                .start()
                .await
                .expect("the bus starts");
            (bus, told)
        };
        let (bus, told) = start(vec![]).await;
        assert_eq!(told.all(), ["life.parking 1 0ns"]);
        clock.advance(2 * day);
        bus.tidy().await.expect("tidies");
        stop(bus).await;
        let (bus, told) = start(vec![]).await;
        assert_eq!(told.all(), ["life.parking 1 172800s"], "a restart does not begin the time anew");
        stop(bus).await;
        // Somebody registers it once more.
        let again = listener::on::<Placed>("life.parking").durable().call(|_| Err::<(), _>(Failed("closed")));
        let (bus, told) = start(vec![again]).await;
        assert!(bus.pause("life.parking") && told.len() == 0);
        stop(bus).await;
        let (bus, told) = start(vec![]).await;
        assert_eq!(told.len(), 1);
        clock.advance(3 * day - Duration::from_millis(1));
        bus.tidy().await.expect("tidies");
        assert_eq!(told.len(), 1, "its time begins when it is gone again");
        clock.advance(Duration::from_millis(1));
        bus.tidy().await.expect("tidies");
        assert_eq!(told.len(), 2, "{:?}", told.all());
        assert!(told.all()[1].ends_with(" forgotten"));
        assert!(bus.parked().await.expect("the parked ones").is_empty());
        stop(bus).await;
        let (bus, told) = start(vec![]).await;
        assert!(told.len() == 0);
        stop(bus).await;
    }
}
