//! Order and progress under parallel delivery: a case each of the group PAR.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::bus::Replay;
use aftercommit::error::BoxError;
use aftercommit::listener::{self, Batch, FailedAt, Redeliver, Registration, Sequence, StartAt, fixed};
use aftercommit::prelude::*;
use aftercommit::store::{Position, Store};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;

use super::{APPLIED, Failed, Gated, Life, Placed, Shipped, applied, place, place_all, stop};
use crate::heard::{Heard, until, within};

fn on(id: &str) -> listener::Declaration<Placed> {
    listener::on::<Placed>(id).durable()
}

async fn low(store: &Arc<dyn Store>, listener: &str) -> u64 {
    let cursors = store.cursors().await.expect("readable");
    cursors.iter().find(|(id, _)| id == listener).map(|(_, cursor)| cursor.low()).expect("a cursor")
}

/// Fails on the given orders until it is mended.
fn failing_on(heard: &Heard, orders: &'static [u32], mended: &Arc<AtomicBool>) -> Registration {
    let (to, mended) = (heard.clone(), mended.clone());
    on("par")
        .sequence(Sequence::Unordered)
        .redeliver(Redeliver::new().attempts(9).backoff(fixed(Duration::from_secs(1))))
        .call(move |event| {
            to.note(event.line());
            if orders.contains(&event.order) && !mended.load(Ordering::SeqCst) {
                Err(Failed("not yet"))
            } else {
                Ok(())
            }
        })
}

on_every_store! {
    async fn of_large_events_fewer_are_called_at_once(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let large = listener::on::<Large>("par.large").durable().sequence(Sequence::Total).batch(Batch::new(20, Duration::ZERO));
        let large = large.call_batch(move |events, _| events.iter().for_each(|one| to.note(format!("{} of {}", &one.event.0[..2], events.len()))));
        let bus = Bus::builder().shared_store(home.open()).listener(large).start().await.expect("the bus starts");
        bus.pause("par.large");
        for number in 10..22 {
            let event = Large(format!("{number}{}", "x".repeat(1 << 20)));
            bus.transaction(async |tx| tx.publish(event)).await.expect("committed");
        }
        bus.resume("par.large");
        within(bus.idle()).await;
        let lines = heard.all();
        let numbers: Vec<String> = lines.iter().map(|line| line[..2].to_owned()).collect();
        assert_eq!(numbers, (10..22).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(lines.iter().any(|line| line.ends_with("of 4")) && !lines.iter().any(|line| line.ends_with("of 12")), "{lines:?}");
    }

    async fn par_01_unordered_the_next_is_offered_while_one_waits_for_its_time(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let mended = Arc::new(AtomicBool::new(false));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(failing_on(&heard, &[1], &mended)).start().await.expect("the bus starts");
        place_all(&bus, &[("north", 0), ("north", 1), ("north", 2)]).await;
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["north 0", "north 1", "north 2"], "the same key, and no order");
        mended.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_millis(999));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 3);
        clock.advance(Duration::from_millis(1));
        within(bus.idle()).await;
        assert_eq!(heard.all()[3..], ["north 1"]);
    }

    async fn par_02_in_a_total_order_one_in_flight_holds_all(home: &dyn Home) {
        let gated = Gated::new();
        let bus = Bus::builder().shared_store(home.open()).listener(gated.listener(on("par").sequence(Sequence::Total))).start().await.expect("the bus starts");
        place_all(&bus, &[("north", 0), ("south", 1), ("north", 2)]).await;
        gated.heard.until(1).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gated.heard.all(), ["north 0"], "another key, and still its turn does not come");
        gated.open(3);
        within(bus.idle()).await;
        assert_eq!(gated.heard.all(), ["north 0", "south 1", "north 2"]);
    }

    async fn par_04_each_round_offers_the_lowest_of_each_key(home: &dyn Home) {
        let gated = Gated::new();
        let bus = Bus::builder().shared_store(home.open()).listener(gated.listener(on("par").concurrency(8))).start().await.expect("the bus starts");
        place_all(&bus, &[("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5), ("c", 6)]).await;
        let mut seen = 0;
        for round in [&["a 1", "b 2", "c 4"][..], &["a 3", "c 6"], &["a 5"]] {
            gated.heard.until(seen + round.len()).await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            let mut lines = gated.heard.all()[seen..].to_vec();
            lines.sort();
            assert_eq!(lines, round);
            seen += round.len();
            gated.open(round.len());
        }
        within(bus.idle()).await;
    }

    /// The peer's partitions are our listeners: each has a log position of its own.
    async fn par_05_two_listeners_in_total_order_advance_in_parallel(home: &dyn Home) {
        let (left, right) = (Gated::new(), Gated::new());
        let total = |id| on(id).sequence(Sequence::Total);
        let bus = Bus::builder().shared_store(home.open()).listener(left.listener(total("par.left"))).listener(right.listener(total("par.right"))).start().await.expect("the bus starts");
        place_all(&bus, &[("a", 1), ("b", 2), ("c", 3)]).await;
        right.open(3);
        right.heard.until(3).await;
        left.heard.until(1).await;
        assert_eq!((left.heard.all(), right.heard.all()), (vec!["a 1".into()], vec!["a 1".into(), "b 2".into(), "c 3".into()]));
        left.open(3);
        within(bus.idle()).await;
        assert_eq!(left.heard.len(), 3);
    }

    async fn par_07_sequences_take_turns_so_that_none_starves(home: &dyn Home) {
        let gated = Gated::new();
        let bus = Bus::builder().shared_store(home.open()).listener(gated.listener(on("par").concurrency(2))).start().await.expect("the bus starts");
        place_all(&bus, &[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)]).await;
        gated.heard.until(2).await;
        gated.open(1);
        gated.heard.until(3).await;
        let mut three = gated.heard.all();
        three.sort();
        assert_eq!(three, ["a 1", "b 4", "c 6"], "two are served, then the third");
        gated.open(5);
        within(bus.idle()).await;
    }

    async fn par_08_the_mark_never_passes_what_is_in_flight_and_then_jumps(home: &dyn Home) {
        let store = home.open();
        let heard = Heard::new();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (to, closed) = (heard.clone(), gate.clone());
        let bus = Bus::builder()
            .shared_store(store.clone())
            .listener(on("par").concurrency(2).call_async(move |event, _| {
                let (to, closed) = (to.clone(), closed.clone());
                CallFuture::from_or_box(async move {
                    if event.order == 0 {
                        closed.acquire().await?.forget();
                    }
                    to.note(event.line());
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        let at = place_all(&bus, &[("a", 0), ("b", 1)]).await;
        heard.until(1).await;
        let done = async || store.cursors().await.expect("readable").iter().any(|(_, cursor)| cursor.is_done(at[1].0));
        within(async { while !done().await { tokio::task::yield_now().await; } }).await;
        assert_eq!(low(&store, "par").await, at[0].0);
        gate.add_permits(1);
        within(bus.idle()).await;
        assert_eq!(low(&store, "par").await, at[1].0 + 1);
    }

    /// The peer's partitions are our listeners.
    async fn par_09_the_mark_of_one_listener_depends_on_no_other(home: &dyn Home) {
        let store = home.open();
        let (left, right) = (Gated::new(), Gated::new());
        let bus = Bus::builder().shared_store(store.clone()).listener(left.listener(on("par.left"))).listener(right.listener(on("par.right"))).start().await.expect("the bus starts");
        let at = place(&bus, "a", 1).await;
        right.open(1);
        within(async { while low(&store, "par.right").await <= at.0 { tokio::task::yield_now().await; } }).await;
        assert_eq!(low(&store, "par.left").await, at.0);
        left.open(1);
        within(bus.idle()).await;
    }

    async fn par_10_of_a_listener_that_always_fails_nothing_is_settled(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).clock(clock.clone()).listener(failing_on(&heard, &[1, 2], &Arc::default())).start().await.expect("the bus starts");
        let at = place_all(&bus, &[("a", 1), ("b", 2)]).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.quiet()).await;
        assert_eq!((heard.len(), low(&store, "par").await), (4, at[0].0));
        stop(bus).await;
        drop(store);
        let (again, mended) = (Heard::new(), Arc::new(AtomicBool::new(true)));
        clock.advance(Duration::from_secs(1));
        let bus = Bus::builder().shared_store(home.open()).clock(clock).listener(failing_on(&again, &[], &mended)).start().await.expect("the bus starts");
        within(bus.idle()).await;
        let mut lines = again.all();
        lines.sort();
        assert_eq!(lines, ["a 1", "b 2"]);
    }

    async fn par_11_what_ends_during_the_stop_is_settled_and_what_had_not_begun_stays_owed(home: &dyn Home) {
        let gated = Gated::new();
        let bus = Bus::builder().shared_store(home.open()).listener(gated.listener(on("par"))).start().await.expect("the bus starts");
        place_all(&bus, &[("a", 1), ("a", 2), ("b", 3)]).await;
        gated.heard.until(1).await;
        let stopping = tokio::spawn({
            let bus = bus.clone();
            async move { bus.shutdown(Duration::from_secs(60)).await }
        });
        until(|| bus.publish(&Shipped { order: 1 }).is_err()).await;
        gated.open(3);
        within(stopping).await.expect("no panic").expect("nothing was cut off");
        assert_eq!(gated.heard.all(), ["a 1"]);
        drop(bus);
        let again = Gated::new();
        again.open(9);
        let bus = Bus::builder().shared_store(home.open()).listener(again.listener(on("par"))).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(again.heard.all(), ["a 2", "b 3"]);
    }

    async fn par_12_what_outlives_the_stop_is_cut_off_and_stays_owed(home: &dyn Home) {
        let gated = Gated::new();
        let clock = MovedClock::default();
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(gated.listener(on("par"))).start().await.expect("the bus starts");
        place(&bus, "a", 1).await;
        gated.heard.until(1).await;
        let stopping = tokio::spawn({
            let bus = bus.clone();
            async move { bus.shutdown(Duration::from_secs(3)).await }
        });
        until(|| clock.sleepers() == 1).await;
        clock.advance(Duration::from_secs(3));
        assert!(within(stopping).await.expect("no panic").is_err(), "it is told");
        drop(bus);
        let again = Gated::new();
        again.open(1);
        let bus = Bus::builder().shared_store(home.open()).listener(again.listener(on("par"))).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(again.heard.all(), ["a 1"]);
    }

    async fn par_13_what_was_done_out_of_order_is_not_delivered_again_after_a_restart(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let mended = Arc::new(AtomicBool::new(false));
        let start = async || Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(failing_on(&heard, &[2, 4], &mended)).start().await.expect("the bus starts");
        let bus = start().await;
        place_all(&bus, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]).await;
        within(bus.quiet()).await;
        assert_eq!(heard.take().len(), 5);
        stop(bus).await;
        mended.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_secs(1));
        let bus = start().await;
        within(bus.idle()).await;
        let mut again = heard.take();
        again.sort();
        assert_eq!(again, ["a 2", "a 4"]);
        stop(bus).await;
        let bus = start().await;
        within(bus.idle()).await;
        assert_eq!(heard.len(), 0, "with everything done, nothing is delivered again");
    }

    /// What a listener is not owed are the gaps of its log.
    async fn par_15_gaps_never_block_the_mark(home: &dyn Home) {
        let store = home.open();
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(store.clone())
            .listener(on("par").call(move |event| to.note(event.line())))
            .listener(listener::on::<Shipped>("par.other").durable().call(|_| ()))
            .start()
            .await
            .expect("the bus starts");
        let mut last = Position(0);
        for order in 0..3 {
            bus.transaction(async |tx| (0..600).try_for_each(|order| tx.publish(Shipped { order }))).await.expect("committed");
            last = place(&bus, "a", order).await;
        }
        within(bus.idle()).await;
        assert_eq!((heard.len(), low(&store, "par").await), (3, last.0 + 1));
    }

    /// A start position counts for a listener that the store does not know; `reset` moves one that it does.
    async fn par_16_a_listener_is_moved_back_to_deliver_again_and_forward_to_pass_over(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder().shared_store(home.open())
            .listener(listener::on::<Opened>("par").durable().call(move |event| to.note(event.0.to_string())))
            .start().await.expect("the bus starts");
        for number in 1..=3 {
            bus.transaction(async |tx| tx.publish(Opened(number))).await.expect("committed");
        }
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["1", "2", "3"]);
        bus.reset("par", StartAt::Beginning, async |_| Ok::<_, Error>(())).await.expect("it is registered");
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["1", "2", "3"]);
        assert!(bus.pause("par"));
        bus.transaction(async |tx| tx.publish(Opened(4))).await.expect("committed");
        bus.reset("par", StartAt::Now, async |_| Ok::<_, Error>(())).await.expect("it is registered");
        bus.transaction(async |tx| tx.publish(Opened(5))).await.expect("committed");
        assert!(bus.resume("par"));
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["5"]);
    }

    /// A batch may hold several of one key, in order; the peer's holds one under a single ordered partition.
    async fn par_19_batches_hold_at_most_so_many_and_one_that_fails_is_called_again_as_one(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(
                on("par").batch(Batch::new(3, Duration::ZERO)).redeliver(Redeliver::new().attempts(3).backoff(fixed(Duration::from_secs(1)))).call_batch(
                    move |events, _| {
                        let orders: Vec<String> = events.iter().map(|one| one.event.order.to_string()).collect();
                        to.note(format!("{} (attempt {})", orders.join(","), events[0].attempt));
                        if events[0].event.order == 5 && events[0].attempt == 1 { Err(Failed("not yet")) } else { Ok(()) }
                    },
                ),
            )
            .start()
            .await
            .expect("the bus starts");
        place_all(&bus, &[("a", 1), ("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6), ("f", 7), ("g", 8)]).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        let lines = heard.all();
        assert!(lines.iter().all(|line| line.split(' ').next().is_some_and(|orders| orders.split(',').count() <= 3)), "{lines:?}");
        let failed: Vec<&String> = lines.iter().filter(|line| line.starts_with("5,6,7")).collect();
        assert_eq!(failed, ["5,6,7 (attempt 1)", "5,6,7 (attempt 2)"], "{lines:?}");
        assert_eq!(bus.counts().parked, 0);
    }

    async fn what_a_condition_declines_behind_one_that_fails_in_a_batch_does_not_settle_that_one(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).start().await.expect("the bus starts");
        bus.transaction(async |tx| (1..=3).try_for_each(|number| tx.publish(Opened(number)))).await.expect("committed");
        stop(bus).await;
        let (to, failed) = (heard.clone(), AtomicBool::new(false));
        let newcomer = listener::on::<Opened>("par").durable().start_at(StartAt::Beginning).sequence(Sequence::Total)
            .when(|event| event.0 != 2)
            .batch(Batch::new(3, Duration::ZERO))
            .redeliver(Redeliver::new().attempts(9).backoff(fixed(Duration::from_secs(1))))
            .call_batch(move |events, _| -> Result<(), BoxError> {
                to.note(events.iter().map(|one| one.event.0.to_string()).collect::<Vec<_>>().join(","));
                if failed.swap(true, Ordering::SeqCst) { Ok(()) } else { Err(FailedAt::new(0, Failed("not yet")).into()) }
            });
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(newcomer).start().await.expect("the bus starts");
        within(heard.until(1)).await;
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["1,3"]);
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1,3", "1,3"]);
    }

    async fn several_of_one_sequence_whose_batch_always_fails_are_parked_in_the_end(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let failing = on("par").batch(Batch::new(2, Duration::ZERO)).redeliver(Redeliver::new().attempts(2).backoff(fixed(Duration::ZERO)))
            .call_batch(move |events, _| -> Result<(), Failed> {
                to.note(events.iter().map(|one| one.event.order.to_string()).collect::<Vec<_>>().join(","));
                Err(Failed("never"))
            });
        let bus = Bus::builder().shared_store(home.open()).clock(MovedClock::default()).listener(failing).start().await.expect("the bus starts");
        let at = place_all(&bus, &[("a", 1), ("a", 2)]).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1,2", "1,2", "1"], "the first is called by itself before it is given up");
        let page = bus.dead_letters("par").page(Position(0), 9).await.expect("readable");
        assert_eq!(page.iter().map(|one| one.position).collect::<Vec<_>>(), at);
    }

    async fn several_of_one_sequence_that_a_batch_parks_are_all_replayed(home: &dyn Home) {
        let heard = Heard::new();
        let mended = Arc::new(AtomicBool::new(false));
        let (to, open) = (heard.clone(), mended.clone());
        let parking = on("par").batch(Batch::new(2, Duration::ZERO)).call_batch(move |events, _| {
            to.note(events.iter().map(|one| one.event.order.to_string()).collect::<Vec<_>>().join(","));
            if open.load(Ordering::SeqCst) { Decision::Done } else { Decision::park("not yet") }
        });
        let bus = Bus::builder().shared_store(home.open()).listener(parking).start().await.expect("the bus starts");
        place_all(&bus, &[("a", 1), ("a", 2)]).await;
        within(bus.idle()).await;
        mended.store(true, Ordering::SeqCst);
        assert_eq!(bus.dead_letters("par").replay(Replay::all()).await.expect("it runs"), 1);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["1,2", "1", "2"]);
        assert!(bus.dead_letters("par").page(Position(0), 9).await.expect("readable").is_empty());
    }

    async fn par_20_paused_nothing_begins_what_runs_is_settled_and_resumed_nothing_is_lost(home: &dyn Home) {
        let gated = Gated::new();
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).listener(gated.listener(on("par"))).start().await.expect("the bus starts");
        let at = place_all(&bus, &[("a", 1), ("a", 2), ("b", 3)]).await;
        gated.heard.until(1).await;
        assert!(bus.pause("par") && !bus.pause("nobody"));
        gated.open(1);
        within(bus.idle()).await;
        assert_eq!((gated.heard.all(), low(&store, "par").await), (vec!["a 1".into()], at[0].0 + 1), "settled while paused");
        place(&bus, "c", 4).await;
        within(bus.idle()).await;
        assert_eq!(gated.heard.len(), 1);
        gated.open(9);
        assert!(bus.resume("par"));
        within(bus.idle()).await;
        let mut lines = gated.heard.all();
        lines.sort();
        assert_eq!(lines, ["a 1", "a 2", "b 3", "c 4"]);
    }

    async fn a_batch_waits_for_others_as_long_as_it_says_unless_it_is_full(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(on("par").batch(Batch::new(3, Duration::from_secs(5))).call_batch(move |events, _| to.note(events.len().to_string())))
            .start()
            .await
            .expect("the bus starts");
        place(&bus, "a", 1).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_millis(4_999));
        within(bus.quiet()).await;
        place(&bus, "a", 2).await;
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 0);
        clock.advance(Duration::from_millis(1));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["2"]);
        place_all(&bus, &[("a", 3), ("b", 4), ("c", 5), ("d", 6)]).await;
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["2", "3"], "a full one waits for nothing");
        clock.advance(Duration::from_secs(5));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["2", "3", "1"]);
    }

    /// Intake pauses at the cap: further events are not even looked at, and come when there is room.
    async fn no_more_is_looked_at_ahead_than_it_says(home: &dyn Home) {
        let gated = Gated::new();
        let bus = Bus::builder().shared_store(home.open()).listener(gated.listener(on("par").concurrency(8).look_ahead(3))).start().await.expect("the bus starts");
        let orders: Vec<(String, u32)> = (0..9).map(|order| (format!("shop-{order}"), order)).collect();
        let placed: Vec<(&str, u32)> = orders.iter().map(|(shop, order)| (shop.as_str(), *order)).collect();
        place_all(&bus, &placed).await;
        gated.heard.until(3).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gated.heard.len(), 3);
        gated.open(9);
        within(bus.idle()).await;
        assert_eq!(gated.heard.len(), 9);
    }
}

on_embedded_stores! {
    async fn a_batch_with_a_tx_is_applied_exactly_once_whatever_fails_in_it(home: &dyn Home) {
        let calls = Heard::new();
        let clock = MovedClock::default();
        let declare = |to: Heard| {
            on("par").batch(Batch::new(4, Duration::ZERO)).redeliver(Redeliver::new().attempts(2).backoff(fixed(Duration::ZERO))).takes_tx().call_batch(move |events, call| -> Result<(), BoxError> {
                to.note(events.iter().map(|one| one.event.order.to_string()).collect::<Vec<_>>().join(","));
                for (index, one) in events.iter().enumerate() {
                    APPLIED.add(call.tx()?, &(one.event.shop.clone(), one.event.order), 1)?;
                    if one.event.shop == "poison" {
                        return Err(FailedAt::new(index, Failed("named")).into());
                    }
                    if one.event.shop == "hidden" {
                        return Err(Failed("not named").into());
                    }
                }
                Ok(())
            })
        };
        let life = Life::begin();
        let bus = life.start(Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(declare(calls.clone()))).await;
        place_all(&bus, &[("a", 1), ("a", 2), ("poison", 3), ("b", 4), ("poison", 5)]).await;
        within(bus.idle()).await;
        place_all(&bus, &[("a", 6), ("hidden", 7), ("c", 8), ("a", 9)]).await;
        within(bus.idle()).await;
        let expected = [("a 1", 1), ("a 2", 1), ("a 6", 1), ("a 9", 1), ("b 4", 1), ("c 8", 1)];
        assert_eq!(applied(&bus), expected.map(|(line, count)| (line.to_owned(), count)), "{:?}", calls.all());
        let parked: Vec<String> = bus.parked().await.expect("readable").iter().map(|one| {
            let placed: Placed = serde_json::from_slice(&one.envelope.body).expect("what was stored");
            placed.line()
        }).collect();
        assert_eq!(parked, ["poison 3", "poison 5", "hidden 7"], "only what fails by itself is given up");
        life.crash(bus);
        let life = Life::begin();
        let bus = life.start(Bus::builder().shared_store(home.open()).clock(clock).listener(declare(Heard::new()))).await;
        within(bus.idle()).await;
        assert_eq!(applied(&bus).len(), 6);
        life.crash(bus);
    }
}

/// Kept in the log for those who come later.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Opened(u32);
impl Event for Opened {
    const STORED: Option<aftercommit::event::Stored<Self>> =
        Some(aftercommit::event::Stored::json("par.opened").logged());
}
impl StoredEvent for Opened {}

/// As much as is wanted.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Large(String);
impl Event for Large {
    const STORED: Option<aftercommit::event::Stored<Self>> = Some(aftercommit::event::Stored::json("par.large"));
}
impl StoredEvent for Large {}
