//! Promises of every embedded store about what it keeps of a listener beside its cursor.

use aftercommit::clock::Timestamp;
use aftercommit::store::{CursorChange, Ending, GivenUp, ListenerRecord, Paused, Position};

use crate::place::*;
use crate::suite::park;

on_every_store! {
    what_is_given_up_is_settled_with_a_note_of_which_the_newest_are_kept
    what_is_known_of_a_listener_lasts_as_long_as_its_cursor
    a_store_that_no_bus_had_is_closed_as_clean_as_it_was_found
}

fn given_up(listener: &str, position: u64, reason: &str) -> GivenUp {
    GivenUp {
        listener: listener.to_owned(),
        position: Position(position),
        attempts: 2,
        how: Ending::Discarded,
        reason: reason.to_owned(),
        at: Timestamp(9),
        header: event("x").header,
    }
}

fn give_up(listener: &str, position: u64) -> aftercommit::store::Settlement {
    let given_up = given_up(listener, position, "too late");
    settle(listener, CursorChange::GiveUp { given_up, covers: position..position + 1 })
}

async fn what_is_given_up_is_settled_with_a_note_of_which_the_newest_are_kept<P: Place>() {
    let place = P::new();
    let store = place.open();
    let events = (0..20).map(|number| event([number])).collect();
    request(&*store, events, vec![start("l", 1), start("m", 1)]).await.expect("starts");
    // From the log, and from what is parked; neither twice, and nothing that is done.
    request(&*store, vec![], vec![park("l", 1), done("l", 3)]).await.expect("parks");
    request(&*store, vec![], vec![give_up("l", 1), give_up("l", 2)]).await.expect("gives up");
    for position in 1..=3 {
        assert!(is_settled(&request(&*store, vec![], vec![give_up("l", position)]).await, position));
    }
    assert!(is_settled(&request(&*store, vec![], vec![give_up("unknown", 4)]).await, 4));
    assert_eq!(store.parked(None).await.expect("reads"), []);
    let kept = [given_up("l", 1, "too late"), given_up("l", 2, "too late")];
    let from = async |from, limit| store.given_up_from("l", Position(from), limit).await.expect("reads");
    assert_eq!((from(0, 9).await, from(2, 9).await.len(), from(0, 1).await.len()), (kept.to_vec(), 1, 1));
    assert_eq!(store.given_up_from("m", Position(0), 9).await.expect("reads"), []);
    // A large one, as a key may be.
    let mut large = given_up("l", 4, &"why ".repeat(10_000));
    large.header.key = Some(vec![7; 30_000]);
    let change = CursorChange::GiveUp { given_up: large.clone(), covers: 4..5 };
    request(&*store, vec![], vec![settle("l", change)]).await.expect("gives up");
    drop(store);
    let store = place.open();
    assert_eq!(store.given_up_from("l", Position(4), 9).await.expect("reads"), [large]);
    // Beginning anew, it is owed again what it gave up from there on.
    let reset = CursorChange::Reset { from: Position(2), unasked_below: Position(0) };
    request(&*store, vec![], vec![settle("l", reset)]).await.expect("begins anew");
    assert_eq!(store.given_up_from("l", Position(0), 9).await.expect("reads").len(), 1);
    // The lowest go once there are too many.
    let next = publish(&*store, (0..GivenUp::MOST).map(|_| event("y")).collect()).await[0];
    for some in (next..next + GivenUp::MOST as u64).collect::<Vec<_>>().chunks(64) {
        let settlements = some.iter().map(|position| give_up("l", *position)).collect();
        request(&*store, vec![], settlements).await.expect("gives up");
    }
    let all = store.given_up_from("l", Position(0), usize::MAX).await.expect("reads");
    assert_eq!((all.len(), all[0].position), (GivenUp::MOST, Position(next)));
    drop(store);
    let store = place.open();
    assert_eq!(store.given_up_from("l", Position(0), usize::MAX).await.expect("reads").len(), GivenUp::MOST);
    store.forget("l").await.expect("forgets");
    assert_eq!(store.given_up_from("l", Position(0), 9).await.expect("reads"), []);
}

async fn what_is_known_of_a_listener_lasts_as_long_as_its_cursor<P: Place>() {
    let place = P::new();
    let store = place.open();
    let describe = |listener: &str, record: &ListenerRecord| settle(listener, CursorChange::Describe(record.clone()));
    let mut known = ListenerRecord::new(vec!["old".to_owned()], Position(3));
    request(&*store, vec![], vec![start("l", 3), describe("l", &known), describe("none", &known)])
        .await
        .expect("commits");
    assert_eq!(store.listener_records().await.expect("reads"), [("l".to_owned(), known.clone())]);
    known.paused = Some(Paused { since: Timestamp(4), reason: "a while ".repeat(5_000) });
    request(&*store, vec![], vec![describe("l", &known)]).await.expect("commits");
    drop(store);
    let store = place.open();
    assert_eq!(store.listener_records().await.expect("reads"), [("l".to_owned(), known)]);
    store.forget("l").await.expect("forgets");
    assert_eq!(store.listener_records().await.expect("reads"), []);
}

async fn a_store_that_no_bus_had_is_closed_as_clean_as_it_was_found<P: Place>() {
    let place = P::new();
    let store = place.open();
    assert!(store.claim());
    drop(store);
    for _ in 0..2 {
        let store = place.open();
        assert!(!store.was_clean(), "whoever looks after it in between takes nothing up");
        store.close().await.expect("closes");
    }
    let store = place.open();
    assert!(store.claim());
    store.close().await.expect("closes");
    assert!(place.open().was_clean());
}
