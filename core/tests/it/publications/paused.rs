//! Paused across restarts, and dead letters that are called again once their listener runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::clock::Timestamp;
use aftercommit::listener::{self, Redeliver, Registration};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::publication::{Query, Status};
use aftercommit::store::{CommitRequest, CursorChange, Parked, Settlement, Store};

use super::{Failed, Ordered, found, order, rows, stop};
use crate::heard::{Heard, within};

fn picky(id: &str, heard: &Heard, open: &Arc<AtomicBool>) -> listener::Declaration<Ordered> {
    let _ = (heard, open);
    listener::on::<Ordered>(id).durable().redeliver(Redeliver::new().attempts(1))
}

fn called(declaration: listener::Declaration<Ordered>, heard: &Heard, open: &Arc<AtomicBool>) -> Registration {
    let (to, open) = (heard.clone(), open.clone());
    declaration.call(move |event| {
        to.note(event.line());
        if open.load(Ordering::SeqCst) { Ok(()) } else { Err(Failed("closed")) }
    })
}

/// Asks as the operator's program does: of each dead letter that is wanted.
async fn ask(store: &Arc<dyn Store>, wanted: impl Fn(&Parked) -> bool) {
    let parked = store.parked(None).await.expect("readable");
    let asked = parked.into_iter().filter(|one| wanted(one)).map(|one| Settlement {
        listener: one.listener.as_str().into(),
        change: CursorChange::StillParked(Parked { asked: Some(Timestamp(1)), ..one }),
    });
    let request = CommitRequest { settlements: asked.collect(), ..CommitRequest::default() };
    store.begin().await.expect("begins").commit(request).await.expect("commits");
}

on_every_store! {
    async fn a_listener_that_is_paused_across_restarts_is_not_called_until_it_is_resumed(home: &dyn Home) {
        let (heard, told, open) = (Heard::new(), Heard::new(), Arc::new(AtomicBool::new(true)));
        let start = || {
            let told = told.clone();
            let builder = Bus::builder().shared_store(home.open()).observer(move |notice: &Notice<'_>| {
                if let Notice::Warning(warning) = notice { told.note(warning.to_string()) }
            });
            builder.listener(called(picky("paused.one", &heard, &open), &heard, &open)).start()
        };
        let bus = start().await.expect("the bus starts");
        bus.pause_across_restarts("paused.one", "the carrier is down").await.expect("pauses");
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        assert_eq!(heard.len(), 0);
        stop(bus).await;
        for _ in 0..2 {
            let bus = start().await.expect("the bus starts");
            within(bus.idle()).await;
            let overview = bus.publications().counts().await.expect("readable");
            let one = &overview.listeners[0];
            assert_eq!((one.is_halted, one.counts.waiting, heard.len()), (true, 1, 0));
            assert_eq!(one.paused.as_ref().map(|paused| paused.reason.as_str()), Some("the carrier is down"));
            stop(bus).await;
        }
        assert_eq!(told.all().iter().filter(|line| line.contains("`paused.one` is paused and not called (the carrier is down)")).count(), 2);
        let bus = start().await.expect("the bus starts");
        assert!(bus.resume("paused.one"));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1"]);
        stop(bus).await;
        let bus = start().await.expect("the bus starts");
        order(&bus, "north", 2).await;
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["north 1", "north 2"], "it stays resumed");
        assert!(bus.pause_across_restarts("paused.none", "no reason").await.is_err());
        stop(bus).await;
    }

    async fn a_pause_and_what_was_given_up_follow_a_listener_to_its_new_id(home: &dyn Home) {
        let (heard, open) = (Heard::new(), Arc::new(AtomicBool::new(false)));
        let bus = Bus::builder().shared_store(home.open()).listener(called(picky("paused.old", &heard, &open), &heard, &open)).start().await.expect("the bus starts");
        let first = order(&bus, "north", 1).await;
        let second = order(&bus, "south", 1).await;
        within(bus.idle()).await;
        assert!(bus.dead_letters("paused.old").discard(first, "a test").await.expect("discards"));
        bus.pause_across_restarts("paused.old", "a while").await.expect("pauses");
        stop(bus).await;
        let renamed = picky("paused.new", &heard, &open).formerly("paused.old");
        let bus = Bus::builder().shared_store(home.open()).listener(called(renamed, &heard, &open)).start().await.expect("the bus starts");
        let all = found(&bus, Query::new()).await;
        assert_eq!(rows(&all), [(first.0, "paused.new", Status::GivenUp), (second.0, "paused.new", Status::Dead)]);
        let overview = bus.publications().counts().await.expect("readable");
        assert!(overview.listeners.len() == 1 && overview.listeners[0].paused.is_some());
        stop(bus).await;
    }

    async fn dead_letters_that_were_asked_for_are_called_again_at_the_next_start(home: &dyn Home) {
        let (heard, open) = (Heard::new(), Arc::new(AtomicBool::new(false)));
        let bus = Bus::builder().shared_store(home.open()).listener(called(picky("paused.asks", &heard, &open), &heard, &open)).start().await.expect("the bus starts");
        for (shop, number) in [("north", 1), ("north", 2), ("south", 1)] {
            order(&bus, shop, number).await;
        }
        within(bus.idle()).await;
        stop(bus).await;
        heard.take();
        open.store(true, Ordering::SeqCst);
        let store = home.open();
        ask(&store, |parked| parked.envelope.header.key == Some(b"north\0\0".to_vec())).await;
        store.close().await.expect("closes");
        drop(store);
        let bus = Bus::builder().shared_store(home.open()).listener(called(picky("paused.asks", &heard, &open), &heard, &open)).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["north 1", "north 2"], "in order, and no other");
        assert_eq!(found(&bus, Query::new().status(Status::Dead)).await.len(), 1);
        stop(bus).await;
        // What fails again is dead again, and was asked for once.
        open.store(false, Ordering::SeqCst);
        let store = home.open();
        ask(&store, |_| true).await;
        store.close().await.expect("closes");
        drop(store);
        for calls in [1, 0] {
            let bus = Bus::builder().shared_store(home.open()).listener(called(picky("paused.asks", &heard, &open), &heard, &open)).start().await.expect("the bus starts");
            within(bus.idle()).await;
            assert_eq!(heard.take().len(), calls);
            stop(bus).await;
        }
    }
}
