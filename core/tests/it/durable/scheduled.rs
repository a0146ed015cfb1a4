//! Events published for later: kept, cancelled in time, and delivered once from the moment they are due.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::clock::{Clock, Timestamp};
use aftercommit::error::{PublishError, StoreError};
use aftercommit::listener::{self, Registration};
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{Due, Erasure, Position, Retention, Store};
use aftercommit::testing::{FailingStore, Fault, MovedClock, Recorder, Step};
use futures::FutureExt;
use uuid::Uuid;

use super::{APPLIED, Life, Placed, applied, place, stop};
use crate::heard::{Heard, within};

const DAY: Duration = Duration::from_secs(86_400);
const MOMENT: Duration = Duration::from_millis(1);

/// Notes the orders it is called with, one at a time, and counts them in its own unit of work.
fn noting(heard: &Heard) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>("scheduled.noting").durable().concurrency(1).takes_tx().call_with(
        move |event: &Placed, call| -> Result<(), aftercommit::error::BoxError> {
            to.note(event.line());
            Ok(APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?)
        },
    )
}

fn builder(store: Arc<dyn Store>, clock: &MovedClock) -> BusBuilder {
    Bus::builder().shared_store(store).clock(clock.clone())
}

async fn start(store: Arc<dyn Store>, clock: &MovedClock, heard: &Heard) -> Bus {
    builder(store, clock).listener(noting(heard)).start().await.expect("the bus starts")
}

/// Publishes an order for later in a unit of its own.
async fn later(bus: &Bus, shop: &str, order: u32, delay: Duration) -> Uuid {
    let publishing = bus.transaction(async |tx| tx.publish_after(Placed::new(shop, order), delay));
    publishing.await.expect("committed").value
}

async fn cancel(bus: &Bus, event: Uuid) -> bool {
    bus.transaction_retrying(100, async |tx: &mut Tx| tx.cancel_scheduled(event).await).await.expect("committed").value
}

on_every_store! {
    async fn an_event_is_delivered_when_it_is_due_and_not_a_moment_before(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        later(&bus, "north", 1, DAY).await;
        clock.advance(DAY - MOMENT);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 0);
        clock.advance(MOMENT);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1"]);
        assert!(bus.scheduled(Due::default(), 9).await.expect("reads").is_empty());
        // For a moment that has passed: at once.
        let past = Timestamp(clock.now().0 - 5);
        bus.transaction(async |tx| tx.publish_at(Placed::new("north", 2), past)).await.expect("committed");
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "north 2"]);
        stop(bus).await;
    }

    async fn it_survives_a_stop_and_a_crash_and_is_delivered_once(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let life = Life::begin();
        let bus = life.start(builder(home.open(), &clock).listener(noting(&heard))).await;
        later(&bus, "north", 1, DAY).await;
        stop(bus.clone()).await;
        life.crash(bus);

        let life = Life::begin();
        let bus = life.start(builder(home.open(), &clock).listener(noting(&heard))).await;
        later(&bus, "south", 2, DAY).await;
        life.crash(bus);
        // Due while the program is down.
        clock.advance(DAY);
        assert_eq!(heard.len(), 0);

        for _ in 0..2 {
            let life = Life::begin();
            let bus = life.start(builder(home.open(), &clock).listener(noting(&heard))).await;
            within(bus.idle()).await;
            assert_eq!(applied(&bus), [("north 1".to_owned(), 1), ("south 2".to_owned(), 1)]);
            life.crash(bus);
        }
        assert_eq!(heard.all(), ["north 1", "south 2"]);
    }

    async fn the_order_is_that_of_the_due_times_and_of_publishing_among_equals(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        later(&bus, "north", 5, 2 * DAY).await;
        later(&bus, "north", 2, DAY).await;
        let in_one_unit = async |tx: &mut Tx| {
            (6..9).try_for_each(|order| tx.publish_after(Placed::new("north", order), 2 * DAY).map(drop))?;
            tx.publish_after(Placed::new("north", 1), DAY / 2).map(drop)
        };
        bus.transaction(in_one_unit).await.expect("committed");
        later(&bus, "north", 3, DAY).await;
        stop(bus).await;
        let bus = start(home.open(), &clock, &heard).await;
        later(&bus, "north", 4, DAY).await;

        // Page by page.
        let (mut from, mut listed) = (Due::default(), Vec::new());
        loop {
            let page = bus.scheduled(from, 3).await.expect("reads");
            let Some(last) = page.last() else { break };
            from = last.due.next();
            listed.extend(page.iter().map(|one| {
                assert_eq!(one.due.time, one.envelope.header.metadata.time);
                serde_json::from_slice::<Placed>(&one.envelope.body).expect("an order").order
            }));
        }
        assert_eq!(listed, [1, 2, 3, 4, 5, 6, 7, 8]);
        clock.advance(3 * DAY);
        within(bus.idle()).await;
        let lines: Vec<String> = (1..9).map(|order| format!("north {order}")).collect();
        assert_eq!(heard.all(), lines);
        stop(bus).await;
    }

    async fn among_events_published_now_its_key_orders_it_from_when_it_is_due(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        later(&bus, "north", 1, DAY).await;
        place(&bus, "north", 2).await;
        clock.advance(DAY);
        within(bus.idle()).await;
        place(&bus, "north", 3).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 2", "north 1", "north 3"]);
        stop(bus).await;
    }

    async fn one_that_is_cancelled_in_time_never_comes_and_one_that_is_not_is_told(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        let [kept, cancelled] = [later(&bus, "north", 1, DAY).await, later(&bus, "north", 2, DAY).await];
        // A unit that rolls back cancels nothing.
        let undone: Result<_, Error> = bus.transaction(async |tx| {
            assert!(tx.cancel_scheduled(kept).await?);
            tx.set_rollback_only("thought better of it");
            Ok(())
        }).await;
        assert!(undone.is_err());
        assert!(cancel(&bus, cancelled).await);
        assert!(!cancel(&bus, cancelled).await, "it is gone");
        assert!(!cancel(&bus, Uuid::from_u128(1)).await, "it never was");
        clock.advance(DAY);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1"]);
        assert!(!cancel(&bus, kept).await, "too late");
        stop(bus).await;
    }

    async fn a_unit_cancels_its_own_and_a_savepoint_undoes_both(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        let stored = later(&bus, "stored", 1, DAY).await;
        let work = async |tx: &mut Tx| {
            let own = tx.publish_after(Placed::new("own", 1), DAY)?;
            tx.publish_after(Placed::new("own", 2), DAY)?;
            let undone = tx.savepoint(async |tx| {
                assert!(tx.cancel_scheduled(stored).await?);
                assert!(!tx.cancel_scheduled(stored).await?, "the unit sees what it did");
                tx.publish_after(Placed::new("undone", 1), DAY)?;
                Err::<(), Error>(Error::Store(StoreError::Closed))
            });
            assert!(undone.await.is_err());
            assert!(tx.cancel_scheduled(own).await?);
            assert!(!tx.cancel_scheduled(own).await?);
            Ok::<_, Error>(())
        };
        bus.transaction(work).await.expect("committed");
        clock.advance(DAY);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["stored 1", "own 2"]);
        stop(bus).await;
    }

    async fn a_unit_that_rolls_back_publishes_nothing_for_later(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        let refused: Result<_, Error> = bus.transaction(async |tx| {
            tx.publish_after(Placed::new("north", 1), DAY)?;
            tx.set_rollback_only("no");
            Ok(())
        }).await;
        assert!(refused.is_err());
        assert!(bus.scheduled(Due::default(), 9).await.expect("reads").is_empty());
        clock.advance(DAY);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 0);
        stop(bus).await;
    }

    async fn many_that_are_due_at_once_all_come_in_their_order(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        for hundred in 0..3 {
            let publish = async |tx: &mut Tx| (0..100).try_for_each(|one| {
                // Some of them are large.
                let shop = if one % 40 == 7 { "n".repeat(20_000) } else { "north".to_owned() };
                tx.publish_after(Placed { shop, order: hundred * 100 + one }, DAY).map(drop)
            });
            bus.transaction(publish).await.expect("committed");
        }
        clock.advance(DAY);
        within(bus.idle()).await;
        let orders: Vec<u32> = heard.all().iter().map(|line| line.rsplit(' ').next().expect("a number").parse().expect("a number")).collect();
        // Two keys, one call at a time, so that each key has its own order.
        let (large, small): (Vec<u32>, Vec<u32>) = orders.iter().partition(|order| **order % 100 % 40 == 7);
        assert!(small.is_sorted() && large.is_sorted(), "{orders:?}");
        assert_eq!(orders.len(), 300);
        assert!(applied(&bus).iter().all(|(_, count)| *count == 1));
        stop(bus).await;
    }

    async fn who_listens_in_a_phase_is_named_in_the_refusal(home: &dyn Home) {
        let clock = MovedClock::default();
        let at_once = listener::on::<Placed>("scheduled.at-once").phase(Phase::Immediate).call(|_| ());
        let after = listener::on::<Placed>("scheduled.after").call(|_| ());
        let bus = builder(home.open(), &clock).listeners([at_once, after, noting(&Heard::new())]).start().await.expect("the bus starts");
        let refused = bus.transaction(async |tx| tx.publish_after(Placed::new("north", 1), DAY).map(drop)).await;
        match refused {
            Err(Error::Publish(PublishError::NotForLater { event, listeners })) => {
                assert_eq!((&*event, listeners), ("durable.placed", vec!["scheduled.after".to_owned(), "scheduled.at-once".to_owned()]));
            }
            other => panic!("{other:?}"),
        }
        assert!(bus.scheduled(Due::default(), 9).await.expect("reads").is_empty());
        stop(bus).await;
    }

    async fn subscribers_hear_it_and_the_log_has_it_when_it_is_due(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let store = home.open();
        let bus = start(store.clone(), &clock, &heard).await;
        let mut orders = bus.subscribe::<Placed>();
        later(&bus, "north", 1, DAY).await;
        assert!(orders.next().now_or_never().is_none());
        assert!(store.read_log(Position(1), 9, 1 << 20).await.expect("reads").is_empty());
        clock.advance(DAY);
        within(bus.idle()).await;
        let event = within(orders.next()).await.expect("the bus runs").expect("nothing was missed");
        assert_eq!(*event, Placed::new("north", 1));
        assert_eq!(*store.delivered_up_to().borrow(), Position(1));
        stop(bus).await;
    }

    async fn who_came_after_it_was_published_is_owed_it_and_asked_its_condition(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        for order in 1..=4 {
            later(&bus, "north", order, DAY).await;
        }
        let to = heard.clone();
        let even = listener::on::<Placed>("scheduled.even").durable().when(|event: &Placed| event.order.is_multiple_of(2));
        bus.register(even.call(move |event: &Placed| to.note(format!("even {}", event.order)))).await.expect("registered");
        clock.advance(DAY);
        within(bus.idle()).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines, ["even 2", "even 4", "north 1", "north 2", "north 3", "north 4"]);
        stop(bus).await;
    }

    async fn one_that_nobody_waits_for_when_it_is_due_is_told(home: &dyn Home) {
        let (clock, recorder) = (MovedClock::default(), Recorder::new());
        let bus = builder(home.open(), &clock).observer(recorder.clone()).start().await.expect("the bus starts");
        later(&bus, "north", 1, DAY).await;
        assert_eq!(bus.counts().dead_events, 0, "somebody may come until then");
        clock.advance(DAY);
        within(bus.idle()).await;
        assert_eq!(bus.counts().dead_events, 1);

        later(&bus, "north", 2, DAY).await;
        bus.register(listener::on::<Placed>("scheduled.late").call(|_| ())).await.expect("registered");
        clock.advance(DAY);
        within(bus.idle()).await;
        assert_eq!((bus.counts().dead_events, bus.counts().not_called), (1, 1));
        assert!(recorder.notices()[1].contains("scheduled.late"), "{:?}", recorder.notices());
        stop(bus).await;
    }

    async fn after_a_storage_error_that_passes_it_comes_all_the_same_and_once(home: &dyn Home) {
        let clock = MovedClock::default();
        for step in [Step::ReadScheduled, Step::Begin, Step::Read, Step::Commit] {
            let heard = Heard::new();
            let store = FailingStore::around(home.open());
            let bus = start(Arc::new(store.clone()), &clock, &heard).await;
            later(&bus, "north", 1, DAY).await;
            within(bus.idle()).await;
            store.fail_next(step, Fault::Error);
            clock.advance(DAY);
            within(bus.quiet()).await;
            assert_eq!((heard.len(), bus.counts().worker_failures), (0, 1), "{step:?}");
            clock.advance(Duration::from_millis(100));
            within(bus.idle()).await;
            assert_eq!(heard.all(), ["north 1"], "{step:?}");
            stop(bus).await;
        }
    }

    async fn a_crash_while_it_enters_the_log_neither_loses_nor_doubles_it(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        for (round, stored) in [false, true].into_iter().enumerate() {
            let store = FailingStore::around(home.open());
            let life = Life::begin();
            let bus = life.start(builder(Arc::new(store.clone()), &clock).listener(noting(&heard))).await;
            later(&bus, "north", round as u32, DAY).await;
            within(bus.idle()).await;
            store.fail_next(Step::Commit, Fault::InDoubt { stored });
            drop(store);
            clock.advance(DAY);
            within(bus.idle()).await;
            assert!(bus.counts().stopped_workers > 0, "a store in doubt is not gone on with");
            life.crash(bus);

            let life = Life::begin();
            let bus = life.start(builder(home.open(), &clock).listener(noting(&heard))).await;
            within(bus.idle()).await;
            assert!(bus.scheduled(Due::default(), 9).await.expect("reads").is_empty());
            assert!(applied(&bus).iter().all(|(_, count)| *count == 1));
            assert_eq!(applied(&bus).len(), round + 1);
            life.crash(bus);
        }
    }
}

on_embedded_stores! {
    async fn it_holds_no_event_in_the_log(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let store = home.open();
        let builder = builder(store.clone(), &clock).retention(Retention::delete_when_done());
        let bus = builder.listener(noting(&heard)).start().await.expect("the bus starts");
        later(&bus, "north", 1, 400 * DAY).await;
        for order in 0..200 {
            place(&bus, "south", order).await;
        }
        within(bus.idle()).await;
        within(async {
            while !store.read_log(Position(1), 9, 1 << 20).await.expect("reads").is_empty() {
                place(&bus, "south", 1_000).await;
                bus.idle().await;
            }
        })
        .await;
        clock.advance(400 * DAY);
        within(bus.idle()).await;
        assert_eq!(heard.all().last().map(String::as_str), Some("north 1"));
        stop(bus).await;
    }

    async fn of_a_cancellation_and_the_due_time_at_once_exactly_one_counts(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        let mut events = Vec::new();
        for order in 0..40 {
            events.push(later(&bus, "north", order, DAY).await);
        }
        let mut cancelling = tokio::task::JoinSet::new();
        for (order, event) in events.into_iter().enumerate() {
            let bus = bus.clone();
            cancelling.spawn(async move { (order, cancel(&bus, event).await) });
            if order == 20 {
                clock.advance(DAY);
            }
        }
        let cancelled = within(cancelling.join_all()).await;
        within(bus.idle()).await;
        for (order, in_time) in cancelled {
            let called = heard.all().iter().filter(|line| **line == format!("north {order}")).count();
            assert_eq!(called, usize::from(!in_time), "order {order}");
        }
        stop(bus).await;
    }

    async fn one_that_is_erased_before_it_is_due_never_comes(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = start(home.open(), &clock, &heard).await;
        let event = later(&bus, "north", 1, DAY).await;
        assert_eq!(bus.erase(event).await.expect("erases"), Erasure::Done { parked: 0 });
        assert_eq!(bus.erase(event).await.expect("answers"), Erasure::NotStored);
        clock.advance(DAY);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 0);
        stop(bus).await;
    }
}
