//! The log as a stream: retained events, then live ones, resumable at each of them.

use std::time::Duration;

use aftercommit::bus::{LogStream, StreamError};
use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::store::Position;
use aftercommit::testing::{FailingStore, Fault, Step};
use futures::{FutureExt, StreamExt};

use super::{Priced, price};
use crate::heard::within;
use crate::scene::{Placed, Rang, bus_on, counting, done};

const START: Position = Position(1);

/// The next `count` entries: place and event.
async fn read(stream: &mut LogStream<Priced>, count: usize) -> Vec<(Position, u32)> {
    let entries: Vec<_> = within(stream.take(count).collect::<Vec<_>>()).await;
    entries.into_iter().map(|entry| entry.expect("an entry")).map(|entry| (entry.position, entry.event.cents)).collect()
}

on_every_store! {
    async fn retained_events_come_first_and_then_live_ones_with_their_metadata(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        price(&bus, "tea", 1).await;
        let committed = bus.transaction(async |tx| {
            tx.publish(Priced::new("jam", 2))?;
            tx.publish(Rang(0))?;
            tx.publish(Priced::new("tea", 3))
        });
        let positions = committed.await.expect("committed").positions;
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        assert_eq!(read(&mut stream, 3).await, [(START, 1), (positions[0], 2), (positions[1], 3)]);
        assert!(stream.next().now_or_never().is_none(), "nothing more was committed");
        assert_eq!(stream.position(), bus.log_end());

        let live = tokio::spawn(async move { (stream.next().await, stream) });
        price(&bus, "tea", 4).await;
        let (entry, stream) = within(live).await.expect("no panic");
        let entry = entry.expect("the bus runs").expect("an entry");
        assert_eq!((entry.position.next(), entry.event), (bus.log_end(), Priced::new("tea", 4)));
        assert_eq!(stream.position(), entry.position.next());
        let mut again = bus.stream_from::<Priced>(entry.position).expect("it is logged");
        let same = within(again.next()).await.expect("the bus runs").expect("an entry");
        assert_eq!(same.metadata, entry.metadata, "the identity of an event does not change");
    }

    async fn a_stream_taken_up_at_any_place_goes_on_without_a_gap(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    for number in 0..25 {
                        price(&bus, "tea", writer * 100 + number).await;
                    }
                })
            })
            .collect();
        // While they write, the reader leaves and comes back, after one, two, three events.
        let mut seen = Vec::new();
        let mut from = START;
        for turn in 0.. {
            if seen.len() == 100 {
                break;
            }
            let mut stream = bus.stream_from::<Priced>(from).expect("it is logged");
            seen.extend(read(&mut stream, (1 + turn % 3).min(100 - seen.len())).await);
            from = stream.position();
        }
        for writer in writers {
            within(writer).await.expect("no panic");
        }
        let mut whole = bus.stream_from::<Priced>(START).expect("it is logged");
        assert_eq!(read(&mut whole, 100).await, seen);
        assert!(seen.is_sorted_by(|one, next| one.0 < next.0));
        for writer in 0..4 {
            let own: Vec<u32> = seen.iter().map(|(_, cents)| *cents).filter(|cents| cents / 100 == writer).collect();
            assert_eq!(own, (writer * 100..writer * 100 + 25).collect::<Vec<_>>());
        }
    }

    async fn a_stream_goes_on_after_a_restart(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        price(&bus, "tea", 1).await;
        price(&bus, "tea", 2).await;
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        let first = read(&mut stream, 1).await;
        within(bus.shutdown(Duration::from_secs(30))).await.expect("nothing is left");
        drop(bus);
        // The old stream neither keeps the store nor reads on in it.
        let bus = bus_on(home).start().await.expect("the bus starts");
        price(&bus, "tea", 3).await;
        let rest = within(stream.filter_map(|item| async { item.ok() }).count()).await;
        assert!(rest <= 1, "at most what it had read already");
        let mut stream = bus.stream_from::<Priced>(first[0].0.next()).expect("it is logged");
        let next: Vec<u32> = read(&mut stream, 2).await.into_iter().map(|(_, cents)| cents).collect();
        assert_eq!(next, [2, 3]);
    }

    async fn a_stopped_bus_ends_the_stream_that_waits(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        let reader = tokio::spawn(async move { stream.next().await.is_none() });
        tokio::task::yield_now().await;
        within(bus.shutdown(Duration::from_secs(30))).await.expect("nothing is left");
        assert!(within(reader).await.expect("no panic"));
    }

    async fn an_event_that_nobody_can_decode_is_told_in_its_place(home: &dyn Home) {
        /// Stored under the name of another, in a later version.
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        struct Later(u32);
        impl Event for Later {
            const STORED: Option<Stored<Self>> = Some(Stored::json("streams.priced").version(2).oldest(2).logged());
        }
        let bus = bus_on(home).start().await.expect("the bus starts");
        price(&bus, "tea", 1).await;
        bus.transaction(async |tx| tx.publish(Later(2))).await.expect("committed");
        price(&bus, "tea", 3).await;
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        assert_eq!(read(&mut stream, 1).await, [(START, 1)]);
        match within(stream.next()).await {
            Some(Err(StreamError::Undecodable { position, cause })) => {
                assert_eq!(position, START.next());
                assert!(cause.to_string().contains("version 2"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&mut stream, 1).await[0].1, 3);
    }

    async fn a_storage_error_is_told_and_ends_the_stream(home: &dyn Home) {
        let store = FailingStore::around(home.open());
        let bus = Bus::builder().store(store.clone()).start().await.expect("the bus starts");
        price(&bus, "tea", 1).await;
        store.fail_next(Step::ReadLog, Fault::Error);
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        assert!(matches!(within(stream.next()).await, Some(Err(StreamError::Store(_)))));
        assert!(within(stream.next()).await.is_none());
        let mut again = bus.stream_from::<Priced>(stream.position()).expect("it is logged");
        assert_eq!(read(&mut again, 1).await, [(START, 1)]);
    }

    async fn a_dropped_wait_loses_nothing(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let writer = tokio::spawn({
            let bus = bus.clone();
            async move {
                for cents in 0..50 {
                    price(&bus, "tea", cents).await;
                }
            }
        });
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        let mut seen = Vec::new();
        within(async {
            while seen.len() < 50 {
                // Polled once and dropped, whatever it was about to do.
                match stream.next().now_or_never() {
                    Some(item) => seen.push(item.expect("the bus runs").expect("an entry").event.cents),
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        within(writer).await.expect("no panic");
    }
}

on_embedded_stores! {
    async fn what_was_pruned_before_it_was_read_is_told_as_a_gap(home: &dyn Home) {
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).retention(Retention::delete_when_done()).listener(counting("streams.counts")).start().await.expect("the bus starts");
        let publish = async |number| {
            bus.transaction(async |tx| tx.publish(Placed(number))).await.expect("committed");
            within(bus.idle()).await;
        };
        let mut sent = 0;
        // What everybody has done is pruned with later commits.
        while store.pruned_to(false) <= Position(3) {
            sent += 1;
            assert!(sent < 10_000, "nothing is pruned");
            publish(sent).await;
        }
        assert_eq!(done(&bus, 1), 1);
        let end = bus.log_end();
        let mut stream = bus.stream_from::<Placed>(START).expect("it has a durable listener");
        let to = match within(stream.next()).await {
            Some(Err(StreamError::Gap { from, to })) => {
                assert_eq!(from, START);
                to
            }
            other => panic!("{other:?}"),
        };
        assert!(to > Position(3) && to <= end);
        assert_eq!(stream.position(), to);
        // Behind the gap is everything that is still there.
        let mut expected = to;
        while expected < end {
            match within(stream.next()).await {
                Some(Ok(entry)) => {
                    assert_eq!(entry.position, expected);
                    expected = expected.next();
                }
                Some(Err(StreamError::Gap { from, to })) => {
                    assert_eq!(from, expected);
                    expected = to;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(bus.stream_from::<Placed>(end).expect("it has a durable listener").next().now_or_never().is_none());
    }

    async fn logged_events_are_never_in_a_gap(home: &dyn Home) {
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).retention(Retention::delete_when_done()).listener(counting("streams.counts")).start().await.expect("the bus starts");
        let mut sent = 0;
        while store.pruned_to(false) <= Position(30) {
            sent += 1;
            assert!(sent < 10_000, "nothing is pruned");
            bus.transaction(async |tx| tx.publish(Placed(sent))).await.expect("committed");
            price(&bus, "tea", sent).await;
            within(bus.idle()).await;
        }
        let mut stream = bus.stream_from::<Priced>(START).expect("it is logged");
        let all: Vec<u32> = read(&mut stream, sent as usize).await.into_iter().map(|(_, cents)| cents).collect();
        assert_eq!(all, (1..=sent).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_event_that_is_not_stored_is_refused_with_what_to_do() -> Result<(), BoxError> {
    let bus = Bus::builder().start().await?;
    let refused = bus.stream_from::<Placed>(START).expect_err("nothing stores it");
    assert!(matches!(refused, StreamError::NotStored { event: "test.placed" }));
    assert!(refused.to_string().contains("logged"), "{refused}");
    bus.register(listener::on::<Placed>("streams.durable").durable().call(|_| {})).await?;
    assert!(bus.stream_from::<Placed>(START).is_ok());
    Ok(())
}
