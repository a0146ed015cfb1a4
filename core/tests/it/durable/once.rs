//! Once for each id: publishing under a request id, and the inbox.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::bus::{Guarded, Handled, Inbox, Once};
use aftercommit::error::BoxError;
use aftercommit::listener::{self, IntoAnswer, Registration, StartAt};
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{Store, Upcoming};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use tokio::sync::Semaphore;

use super::{APPLIED, Failed, Life, Placed, Shipped, applied, stop};
use crate::heard::{Heard, within};
use crate::scene::Rang;

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const MOMENT: Duration = Duration::from_millis(1);
const MESSAGES: Inbox = Inbox::new("once.messages", WEEK);

fn noting(heard: &Heard) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>("once.noting").durable().call(move |event| to.note(event.line()))
}

fn builder(store: Arc<dyn Store>, clock: &MovedClock) -> BusBuilder {
    Bus::builder().shared_store(store).clock(clock.clone())
}

/// Publishes an order under a request id.
async fn ask(bus: &Bus, request: &str, order: u32) -> Once {
    let request = request.to_owned();
    let publishing = bus.transaction_retrying(100, async |tx: &mut Tx| {
        tx.publish_once(Placed::new("north", order), &request, WEEK).await
    });
    within(publishing).await.expect("committed").value
}

/// Accepts a message in a unit that also counts it.
async fn take(bus: &Bus, message: &str) -> bool {
    let id = message.to_owned();
    let work = async |tx: &mut Tx| {
        let is_new = MESSAGES.accept(tx, &id).await?;
        if is_new {
            APPLIED.add(tx, &(id.clone(), 0), 1)?;
        }
        Ok::<_, Error>(is_new)
    };
    within(bus.transaction_retrying(100, work)).await.expect("committed").value
}

on_every_store! {
    async fn a_request_id_is_used_once_also_after_completion_and_a_restart(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let life = Life::begin();
        let bus = life.start(builder(home.open(), &clock).listener(noting(&heard))).await;
        let first = ask(&bus, "a", 1).await;
        assert!(matches!(first, Once::Published(_)));
        assert_eq!(ask(&bus, "a", 2).await, Once::AlreadyPublished(first.event()));
        within(bus.idle()).await;
        assert_eq!(ask(&bus, "a", 3).await, Once::AlreadyPublished(first.event()), "it is worked off");
        stop(bus.clone()).await;
        life.crash(bus);
        clock.advance(WEEK - MOMENT);

        let life = Life::begin();
        let bus = life.start(builder(home.open(), &clock).listener(noting(&heard))).await;
        assert_eq!(ask(&bus, "a", 4).await, Once::AlreadyPublished(first.event()), "within the retention");
        assert!(matches!(ask(&bus, "b", 5).await, Once::Published(_)), "another id is fine");
        clock.advance(MOMENT);
        assert!(matches!(ask(&bus, "a", 6).await, Once::Published(other) if other != first.event()), "it is free again");
        within(bus.idle()).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines, ["north 1", "north 5", "north 6"]);
        life.crash(bus);
    }

    async fn the_event_has_the_id_that_was_answered_and_its_own_name_to_itself(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let to = heard.clone();
        let ids = listener::on::<Placed>("once.ids").durable().needs::<Metadata>().call_with(
            move |_: &Placed, call| -> Result<(), BoxError> {
                to.note(call.take::<Metadata>()?.id.to_string());
                Ok(())
            },
        );
        let bus = builder(home.open(), &clock).listener(ids).start().await.expect("the bus starts");
        let event = ask(&bus, "a", 1).await.event();
        within(bus.idle()).await;
        assert_eq!(heard.all(), [event.to_string()]);
        let request = "a".to_owned();
        let other = bus.transaction(async |tx| tx.publish_once(Shipped { order: 1 }, &request, WEEK).await);
        assert!(matches!(other.await.expect("committed").value, Once::Published(_)));
        stop(bus).await;
    }

    async fn what_is_undone_leaves_the_id_free_and_one_unit_uses_it_once(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = builder(home.open(), &clock).listener(noting(&heard)).start().await.expect("the bus starts");
        let request = "a".to_owned();
        let undone: Result<_, Error> = bus.transaction(async |tx| {
            tx.publish_once(Placed::new("north", 1), &request, WEEK).await?;
            tx.set_rollback_only("no");
            Ok(())
        }).await;
        assert!(undone.is_err());
        let work = async |tx: &mut Tx| {
            let undone = tx.savepoint(async |tx| {
                tx.publish_once(Placed::new("north", 2), &request, WEEK).await?;
                Err::<(), Error>(Error::Store(aftercommit::error::StoreError::Closed))
            });
            assert!(undone.await.is_err());
            let first = tx.publish_once(Placed::new("north", 3), &request, WEEK).await?;
            let second = tx.publish_once(Placed::new("north", 4), &request, WEEK).await?;
            Ok::<_, Error>((first, second))
        };
        let (first, second) = bus.transaction(work).await.expect("committed").value;
        assert!(matches!(first, Once::Published(_)));
        assert_eq!(second, Once::AlreadyPublished(first.event()));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 3"]);
        stop(bus).await;
    }

    async fn an_event_of_phase_listeners_alone_is_published_once_too(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let to = heard.clone();
        let rings = listener::on::<Rang>("once.rings").call(move |event: &Rang| to.note(event.0.to_string()));
        let bus = builder(home.open(), &clock).listener(rings).start().await.expect("the bus starts");
        for round in 0..3 {
            bus.transaction(async |tx| tx.publish_once(Rang(round), &7_u64, WEEK).await).await.expect("committed");
        }
        assert_eq!(heard.all(), ["0"]);
        stop(bus).await;
    }

    async fn ids_that_are_free_again_are_removed(home: &dyn Home) {
        let clock = MovedClock::default();
        let store = home.open();
        let bus = builder(store.clone(), &clock).start().await.expect("the bus starts");
        for number in 0..150 {
            assert!(take(&bus, &format!("message {number}")).await);
        }
        clock.advance(WEEK - MOMENT);
        within(bus.idle()).await;
        assert!(store.upcoming().borrow().expires.is_some());
        assert!(!take(&bus, "message 7").await);
        clock.advance(MOMENT);
        within(bus.idle()).await;
        assert_eq!(*store.upcoming().borrow(), Upcoming::default(), "all are gone, in commits of bounded size");
        assert!(take(&bus, "message 7").await);
        stop(bus).await;
    }

    async fn a_message_is_accepted_once_with_the_commit_of_its_work(home: &dyn Home) {
        let clock = MovedClock::default();
        let life = Life::begin();
        let bus = life.start(builder(home.open(), &clock)).await;
        assert!(take(&bus, "a").await);
        assert!(!take(&bus, "a").await);
        let failed = bus.transaction(async |tx| {
            assert!(MESSAGES.accept(tx, &"b".to_owned()).await?);
            assert!(!MESSAGES.accept(tx, &"b".to_owned()).await?, "a unit sees its own");
            Err::<(), Error>(Error::Store(aftercommit::error::StoreError::Closed))
        });
        assert!(failed.await.is_err());
        life.crash(bus);
        let life = Life::begin();
        let bus = life.start(builder(home.open(), &clock)).await;
        assert!(!take(&bus, "a").await, "across a crash");
        assert!(take(&bus, "b").await, "its work was rolled back");
        let has = async |tx: &mut Tx| Ok::<_, Error>((MESSAGES.has(tx, &"a".to_owned()).await?, MESSAGES.has(tx, &"c".to_owned()).await?));
        assert_eq!(bus.transaction(has).await.expect("committed").value, (true, false));
        assert_eq!(applied(&bus), [("a 0".to_owned(), 1), ("b 0".to_owned(), 1)]);
        life.crash(bus);
    }

    async fn work_outside_the_store_is_done_once_for_a_message(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = builder(home.open(), &clock).start().await.expect("the bus starts");
        let id = "a".to_owned();
        let failing = async || Err::<u32, BoxError>(Failed("no route").into());
        assert!(MESSAGES.handle(&bus, &id, failing).await.is_err(), "what failed is not handled");
        let mut handling = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (bus, id, to) = (bus.clone(), id.clone(), heard.clone());
            handling.spawn(async move {
                let work = async || {
                    tokio::task::yield_now().await;
                    to.note("sent");
                    Ok::<_, BoxError>(number)
                };
                MESSAGES.handle(&bus, &id, work).await.expect("handled")
            });
        }
        let handled = within(handling.join_all()).await;
        assert_eq!(heard.all(), ["sent"]);
        assert_eq!(handled.iter().filter(|one| **one == Handled::Before).count(), 7);
        clock.advance(WEEK);
        let again = MESSAGES.handle(&bus, &id, async || Ok::<_, BoxError>(9)).await.expect("handled");
        assert_eq!(again, Handled::Now(9), "after its retention");
        stop(bus).await;
    }

    async fn a_delivery_that_was_handled_is_told_so_and_not_handled_again(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let to = heard.clone();
        let guarded = listener::on::<Kept>("once.guarded").durable().takes_delivery().call_async(move |event, mut call| {
            let (to, order) = (to.clone(), event.0);
            CallFuture::from_or_box(async move {
                let delivery: Delivery = call.take()?;
                match delivery.guarded_by(&MESSAGES).await? {
                    Guarded::New(delivery) => {
                        to.note(format!("sent {order}"));
                        if order == 2 && delivery.attempt() == 1 {
                            return Err(Failed("cut off").into());
                        }
                        delivery.settle(async |tx| APPLIED.add(tx, &("kept".to_owned(), order), 1)).await?.into_answer()
                    }
                    Guarded::Before(delivery) => {
                        to.note(format!("before {order}"));
                        delivery.done().await?.into_answer()
                    }
                }
            })
        });
        let bus = builder(home.open(), &clock).listener(guarded).start().await.expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Kept(1))).await.expect("committed");
        within(bus.idle()).await;
        bus.transaction(async |tx| tx.publish(Kept(2))).await.expect("committed");
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["sent 1", "sent 2", "sent 2"], "what was not settled was not handled");
        bus.reset("once.guarded", StartAt::Beginning, async |_| Ok::<_, Error>(())).await.expect("reset");
        within(bus.idle()).await;
        let mut told = heard.take();
        told.sort();
        assert_eq!(told, ["before 1", "before 2"]);
        assert_eq!(applied(&bus), [("kept 1".to_owned(), 1), ("kept 2".to_owned(), 1)]);
        stop(bus).await;
    }
}

on_embedded_stores! {
    async fn of_two_units_with_one_request_id_exactly_one_wins(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let bus = builder(home.open(), &clock).listener(noting(&heard)).start().await.expect("the bus starts");
        // Both have looked before either commits.
        let (looked, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let one = async |order: u32| {
            let request = "a".to_owned();
            bus.transaction(async |tx| {
                let once = tx.publish_once(Placed::new("north", order), &request, WEEK).await?;
                looked.add_permits(1);
                gate.acquire().await.expect("open").forget();
                Ok::<_, Error>(once)
            }).await
        };
        let open = async {
            looked.acquire_many(2).await.expect("open").forget();
            gate.add_permits(2);
        };
        let (first, second, ()) = within(async { tokio::join!(one(1), one(2), open) }).await;
        let [won, lost] = if first.is_ok() { [first, second] } else { [second, first] };
        let won = won.expect("one wins").value;
        assert!(lost.expect_err("the other does not").is_conflict());
        assert_eq!(ask(&bus, "a", 3).await, Once::AlreadyPublished(won.event()));

        // Many that are run again: one event for each id.
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..60 {
            let bus = bus.clone();
            asking.spawn(async move { ask(&bus, &format!("many {}", number % 4), number).await });
        }
        let answers = within(asking.join_all()).await;
        assert_eq!(answers.iter().filter(|one| matches!(one, Once::Published(_))).count(), 4);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 5);
        stop(bus).await;
    }
}

/// Stored also when nobody listens; its number is no key.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Kept(u32);

impl Event for Kept {
    const STORED: Option<aftercommit::event::Stored<Self>> =
        Some(aftercommit::event::Stored::json("once.kept").logged());
}

impl StoredEvent for Kept {}
