//! A store that moves under a running bus: listeners notice nothing, and what they write is applied once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::error::BoxError;
use aftercommit::listener::{self, Registration};
use aftercommit::prelude::*;
use aftercommit::store::Store;
use aftercommit::store::embedded::copy::{Moved, Target};
use aftercommit::store::embedded::{EmbeddedStore, Limits};

use super::{APPLIED, Placed, applied, stop};
use crate::heard::within;

/// Fails now and then, and counts each order in the store.
fn counting() -> Registration {
    let calls = AtomicU64::new(0);
    listener::on::<Placed>("moved.counting").durable().takes_tx().concurrency(4).call_with(move |event, call| {
        APPLIED.add(call.tx()?, &(event.shop.clone(), event.order), 1)?;
        let failed = calls.fetch_add(1, Ordering::SeqCst) % 7 == 3;
        if failed { Err(BoxError::from("now and then")) } else { Ok(()) }
    })
}

/// Places `count` orders in each of four shops, all at once.
async fn place_many(bus: &Bus, from: u32, count: u32) {
    let shops = ["north", "south", "east", "west"].map(|shop| {
        let bus = bus.clone();
        tokio::spawn(async move {
            for order in from..from + count {
                super::place(&bus, shop, order).await;
            }
        })
    });
    for shop in shops {
        shop.await.expect("placed");
    }
}

async fn move_to(store: &Arc<dyn Store>, engine: &Arc<MemoryEngine>) -> Moved {
    let store = store.as_embedded().expect("an embedded store").clone();
    let target = Target::new("the other place", engine.clone(), || Ok(()));
    let moved = tokio::task::spawn_blocking(move || store.move_to(target));
    moved.await.expect("ends").expect("moves")
}

/// Each order once, and no other.
fn assert_each_once(bus: &Bus, orders: u32) {
    let applied = applied(bus);
    assert_eq!(applied.len() as u32, 4 * orders);
    assert!(applied.iter().all(|(_, times)| *times == 1), "{applied:?}");
}

on_embedded_stores! {
    async fn what_listeners_write_is_applied_once_across_a_move(home: &dyn Home) {
        let (store, engine) = (home.open(), Arc::new(MemoryEngine::default()));
        let bus = Bus::builder().shared_store(store.clone()).listener(counting()).start().await.expect("the bus starts");
        let ((), moved) = tokio::join!(place_many(&bus, 0, 30), move_to(&store, &engine));
        place_many(&bus, 30, 10).await;
        tokio::task::spawn_blocking(move || moved.finish()).await.expect("ends").expect("the old one followed");
        place_many(&bus, 40, 10).await;
        within(bus.idle()).await;
        assert_each_once(&bus, 50);
        stop(bus).await;
        let again = EmbeddedStore::inline(engine, Limits::default()).expect("opens");
        let bus = Bus::builder().store(again).listener(counting()).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_each_once(&bus, 50);
    }

    async fn what_listeners_write_is_applied_once_across_a_move_and_back(home: &dyn Home) {
        let (store, engine) = (home.open(), Arc::new(MemoryEngine::default()));
        let bus = Bus::builder().shared_store(store.clone()).listener(counting()).start().await.expect("the bus starts");
        let ((), moved) = tokio::join!(place_many(&bus, 0, 20), move_to(&store, &engine));
        let back = tokio::task::spawn_blocking(move || moved.go_back());
        let ((), back) = tokio::join!(place_many(&bus, 20, 20), back);
        back.expect("ends").expect("goes back");
        within(bus.idle()).await;
        stop(bus).await;
        drop(store);
        let bus = Bus::builder().shared_store(home.open()).listener(counting()).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_each_once(&bus, 40);
    }
}
