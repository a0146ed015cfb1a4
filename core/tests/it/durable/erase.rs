//! An erased event is no listener's business any more: not the one that waits, not the one that is parked, not the one that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::error::{BoxError, StoreError};
use aftercommit::listener::{self, Batch, Redeliver, Registration};
use aftercommit::prelude::*;
use aftercommit::store::{Erasure, Position, Store};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{APPLIED, Failed, Placed, applied, place, place_all, stop};
use crate::heard::{Heard, within};
use crate::stores::Home;

/// Fails on the first order of the north.
fn fails_once(heard: &Heard, attempts: u32) -> Registration {
    let (to, failed) = (heard.clone(), AtomicBool::new(false));
    listener::on::<Placed>("erase.fails").durable().redeliver(Redeliver::new().attempts(attempts)).call(move |event| {
        to.note(event.line());
        if event.shop == "north" && !failed.swap(true, Ordering::SeqCst) { Err(Failed("closed")) } else { Ok(()) }
    })
}

async fn id_at(store: &Arc<dyn Store>, position: Position) -> Uuid {
    store.read_event(position).await.expect("reads").expect("an event").envelope.header.metadata.id
}

on_embedded_stores! {
    async fn an_event_that_waits_to_be_called_again_is_not(home: &dyn Home) {
        let (heard, clock, store) = (Heard::new(), MovedClock::default(), home.open());
        let bus = Bus::builder().shared_store(store.clone()).clock(clock.clone()).listener(fails_once(&heard, 9)).start().await.expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        within(bus.quiet()).await;
        place(&bus, "north", 2).await;
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["north 1"], "the second waits behind the first");
        let id = id_at(&store, first).await;
        assert_eq!(bus.erase(id).await.expect("erases"), Erasure::Done { parked: 0 });
        assert!(store.redeliveries("erase.fails").await.expect("reads").is_empty());
        clock.advance(Duration::from_secs(86_400));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "north 2"]);
        assert_eq!(bus.erase(id).await.expect("answers"), Erasure::Before, "its tombstone stays as long as the events around it");
        stop(bus).await;
    }

    async fn an_event_that_is_parked_goes_and_its_key_is_free_again(home: &dyn Home) {
        let (heard, store) = (Heard::new(), home.open());
        let bus = Bus::builder().shared_store(store.clone()).listener(fails_once(&heard, 1)).start().await.expect("the bus starts");
        let first = place(&bus, "north", 1).await;
        within(bus.idle()).await;
        let id = bus.parked().await.expect("the parked ones")[0].envelope.header.metadata.id;
        assert_eq!(bus.erase(id).await.expect("erases"), Erasure::Done { parked: 1 });
        assert!(bus.parked().await.expect("the parked ones").is_empty());
        within(bus.idle()).await;
        place(&bus, "north", 2).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "north 2"]);
        assert!(!bus.resubmit("erase.fails", first).await.expect("answers"));
        stop(bus).await;
    }

    async fn an_event_that_is_held_to_be_called_is_not_and_what_a_call_of_one_writes_is_refused(home: &dyn Home) {
        let (heard, store, gate) = (Heard::new(), home.open(), Arc::new(Semaphore::new(0)));
        let (to, closed) = (heard.clone(), gate.clone());
        let gated = listener::on::<Placed>("erase.gated").durable().takes_tx().concurrency(1).call_async(move |event, mut call| {
            to.note(event.line());
            let row = (event.shop.clone(), event.order);
            let closed = closed.clone();
            CallFuture::from_or_box(async move {
                APPLIED.add(call.tx()?, &row, 1)?;
                closed.acquire().await?.forget();
                Ok::<_, BoxError>(None)
            })
        });
        let bus = Bus::builder().shared_store(store.clone()).listener(gated).start().await.expect("the bus starts");
        let running = place(&bus, "north", 1).await;
        let held = place(&bus, "south", 1).await;
        place(&bus, "east", 1).await;
        within(heard.until(1)).await;
        for position in [running, held] {
            let id = id_at(&store, position).await;
            assert_eq!(bus.erase(id).await.expect("erases"), Erasure::Done { parked: 0 });
        }
        gate.add_permits(9);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "east 1"]);
        assert_eq!(applied(&bus), [("east 1".to_owned(), 1)]);
        stop(bus).await;
    }

    async fn an_event_that_goes_while_its_batch_runs_takes_nothing_else_of_it_along(home: &dyn Home) {
        let (heard, store, gate) = (Heard::new(), home.open(), Arc::new(Semaphore::new(0)));
        let (to, closed) = (heard.clone(), gate.clone());
        let declared = listener::on::<Placed>("erase.batch").durable().takes_tx().batch(Batch::new(3, Duration::ZERO));
        let gated = declared.call_batch_async(move |events, mut call| {
            let rows: Vec<(String, u32)> = events.iter().map(|one| (one.event.shop.clone(), one.event.order)).collect();
            to.note(rows.len().to_string());
            let closed = closed.clone();
            CallFuture::from_or_box(async move {
                for row in &rows {
                    APPLIED.add(call.tx()?, row, 1)?;
                }
                closed.acquire().await?.forget();
                Ok::<_, BoxError>(None)
            })
        });
        let bus = Bus::builder().shared_store(store.clone()).listener(gated).start().await.expect("the bus starts");
        let at = place_all(&bus, &[("north", 1), ("north", 2), ("south", 1)]).await;
        within(heard.until(1)).await;
        let id = id_at(&store, at[1]).await;
        assert_eq!(bus.erase(id).await.expect("erases"), Erasure::Done { parked: 0 });
        gate.add_permits(9);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["3", "2"]);
        assert_eq!(applied(&bus), [("north 1".to_owned(), 1), ("south 1".to_owned(), 1)]);
        stop(bus).await;
    }
}

#[tokio::test]
async fn a_store_that_cannot_erase_says_so() {
    let bus = Bus::builder().shared_store(crate::live::Live::default().open()).start().await.expect("the bus starts");
    let refused = bus.erase(Uuid::from_u128(1)).await;
    assert!(matches!(refused, Err(Error::Store(StoreError::Unsupported { .. }))));
}
