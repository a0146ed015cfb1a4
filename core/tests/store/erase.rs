//! Erasing one event: nothing of it is left to be read, everything around it stays, whatever happens then.

use std::sync::Arc;

use aftercommit::clock::Timestamp;
use aftercommit::event::{Envelope, EventHeader, Metadata};
use aftercommit::store::embedded::EmbeddedStore;
use aftercommit::store::{CursorChange, Erasure, Parked, ParkedCause, Position, Redelivery, Retention, Store};
use aftercommit::testing::MovedClock;
use uuid::Uuid;

use crate::place::*;

on_every_store! {
    an_erased_event_is_a_gap_and_its_neighbours_stay
    an_erased_event_is_settled_for_everybody_and_nothing_is_kept_of_it
    a_large_event_leaves_no_piece_behind
    an_erased_event_stays_erased_after_a_crash
    erasing_twice_or_what_is_not_there_has_a_clear_answer
    an_event_that_was_pruned_and_is_parked_is_erased_where_it_is_parked
    a_pack_of_erased_events_is_pruned
}

const SECRET: &[u8] = b"ada.lovelace@example.org";

fn named(id: u128, body: impl Into<Vec<u8>>) -> Envelope {
    let metadata = Metadata::new(Uuid::from_u128(id), Timestamp(1), None);
    let mut header = EventHeader::new(metadata, "test.happened", 1);
    header.logged = true;
    header.key = Some(SECRET.to_vec());
    Envelope { header, body: body.into() }
}

fn secret(id: u128, len: usize) -> Envelope {
    let mut body = SECRET.to_vec();
    body.resize(len.max(SECRET.len()), b'x');
    body.extend_from_slice(SECRET);
    named(id, body)
}

fn plain(id: u128) -> Envelope {
    let mut envelope = named(id, "nothing to hide");
    envelope.header.key = None;
    envelope
}

fn embedded(store: &Arc<dyn Store>) -> EmbeddedStore {
    store.as_embedded().expect("an embedded store").clone()
}

fn parked(listener: &str, position: u64, envelope: Envelope) -> Parked {
    Parked {
        listener: listener.to_owned(),
        position: Position(position),
        attempts: 1,
        cause: ParkedCause::Failed("no".to_owned()),
        parked_at: Timestamp(1),
        asked: None,
        envelope,
    }
}

fn park(listener: &str, position: u64, envelope: Envelope) -> CursorChange {
    CursorChange::Park { parked: parked(listener, position, envelope), covers: position..position + 1 }
}

/// No event that anybody can read holds the secret.
async fn assert_gone(store: &dyn Store) {
    let holds = |envelope: &Envelope| {
        let mut encoded = Vec::new();
        envelope.encode(&mut encoded);
        encoded.windows(SECRET.len()).any(|part| part == SECRET)
    };
    assert!(!log(store).await.iter().any(|one| holds(&one.envelope)));
    assert!(!store.parked(None).await.expect("reads").iter().any(|one| holds(&one.envelope)));
}

async fn an_erased_event_is_a_gap_and_its_neighbours_stay<P: Place>() {
    let place = P::new();
    let store = place.open();
    publish(&*store, vec![plain(1), secret(2, 100), plain(3), secret(4, 60_000), plain(5)]).await;
    let before = log(&*store).await;
    for (id, position) in [(2, 2), (4, 4)] {
        let found = embedded(&store).find_event(Uuid::from_u128(id)).expect("reads");
        assert_eq!(found, Some(Position(position)));
        assert_eq!(embedded(&store).erase(Position(position)).await.expect("erases"), Erasure::Done { parked: 0 });
    }
    assert_gone(&*store).await;
    assert_eq!(positions(&*store).await, [1, 3, 5]);
    let after = log(&*store).await;
    for (left, was) in after.iter().zip([&before[0], &before[2], &before[4]]) {
        assert_eq!((left.position, &left.envelope), (was.position, &was.envelope));
    }
    assert!(store.read_event(Position(2)).await.expect("reads").is_none());
    assert_eq!(embedded(&store).erased_at(Position(2)).expect("reads"), Some(Uuid::from_u128(2)));
    assert_eq!(embedded(&store).erased_at(Position(3)).expect("reads"), None);
    assert_eq!(publish(&*store, vec![plain(6)]).await, [6]);
    let report = embedded(&store).verify().expect("reads");
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.contents.log.events, report.contents.log.erased), (4, 2));
}

async fn an_erased_event_is_settled_for_everybody_and_nothing_is_kept_of_it<P: Place>() {
    let place = P::new();
    let store = place.open();
    publish(&*store, vec![plain(1), secret(2, 100), plain(3)]).await;
    let error = String::from_utf8(SECRET.to_vec()).expect("text");
    let waiting = Redelivery {
        position: Position(2),
        attempts: 1,
        due: Timestamp(9),
        error,
        failed_at: Timestamp(1),
        first_failed_at: Timestamp(1),
        counted: 1,
        kind: None,
    };
    let settlements = vec![
        start("parks", 1),
        start("waits", 1),
        start("suspected", 1),
        settle("parks", park("parks", 2, secret(2, 100))),
        settle("waits", CursorChange::Redeliver(waiting)),
        settle("suspected", CursorChange::Suspect { position: Position(2), count: 1 }),
    ];
    request(&*store, Vec::new(), settlements).await.expect("commits");
    assert_eq!(embedded(&store).erase(Position(2)).await.expect("erases"), Erasure::Done { parked: 1 });
    assert_gone(&*store).await;
    assert!(store.redeliveries("waits").await.expect("reads").is_empty());
    for (listener, cursor) in store.cursors().await.expect("reads") {
        assert!(cursor.is_done(2) && !cursor.is_done(1) && !cursor.is_done(3), "{listener}");
    }
    assert!(is_settled(&request(&*store, Vec::new(), vec![done("waits", 2)]).await, 2));
    let resolved = settle("parks", CursorChange::Resolved { position: Position(2) });
    assert!(is_settled(&request(&*store, Vec::new(), vec![resolved]).await, 2));
    assert!(embedded(&store).verify().expect("reads").is_whole());
    drop(store);
    let store = place.open();
    assert!(store.suspects().await.expect("reads").is_empty());
    assert!(store.parked(None).await.expect("reads").is_empty());
}

async fn a_large_event_leaves_no_piece_behind<P: Place>() {
    let place = P::new();
    let store = place.open();
    publish(&*store, vec![plain(1), secret(2, 400_000)]).await;
    let before = embedded(&store).verify().expect("reads").contents;
    assert_eq!(before.large_values, 1);
    request(&*store, Vec::new(), vec![start("l", 1), settle("l", park("l", 2, secret(2, 400_000)))])
        .await
        .expect("commits");
    embedded(&store).erase(Position(2)).await.expect("erases");
    let after = embedded(&store).verify().expect("reads");
    assert!(after.is_whole(), "{after}");
    assert_eq!(after.contents.large_values, 0);
    assert!(after.contents.entries < 10, "{} entries", after.contents.entries);
}

async fn an_erased_event_stays_erased_after_a_crash<P: Place>() {
    let place = P::new();
    let store = place.open();
    publish(&*store, vec![plain(1), secret(2, 9_000), secret(3, 10)]).await;
    for position in [2, 3] {
        embedded(&store).erase(Position(position)).await.expect("erases");
    }
    drop(store);
    let store = place.open();
    assert!(!store.was_clean());
    assert_gone(&*store).await;
    assert_eq!(positions(&*store).await, [1]);
    assert_eq!(publish(&*store, vec![plain(4)]).await, [4]);
    assert_eq!(embedded(&store).erase(Position(3)).await.expect("answers"), Erasure::Before);
}

async fn erasing_twice_or_what_is_not_there_has_a_clear_answer<P: Place>() {
    let place = P::new();
    let store = place.open();
    // The second keeps their pack.
    publish(&*store, vec![plain(1), plain(2)]).await;
    let erase = async |position| embedded(&store).erase(Position(position)).await.expect("answers");
    assert_eq!(erase(1).await, Erasure::Done { parked: 0 });
    assert_eq!(erase(1).await, Erasure::Before);
    assert_eq!(erase(3).await, Erasure::NotStored);
    assert_eq!(erase(0).await, Erasure::NotStored);
    assert_eq!(erase(u64::MAX).await, Erasure::NotStored);
    assert_eq!(embedded(&store).find_event(Uuid::from_u128(1)).expect("reads"), Some(Position(1)));
    assert_eq!(embedded(&store).find_event(Uuid::from_u128(3)).expect("reads"), None);
    store.close().await.expect("closes");
    assert!(is_closed(embedded(&store).erase(Position(1)).await));
}

async fn an_event_that_was_pruned_and_is_parked_is_erased_where_it_is_parked<P: Place>() {
    let place = P::new();
    let store = place.open();
    retain(&*store, Retention::delete_when_done(), &MovedClock::default()).await;
    let mut unlogged = secret(1, 9_000);
    unlogged.header.logged = false;
    request(&*store, Vec::new(), vec![start("l", 1)]).await.expect("commits");
    publish(&*store, vec![unlogged.clone()]).await;
    request(&*store, Vec::new(), vec![settle("l", park("l", 1, unlogged))]).await.expect("commits");
    // Some commits, so that the log is pruned.
    while !positions(&*store).await.is_empty() {
        put(&*store, b"a", b"1").await;
    }
    let found = embedded(&store).find_event(Uuid::from_u128(1)).expect("reads");
    assert_eq!(found, Some(Position(1)));
    assert_eq!(embedded(&store).erase(Position(1)).await.expect("erases"), Erasure::Done { parked: 1 });
    assert_gone(&*store).await;
    assert_eq!(embedded(&store).erase(Position(1)).await.expect("answers"), Erasure::NotStored);
}

async fn a_pack_of_erased_events_is_pruned<P: Place>() {
    let place = P::new();
    let store = place.open();
    publish(&*store, vec![secret(1, 10), secret(2, 10)]).await;
    publish(&*store, vec![plain(3)]).await;
    for position in [1, 2] {
        embedded(&store).erase(Position(position)).await.expect("erases");
    }
    drop(store);
    let store = place.open();
    retain(&*store, Retention::delete_when_done(), &MovedClock::default()).await;
    while embedded(&store).verify().expect("reads").contents.log.erased > 0 {
        put(&*store, b"a", b"1").await;
    }
    assert_eq!(positions(&*store).await, [3]);
}
