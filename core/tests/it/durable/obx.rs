//! The transactional outbox: a case each of the group OBX.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::bus::{Once, Replay};
use aftercommit::error::{BoxError, PublishError, StartError, UnitError};
use aftercommit::event::{Envelope, EventHeader};
use aftercommit::listener::{self, Redeliver, Registration, fixed};
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{CommitError, CommitRequest, CursorChange, Due, ParkedCause, Position, Settlement, Store};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::{CallFuture, Limits};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{APPLIED, Failed, Gated, Placed, Shipped, applied, place, place_all, stop};
use crate::heard::{Heard, within};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn builder(store: Arc<dyn Store>, clock: &MovedClock) -> BusBuilder {
    Bus::builder().shared_store(store).clock(clock.clone())
}

/// Fails on each order until it was called with it so often, and notes each call.
fn failing_until(heard: &Heard, calls: usize, redeliver: Redeliver) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>("obx.failing").durable().redeliver(redeliver).call(move |event| {
        to.note(event.line());
        let called = to.all().iter().filter(|line| **line == event.line()).count();
        if called < calls { Err(Failed("not yet")) } else { Ok(()) }
    })
}

on_every_store! {
    async fn obx_01_nothing_runs_before_the_commit_and_it_runs_promptly_after(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = builder(home.open(), &clock).listener(failing_until(&heard, 1, Redeliver::new())).start().await.expect("the bus starts");
        let unit = bus.transaction(async |tx| {
            tx.publish(Placed::new("north", 1))?;
            clock.advance(Duration::from_secs(2));
            tokio::task::yield_now().await;
            assert_eq!(heard.len(), 0);
            Ok::<_, Error>(())
        });
        unit.await.expect("committed");
        within(heard.until(1)).await;
        stop(bus).await;
    }

    /// The peer is constructed first and initialised later. Here a bus that has not started does not exist, so that the end of
    /// its life is left: what is published then is refused.
    async fn obx_02_outside_the_life_of_the_bus_publishing_is_refused(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = builder(home.open(), &clock).listener(failing_until(&Heard::new(), 1, Redeliver::new())).start().await.expect("the bus starts");
        stop(bus.clone()).await;
        let refused = bus.transaction(async |tx| tx.publish(Placed::new("north", 1))).await;
        assert!(matches!(refused, Err(Error::Unit(UnitError::ShuttingDown))));
        assert!(matches!(bus.publish(&Placed::new("north", 1)), Err(Error::Publish(PublishError::ShuttingDown { .. }))));
    }

    async fn obx_03_a_request_id_is_refused_within_its_retention_and_free_after(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = builder(home.open(), &clock).listener(failing_until(&heard, 1, Redeliver::new())).start().await.expect("the bus starts");
        let ask = async |request: &str, order: u32| {
            let request = request.to_owned();
            let publishing = bus.transaction_retrying(9, async |tx: &mut Tx| {
                tx.publish_once(Placed::new("north", order), &request, WEEK).await
            });
            publishing.await.expect("committed").value
        };
        let first = ask("context-1", 1).await;
        assert_eq!(ask("context-1", 2).await, Once::AlreadyPublished(first.event()));
        assert!(matches!(ask("context-2", 3).await, Once::Published(_)));
        within(bus.idle()).await;
        clock.advance(WEEK - Duration::from_millis(1));
        assert_eq!(ask("context-1", 4).await, Once::AlreadyPublished(first.event()), "after its completion too");
        clock.advance(Duration::from_millis(1));
        assert!(matches!(ask("context-1", 5).await, Once::Published(_)));
        within(bus.idle()).await;
        assert_eq!(heard.len(), 3);
        stop(bus).await;
    }

    async fn obx_04_the_third_attempt_succeeds(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let again = Redeliver::new().backoff(fixed(Duration::from_secs(1)));
        let bus = builder(home.open(), &clock).listener(failing_until(&heard, 3, again)).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        for calls in 1..=3 {
            within(bus.quiet()).await;
            assert_eq!(heard.len(), calls);
            clock.advance(Duration::from_secs(1));
        }
        within(bus.idle()).await;
        assert_eq!((heard.len(), bus.counts().redeliveries, bus.counts().parked), (3, 2, 0));
        stop(bus).await;
    }

    async fn obx_05_what_failed_twice_is_blocked_and_told_and_begins_anew_when_it_is_let_go(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let twice = Redeliver::new().attempts(2).backoff(fixed(Duration::from_secs(1)));
        let bus = builder(home.open(), &clock).listener(failing_until(&heard, 4, twice)).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!((heard.len(), bus.counts().parked), (2, 1), "blocked, and the observer was told");
        clock.advance(WEEK);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2, "it is passed over");
        bus.dead_letters("obx.failing").replay(Replay::all()).await.expect("it is parked");
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 3);
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!(heard.len(), 4, "two attempts again, the second of which succeeds");
        assert!(bus.parked().await.expect("readable").is_empty());
        stop(bus).await;
    }

    async fn obx_07_in_every_topic_entries_succeed_in_the_order_they_were_published(home: &dyn Home) {
        let (succeeded, clock) = (Heard::new(), MovedClock::default());
        let (to, chance) = (succeeded.clone(), Mutex::new(fastrand::Rng::with_seed(7)));
        let unreliable = listener::on::<Placed>("obx.unreliable")
            .durable()
            .concurrency(4)
            .redeliver(Redeliver::new().attempts(1_000).backoff(fixed(Duration::ZERO)))
            .call(move |event| {
                if chance.lock().u8(..) < 85 {
                    return Err(Failed("at random"));
                }
                to.note(event.line());
                Ok(())
            });
        let bus = builder(home.open(), &clock).listener(unreliable).start().await.expect("the bus starts");
        for order in 1..=20 {
            let topics = ["a", "b", "c", "d", "e"];
            place_all(&bus, &topics.map(|topic| (topic, order))).await;
        }
        within(bus.idle()).await;
        let mut topics: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for line in succeeded.all() {
            let (topic, order) = line.split_once(' ').expect("two words");
            topics.entry(topic.to_owned()).or_default().push(order.parse().expect("a number"));
        }
        assert_eq!(topics.len(), 5);
        for (topic, orders) in topics {
            assert_eq!(orders, (1..=20).collect::<Vec<_>>(), "topic {topic}");
        }
        stop(bus).await;
    }

    /// The peer's ordered work waits for somebody to flush its topic. Here it runs by itself, and what must wait is paused.
    async fn obx_08_only_the_work_that_is_not_paused_runs(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let noting = |id: &'static str| {
            let to = heard.clone();
            listener::on::<Placed>(id).durable().call(move |event| to.note(format!("{id} {}", event.line())))
        };
        let bus = builder(home.open(), &clock).listeners([noting("obx.one"), noting("obx.two")]).start().await.expect("the bus starts");
        assert!(bus.pause("obx.two"));
        place_all(&bus, &[("north", 1), ("south", 1)]).await;
        within(bus.idle()).await;
        assert!(heard.all().iter().all(|line| line.starts_with("obx.one")), "{:?}", heard.all());
        assert_eq!(heard.take().len(), 2);
        assert!(bus.resume("obx.two"));
        within(bus.idle()).await;
        let mut lines = heard.take();
        lines.sort();
        assert_eq!(lines, ["obx.two north 1", "obx.two south 1"]);
        stop(bus).await;
    }

    async fn obx_10_what_cannot_be_stored_fails_its_unit_of_work(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let limits = Limits { event_bytes: 1_000, ..Limits::default() };
        let bus = builder(home.open(), &clock).limits(limits).listener(failing_until(&heard, 1, Redeliver::new())).start().await.expect("the bus starts");
        let large = || Placed { shop: "n".repeat(2_000), order: 1 };
        for later in [false, true] {
            let refused = bus.transaction(async |tx| {
                APPLIED.add(tx, &("north".to_owned(), 1), 1)?;
                if later { tx.publish_after(large(), WEEK).map(drop) } else { tx.publish(large()) }
            });
            assert!(matches!(refused.await, Err(Error::Publish(PublishError::TooLarge { .. }))));
            // Also when its error is swallowed.
            let swallowed = bus.transaction(async |tx| {
                APPLIED.add(tx, &("north".to_owned(), 1), 1)?;
                let _ = if later { tx.publish_after(large(), WEEK).map(drop) } else { tx.publish(large()) };
                Ok::<_, Error>(())
            });
            assert!(matches!(swallowed.await, Err(Error::Unit(UnitError::RollbackOnly { .. }))));
        }
        within(bus.idle()).await;
        assert!(applied(&bus).is_empty() && heard.all().is_empty());
        assert!(bus.scheduled(Due::default(), 9).await.expect("reads").is_empty());
        stop(bus).await;
    }

    /// The peer carries the caller's logging context and trace span. Here it is the chain of events, which needs no thread: who
    /// handles an event sees where it came from, also of one that was published for later.
    async fn obx_11_who_handles_an_event_sees_the_context_it_was_published_in(home: &dyn Home) {
        let (seen, clock) = (Arc::new(Mutex::new(Vec::<Metadata>::new())), MovedClock::default());
        let follow = listener::on::<Placed>("obx.follow").durable().takes_tx().call_with(
            |event: &Placed, call| -> Result<(), BoxError> {
                let order = event.order;
                call.tx()?.publish(Shipped { order })?;
                call.tx()?.publish_after(Shipped { order: order + 1 }, WEEK)?;
                Ok(())
            },
        );
        let (placed, shipped) = (seen.clone(), seen.clone());
        let first = listener::on::<Placed>("obx.first").durable().call_with(move |_: &Placed, call| placed.lock().push(call.metadata()));
        let last = listener::on::<Shipped>("obx.last").durable().call_with(move |_: &Shipped, call| shipped.lock().push(call.metadata()));
        let bus = builder(home.open(), &clock).listeners([follow, first, last]).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        within(bus.idle()).await;
        clock.advance(WEEK);
        within(bus.idle()).await;
        let seen = seen.lock().clone();
        let placed = *seen.iter().find(|one| one.causation.is_none()).expect("the first of the chain");
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|one| one.correlation == placed.id));
        assert_eq!(seen.iter().filter(|one| one.causation == Some(placed.id)).count(), 2);
        stop(bus).await;
    }

    async fn obx_13_an_entry_that_cannot_be_read_does_not_keep_others_from_being(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let store = home.open();
        let bus = builder(store.clone(), &clock).listener(failing_until(&heard, 1, Redeliver::new())).start().await.expect("the bus starts");
        let entry = |key: &str, body: &[u8]| {
            let metadata = Metadata::new(Uuid::from_u128(u128::from(body[0])), clock_now(&clock), None);
            let mut header = EventHeader::new(metadata, "durable.placed", 1);
            header.key = Some(key.as_bytes().to_vec());
            Envelope { header, body: body.to_vec() }
        };
        let good = serde_json::to_vec(&Placed::new("south", 1)).expect("encodes");
        let events = vec![entry("north", b"no order at all"), entry("south", &good)];
        let unit = store.begin().await.expect("begins");
        unit.commit(CommitRequest { events, ..CommitRequest::default() }).await.expect("commits");
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["south 1"]);
        let parked = bus.parked().await.expect("readable");
        assert!(matches!(parked[..], [ref one] if matches!(one.cause, ParkedCause::Undecodable(_))));
        stop(bus).await;
    }

    /// The peer guards against other processes with versions. Here one process has the store, and the stale copy is a settlement of
    /// what is settled.
    async fn obx_14_a_stale_settlement_is_refused_and_so_is_what_came_with_it(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let store = home.open();
        let bus = builder(store.clone(), &clock).listener(failing_until(&heard, 1, Redeliver::new())).start().await.expect("the bus starts");
        let position = place(&bus, "north", 1).await;
        within(bus.idle()).await;
        let change = CursorChange::Done { position, covers: position.0..position.0 + 1 };
        let settlements = vec![Settlement { listener: Arc::from("obx.failing"), change }];
        let mut unit = store.begin().await.expect("begins");
        unit.schedule(Envelope { header: EventHeader::new(Metadata::new(Uuid::from_u128(1), clock_now(&clock), None), "durable.placed", 1), body: Vec::new() });
        let refused = unit.commit(CommitRequest { settlements, ..CommitRequest::default() }).await;
        assert!(matches!(refused, Err(CommitError::Refused(Error::Unit(UnitError::AlreadySettled { .. })))));
        assert!(bus.scheduled(Due::default(), 9).await.expect("reads").is_empty());
        stop(bus).await;
    }

    /// The peer's workers skip what others have locked. Here they are the calls of one listener.
    async fn obx_15_while_two_of_four_are_held_the_other_two_are_called_without_waiting(home: &dyn Home) {
        let clock = MovedClock::default();
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(0)));
        let (to, closed) = (heard.clone(), gate.clone());
        let holding = listener::on::<Placed>("obx.holding").durable().concurrency(4).call_async(move |event, _| {
            let (to, closed, line, is_held) = (to.clone(), closed.clone(), event.line(), event.order < 3);
            CallFuture::from_or_box(async move {
                if is_held {
                    closed.acquire().await?.forget();
                }
                to.note(line);
                Ok(None)
            })
        });
        let bus = builder(home.open(), &clock).listener(holding).start().await.expect("the bus starts");
        place_all(&bus, &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]).await;
        within(heard.until(2)).await;
        let mut first = heard.take();
        first.sort();
        assert_eq!(first, ["c 3", "d 4"]);
        gate.add_permits(2);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2);
        stop(bus).await;
    }

    /// The peer asks for a lock that another worker has. Here a second bus asks for the store that another bus has.
    async fn obx_16_who_comes_second_is_told_at_once(home: &dyn Home) {
        let clock = MovedClock::default();
        let store = home.open();
        let gated = Gated::new();
        let bus = builder(store.clone(), &clock).listener(gated.listener(listener::on::<Placed>("obx.gated").durable())).start().await.expect("the bus starts");
        place(&bus, "north", 1).await;
        within(gated.heard.until(1)).await;
        let second = within(builder(store.clone(), &clock).start()).await;
        assert!(matches!(second, Err(StartError::StoreTaken { .. })));
        gated.open(1);
        within(bus.idle()).await;
        assert_eq!(*store.delivered_up_to().borrow(), Position(1));
        stop(bus).await;
    }
}

fn clock_now(clock: &MovedClock) -> aftercommit::clock::Timestamp {
    aftercommit::clock::Clock::now(clock)
}
