//! One event's whole story.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Redeliver};
use aftercommit::prelude::*;
use aftercommit::publication::{Held, Stage, Status};
use aftercommit::store::{ParkedCause, Retention, Store};
use aftercommit::testing::MovedClock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Failed, Ordered, order, rows, stop};
use crate::heard::within;

/// What follows from an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Invoiced {
    order: u32,
}

impl Event for Invoiced {
    const STORED: Option<Stored<Self>> = Some(Stored::json("view.invoiced").logged());
}

impl StoredEvent for Invoiced {}

/// Nobody keeps it once nobody is owed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Passing(u32);

impl Event for Passing {
    const STORED: Option<Stored<Self>> = Some(Stored::json("view.passing"));
}

impl StoredEvent for Passing {}

async fn id_at(store: &Arc<dyn Store>, position: aftercommit::store::Position) -> Uuid {
    store.read_event(position).await.expect("reads").expect("an event").envelope.header.metadata.id
}

on_every_store! {
    async fn an_events_story_says_what_it_came_from_whom_it_went_to_and_what_it_caused(home: &dyn Home) {
        let store = home.open();
        let fails = listener::on::<Ordered>("story.fails").durable().redeliver(Redeliver::new().attempts(1)).call(|_| Err::<(), _>(Failed("closed")));
        let invoices = listener::on::<Ordered>("story.invoices").durable().takes_tx().call_with(|event: &Ordered, call| -> Result<(), BoxError> {
            let tx = call.tx()?;
            tx.publish(Invoiced { order: event.order })?;
            Ok(tx.publish(Invoiced { order: event.order + 100 })?)
        });
        let never = listener::on::<Ordered>("story.never").when(|_| false).durable().call(|_| ());
        let bus = Bus::builder().shared_store(store.clone()).listeners([fails, invoices, never]).start().await.expect("the bus starts");
        let position = order(&bus, "north", 1).await;
        within(bus.idle()).await;
        let id = id_at(&store, position).await;
        let story = bus.publications().story(id).await.expect("readable").expect("a story");
        assert_eq!((story.event, story.position, story.held), (id, Some(position), Held::InLog));
        let header = story.header.expect("a header");
        assert_eq!((header.name.as_str(), header.metadata.correlation, header.metadata.causation), ("view.ordered", id, None));
        assert_eq!(header.not_owed, ["story.never"]);
        let at = position.0;
        assert_eq!(rows(&story.publications), [(at, "story.fails", Status::Dead), (at, "story.invoices", Status::Done)]);
        assert!(matches!(&story.publications[0].stage, Stage::Dead { attempts: 1, cause: ParkedCause::Failed(why), .. } if why == "closed"));
        assert_eq!(story.caused.iter().map(|one| one.header.name.as_str()).collect::<Vec<_>>(), ["view.invoiced", "view.invoiced"]);
        assert!(!story.caused_more);
        // From the other end.
        let caused = bus.publications().story(story.caused[0].header.metadata.id).await.expect("readable").expect("a story");
        let metadata = caused.header.expect("a header").metadata;
        assert_eq!((metadata.causation, metadata.correlation), (Some(id), id));
        assert!(caused.publications.is_empty() && caused.caused.is_empty(), "nobody is owed it, and it caused nothing");
        assert_eq!(bus.publications().story(Uuid::from_u128(1)).await.expect("readable"), None);
        stop(bus).await;
    }
}

on_every_store! {
    async fn an_event_that_was_published_for_later_has_a_story_too(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(1_000));
        let hour = Duration::from_secs(3_600);
        let reminds = listener::on::<Ordered>("story.reminds").durable().takes_tx().call_with(|event: &Ordered, call| -> Result<(), BoxError> {
            let tx = call.tx()?;
            tx.publish(Invoiced { order: event.order })?;
            tx.publish_after(Passing(event.order), Duration::from_secs(3_600))?;
            Ok(())
        });
        let works = listener::on::<Passing>("story.works").durable().call(|_| ());
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listeners([reminds, works]).start().await.expect("the bus starts");
        let later = bus.transaction(async |tx| tx.publish_after(Ordered::new("north", 1), hour)).await.expect("committed").value;
        let story = bus.publications().story(later).await.expect("readable").expect("a story");
        assert_eq!((story.position, story.held, story.publications.len()), (None, Held::Later, 0));
        assert_eq!(story.header.expect("a header").metadata.time, Timestamp(3_601_000), "when it is due");
        let counts = bus.publications().counts().await.expect("readable");
        assert_eq!((counts.later, counts.next_due, counts.total.owed()), (1, Some(Timestamp(3_601_000)), 0));
        clock.advance(hour);
        within(bus.quiet()).await;
        let story = bus.publications().story(later).await.expect("readable").expect("a story");
        assert_eq!((story.held, story.publications[0].stage.status()), (Held::InLog, Status::Done));
        let caused: Vec<_> = story.caused.iter().map(|one| (one.position.is_some(), one.header.name.as_str())).collect();
        assert_eq!(caused, [(true, "view.invoiced"), (false, "view.passing")]);
        clock.advance(hour);
        within(bus.quiet()).await;
        let story = bus.publications().story(later).await.expect("readable").expect("a story");
        assert!(story.caused.iter().all(|one| one.position.is_some()), "now both are in the log");
        stop(bus).await;
    }
}

on_embedded_stores! {
    async fn of_a_pruned_event_only_what_was_parked_or_given_up_is_known(home: &dyn Home) {
        let store = home.open();
        let open = Arc::new(AtomicBool::new(false));
        let may = open.clone();
        let parks = listener::on::<Passing>("story.parks").durable().redeliver(Redeliver::new().attempts(1)).call(move |event| {
            if event.0 == 0 && !may.load(Ordering::SeqCst) { Err(Failed("closed")) } else { Ok(()) }
        });
        let works = listener::on::<Passing>("story.works").durable().call(|_| ());
        let bus = Bus::builder().shared_store(store.clone()).retention(Retention::delete_when_done()).listeners([parks, works]).start().await.expect("the bus starts");
        let position = bus.transaction(async |tx| tx.publish(Passing(0))).await.expect("committed").positions[0];
        within(bus.idle()).await;
        let id = bus.parked().await.expect("the parked one")[0].envelope.header.metadata.id;
        let mut number = 0;
        while store.read_event(position).await.expect("readable").is_some() {
            number += 1;
            assert!(number < 5_000, "it is never pruned");
            bus.transaction(async |tx| tx.publish(Passing(number))).await.expect("committed");
            within(bus.idle()).await;
        }
        let story = bus.publications().story(id).await.expect("readable").expect("a story");
        assert_eq!(story.held, Held::Aside);
        assert_eq!(story.header.expect("the copy's").name, "view.passing");
        assert_eq!(rows(&story.publications), [(position.0, "story.parks", Status::Dead)]);
        assert!(bus.dead_letters("story.parks").discard(position, "too late").await.expect("discards"));
        let story = bus.publications().story(id).await.expect("readable").expect("a story");
        assert_eq!((story.held, rows(&story.publications)), (Held::Aside, vec![(position.0, "story.parks", Status::GivenUp)]));
        bus.erase(id).await.expect("erases");
        assert_eq!(bus.publications().story(id).await.expect("readable"), None, "the note of it went too");
        stop(bus).await;
    }

    async fn an_erased_event_says_that_it_was_erased_and_what_it_caused(home: &dyn Home) {
        let store = home.open();
        let invoices = listener::on::<Ordered>("story.invoices").durable().takes_tx().call_with(|event: &Ordered, call| -> Result<(), BoxError> {
            Ok(call.tx()?.publish(Invoiced { order: event.order })?)
        });
        let bus = Bus::builder().shared_store(store.clone()).listener(invoices).start().await.expect("the bus starts");
        let position = order(&bus, "north", 1).await;
        within(bus.idle()).await;
        let id = id_at(&store, position).await;
        bus.erase(id).await.expect("erases");
        let story = bus.publications().story(id).await.expect("readable").expect("a tombstone");
        assert_eq!((story.held, story.header, story.publications.len(), story.caused.len()), (Held::Erased, None, 0, 1));
        stop(bus).await;
    }
}
