//! Promises of every embedded store, each checked on every one of them.

use std::ops::Bound;
use std::sync::Arc;

use aftercommit::clock::Timestamp;
use aftercommit::error::{Error, StoreError, UnitError};
use aftercommit::store::{
    CommitError, CommitRequest, Cursor, CursorChange, Direction, Durability, Parked, ParkedCause, Position, Redelivery,
    Row, TableSpec, Takes,
};

use crate::place::*;

on_every_store! {
    a_unit_sees_its_own_writes_and_nobody_else_does_before_the_commit
    a_dropped_unit_leaves_nothing
    a_unit_conflicts_when_a_row_it_read_was_written
    a_unit_conflicts_when_a_row_appeared_in_a_range_it_read
    a_limited_scan_covers_only_what_it_returned
    a_unit_that_reads_after_another_committed_does_not_conflict_with_it
    a_read_only_unit_conflicts_too
    blind_writes_and_additions_never_conflict
    validation_answers_before_the_commit
    a_broken_floor_refuses_the_unit_and_nothing_else
    a_cell_never_leaves_its_range
    additions_are_seen_by_the_unit_itself
    a_savepoint_undoes_rows_only_up_to_itself
    positions_ascend_and_the_log_is_read_within_limits
    events_of_some_names_are_read_without_the_others_and_none_is_missed
    the_doorbell_rings_with_the_last_position
    a_settled_delivery_is_never_settled_again
    a_listener_starts_once
    what_a_listener_takes_stays_with_its_cursor_and_what_it_took_until_it_begins_anew
    parked_events_outlive_the_log_and_come_in_the_order_they_were_parked
    redeliveries_last_until_they_are_settled
    a_refused_unit_leaves_no_trace
    everything_is_there_after_reopening
    suspects_are_known_after_a_crash
    a_forgotten_listener_leaves_nothing_and_is_owed_nothing
    a_closed_store_answers_closed_and_was_clean
    a_table_of_another_shape_is_refused_after_reopening_too
    large_rows_and_events_come_back_whole_and_go_when_replaced
    a_unit_that_is_too_large_is_refused_with_its_size
    a_commit_future_decides_nothing_after_its_first_poll
    a_commit_future_that_is_never_polled_commits_nothing
}

async fn a_unit_sees_its_own_writes_and_nobody_else_does_before_the_commit<P: Place>() {
    let place = P::new();
    let store = place.open();
    put(&*store, b"b", b"1").await;
    let mut unit = begin(&*store).await;
    let rows = unit.rows().expect("rows");
    rows.put(&ROWS, b"a".to_vec(), b"2".to_vec()).expect("puts");
    rows.remove(&ROWS, b"b".to_vec()).expect("removes");
    assert_eq!(rows.get(&ROWS, b"a").expect("reads"), Some(b"2".to_vec()));
    assert_eq!(rows.get(&ROWS, b"b").expect("reads"), None);
    assert_eq!(rows.get(&OTHER, b"a").expect("reads"), None);
    assert_eq!((get(&*store, b"a"), get(&*store, b"b")), (None, Some(b"1".to_vec())));
    commit(unit).await.expect("commits");
    assert_eq!((get(&*store, b"a"), get(&*store, b"b")), (Some(b"2".to_vec()), None));
}

async fn a_dropped_unit_leaves_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    unit.rows().expect("rows").put(&ROWS, b"a".to_vec(), b"1".to_vec()).expect("puts");
    assert!(unit.weight() > 0);
    drop(unit);
    let mut unit = begin(&*store).await;
    unit.rows().expect("rows").put(&ROWS, b"a".to_vec(), b"1".to_vec()).expect("puts");
    unit.roll_back().await.expect("rolls back");
    assert_eq!(get(&*store, b"a"), None);
}

async fn a_unit_conflicts_when_a_row_it_read_was_written<P: Place>() {
    let place = P::new();
    let store = place.open();
    put(&*store, b"a", b"1").await;
    let mut unit = begin(&*store).await;
    assert_eq!(unit.rows().expect("rows").get(&ROWS, b"a").expect("reads"), Some(b"1".to_vec()));
    unit.rows().expect("rows").put(&ROWS, b"z".to_vec(), b"1".to_vec()).expect("puts");
    put(&*store, b"a", b"2").await;
    assert!(is_conflict(&commit(unit).await));
    assert_eq!(get(&*store, b"z"), None);
}

async fn a_unit_conflicts_when_a_row_appeared_in_a_range_it_read<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    let rows = unit.rows().expect("rows");
    let range = (Bound::Included(b"a".to_vec()), Bound::Excluded(b"c".to_vec()));
    assert_eq!(rows.scan(&ROWS, range, Direction::Backward, 9).expect("scans"), Vec::<Row>::new());
    rows.put(&ROWS, b"z".to_vec(), b"1".to_vec()).expect("puts");
    put(&*store, b"b", b"1").await;
    assert!(is_conflict(&commit(unit).await));
}

async fn a_limited_scan_covers_only_what_it_returned<P: Place>() {
    let place = P::new();
    let store = place.open();
    for key in [b"b", b"d", b"f", b"h"] {
        put(&*store, key, b"1").await;
    }
    for (direction, returned, untouched, touched) in
        [(Direction::Forward, [b"b", b"d"], b"e", b"c"), (Direction::Backward, [b"h", b"f"], b"e", b"g")]
    {
        for (written, conflicts) in [(untouched, false), (touched, true)] {
            let mut unit = begin(&*store).await;
            let rows = unit.rows().expect("rows");
            let seen = rows.scan(&ROWS, (Bound::Unbounded, Bound::Unbounded), direction, 2).expect("scans");
            assert_eq!(seen.iter().map(|row| &row.0[..]).collect::<Vec<_>>(), returned);
            rows.put(&OTHER, b"z".to_vec(), b"1".to_vec()).expect("puts");
            put(&*store, written, b"1").await;
            assert_eq!(is_conflict(&commit(unit).await), conflicts, "{direction:?} {written:?}");
            let mut unit = begin(&*store).await;
            unit.rows().expect("rows").remove(&ROWS, written.to_vec()).expect("removes");
            commit(unit).await.expect("commits");
        }
    }
}

async fn a_unit_that_reads_after_another_committed_does_not_conflict_with_it<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    put(&*store, b"a", b"1").await;
    assert_eq!(unit.rows().expect("rows").get(&ROWS, b"a").expect("reads"), Some(b"1".to_vec()));
    unit.rows().expect("rows").put(&ROWS, b"a".to_vec(), b"2".to_vec()).expect("puts");
    commit(unit).await.expect("nothing was written since it read");
}

async fn a_read_only_unit_conflicts_too<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut stale = begin(&*store).await;
    stale.rows().expect("rows").get(&ROWS, b"a").expect("reads");
    let mut beside = begin(&*store).await;
    beside.rows().expect("rows").get(&ROWS, b"b").expect("reads");
    put(&*store, b"a", b"1").await;
    assert!(is_conflict(&commit(stale).await));
    commit(beside).await.expect("what it read stands");
}

async fn blind_writes_and_additions_never_conflict<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut units = Vec::new();
    for _ in 0..5 {
        let mut unit = begin(&*store).await;
        unit.rows().expect("rows").add(&ROWS, b"n".to_vec(), 2, None).expect("adds");
        unit.rows().expect("rows").put(&ROWS, b"a".to_vec(), b"1".to_vec()).expect("puts");
        units.push(unit);
    }
    for unit in units {
        commit(unit).await.expect("commits");
    }
    assert_eq!(cell(&*store, b"n"), Some(10));
}

async fn validation_answers_before_the_commit<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    unit.rows().expect("rows").get(&ROWS, b"a").expect("reads");
    unit.validate().await.expect("stands");
    put(&*store, b"a", b"1").await;
    assert!(matches!(unit.validate().await, Err(CommitError::Refused(error)) if error.is_conflict()));
}

async fn a_broken_floor_refuses_the_unit_and_nothing_else<P: Place>() {
    let place = P::new();
    let store = place.open();
    let take = async |count: i64| {
        let mut unit = begin(&*store).await;
        unit.rows().expect("rows").add(&ROWS, b"stock".to_vec(), -count, Some(0)).expect("adds");
        commit(unit).await
    };
    let mut unit = begin(&*store).await;
    unit.rows().expect("rows").add(&ROWS, b"stock".to_vec(), 3, None).expect("adds");
    commit(unit).await.expect("commits");
    take(2).await.expect("enough");
    let refused = take(2).await;
    assert!(matches!(
        refused,
        Err(CommitError::Refused(Error::Unit(UnitError::BelowFloor { value: 1, delta: -2, floor: 0, table, key })))
            if table == ROWS.name && key == "0x73746f636b"
    ));
    take(1).await.expect("enough");
    assert_eq!(cell(&*store, b"stock"), Some(0));
}

async fn a_cell_never_leaves_its_range<P: Place>() {
    let place = P::new();
    let store = place.open();
    for (delta, fits) in [(i64::MAX, true), (1, false), (-1, true), (1, true)] {
        let mut unit = begin(&*store).await;
        unit.rows().expect("rows").add(&ROWS, b"n".to_vec(), delta, None).expect("adds");
        let outcome = commit(unit).await;
        let overflows = matches!(outcome, Err(CommitError::Refused(Error::Store(StoreError::Overflow { .. }))));
        assert_eq!((outcome.is_ok(), overflows), (fits, !fits));
    }
    put(&*store, b"text", b"no cell").await;
    let mut unit = begin(&*store).await;
    unit.rows().expect("rows").add(&ROWS, b"text".to_vec(), 1, None).expect("not read yet");
    let refused = commit(unit).await;
    assert!(matches!(refused, Err(CommitError::Refused(Error::Store(StoreError::Value { .. })))));
}

async fn additions_are_seen_by_the_unit_itself<P: Place>() {
    let place = P::new();
    let store = place.open();
    put(&*store, b"n", &5i64.to_be_bytes()).await;
    let mut unit = begin(&*store).await;
    let rows = unit.rows().expect("rows");
    rows.add(&ROWS, b"n".to_vec(), 2, None).expect("adds");
    rows.add(&ROWS, b"new".to_vec(), 3, None).expect("adds");
    assert_eq!(rows.get(&ROWS, b"n").expect("reads"), Some(7i64.to_be_bytes().to_vec()));
    let all = rows.scan(&ROWS, (Bound::Unbounded, Bound::Unbounded), Direction::Backward, 9).expect("scans");
    assert_eq!(all, [(b"new".to_vec(), 3i64.to_be_bytes().to_vec()), (b"n".to_vec(), 7i64.to_be_bytes().to_vec())]);
    // It has read the cell, so another addition is now a conflict.
    let mut other = begin(&*store).await;
    other.rows().expect("rows").add(&ROWS, b"n".to_vec(), 1, None).expect("adds");
    commit(other).await.expect("commits");
    assert!(is_conflict(&commit(unit).await));
}

async fn a_savepoint_undoes_rows_only_up_to_itself<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    let row = |key: &[u8]| (key.to_vec(), b"1".to_vec());
    let (key, value) = row(b"a");
    unit.rows().expect("rows").put(&ROWS, key, value).expect("puts");
    unit.savepoint().await.expect("savepoint");
    let (key, value) = row(b"b");
    unit.rows().expect("rows").put(&ROWS, key, value).expect("puts");
    unit.savepoint().await.expect("savepoint");
    unit.rows().expect("rows").remove(&ROWS, b"a".to_vec()).expect("removes");
    unit.roll_back_to_savepoint().await.expect("rolls back");
    assert_eq!(unit.rows().expect("rows").get(&ROWS, b"a").expect("reads"), Some(b"1".to_vec()));
    unit.savepoint().await.expect("savepoint");
    let (key, value) = row(b"c");
    unit.rows().expect("rows").put(&ROWS, key, value).expect("puts");
    unit.release_savepoint().await.expect("releases");
    unit.roll_back_to_savepoint().await.expect("rolls back");
    commit(unit).await.expect("commits");
    assert_eq!((get(&*store, b"a"), get(&*store, b"b"), get(&*store, b"c")), (Some(b"1".to_vec()), None, None));
}

async fn positions_ascend_and_the_log_is_read_within_limits<P: Place>() {
    let place = P::new();
    let store = place.open();
    // Somebody is owed everything, so that nothing is pruned.
    request(&*store, vec![], vec![start("l", 1)]).await.expect("commits");
    let mut expected = Vec::new();
    for round in 0..20u8 {
        let events = (0..round % 5 * 7).map(|number| event(vec![round; 100 * usize::from(number)])).collect();
        expected.extend(publish(&*store, events).await);
    }
    assert!(expected.is_sorted() && expected[0] == 1);
    assert_eq!(positions(&*store).await, expected);
    for (at, position) in expected.iter().enumerate() {
        let read = store.read_log(Position(*position), 3, usize::MAX).await.expect("reads");
        let read: Vec<u64> = read.iter().map(|event| event.position.0).collect();
        assert_eq!(read, expected[at..(at + 3).min(expected.len())]);
        let one = store.read_log(Position(*position), 9, 1).await.expect("reads");
        assert_eq!(one.len(), 1, "at least one, however large");
        let single = store.read_event(Position(*position)).await.expect("reads").expect("is there");
        assert_eq!(single.envelope, one[0].envelope);
    }
    let end = expected.last().expect("some") + 1;
    assert!(store.read_log(Position(end), 9, 9_999).await.expect("reads").is_empty());
    assert!(store.read_event(Position(end)).await.expect("reads").is_none());
}

async fn events_of_some_names_are_read_without_the_others_and_none_is_missed<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![], vec![start("l", 1)]).await.expect("commits");
    let mut wanted = Vec::new();
    for round in 0..12u8 {
        let events: Vec<_> = (0..30u8)
            .map(|number| {
                // Some lie in pieces of their own.
                let size = if number == 7 { 30_000 } else { usize::from(number) };
                let mut event = event(vec![round; size]);
                event.header.name = ["mine", "mine.too", "theirs"][usize::from((round + number) % 7).min(2)].to_owned();
                event
            })
            .collect();
        let names: Vec<String> = events.iter().map(|event| event.header.name.clone()).collect();
        let positions = publish(&*store, events).await;
        wanted.extend(positions.into_iter().zip(names).filter(|(_, name)| name != "theirs").map(|(at, _)| at));
    }
    let names = ["mine".to_owned(), "mine.too".to_owned()];
    for (most, bytes) in [(usize::MAX, usize::MAX), (5, usize::MAX), (1, 1), (9, 700), (usize::MAX, 9_000)] {
        let (mut next, mut found) = (Position(1), Vec::new());
        while next <= *store.delivered_up_to().borrow() {
            let page = store.read_log_of(&names, next, most, bytes).await.expect("reads");
            assert!(page.next > next && page.events.len() <= most);
            found.extend(page.events.iter().map(|event| event.position.0));
            assert!(found.last().is_none_or(|last| *last < page.next.0));
            next = page.next;
        }
        assert_eq!(found, wanted, "{most} events, {bytes} bytes");
    }
}

async fn the_doorbell_rings_with_the_last_position<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut bell = store.delivered_up_to();
    assert_eq!(*bell.borrow_and_update(), Position(0));
    for (durability, last) in [(Durability::Buffered, 2), (Durability::Flush, 4), (Durability::Sync, 6)] {
        let events = vec![event("a"), event("b")];
        let request = CommitRequest { durability, events, settlements: Vec::new() };
        let receipt = begin(&*store).await.commit(request).await.expect("commits");
        assert_eq!(receipt.positions.last(), Some(&Position(last)));
        assert_eq!(*bell.wait_for(|position| position.0 >= last).await.expect("rings"), Position(last));
    }
}

async fn a_settled_delivery_is_never_settled_again<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![event("a"), event("b")], vec![start("l", 1), start("m", 1)]).await.expect("commits");
    request(&*store, vec![], vec![done("l", 2)]).await.expect("settles");
    assert!(is_settled(&request(&*store, vec![], vec![done("l", 2)]).await, 2));
    request(&*store, vec![], vec![done("m", 2)]).await.expect("another listener");
    assert!(is_settled(&request(&*store, vec![], vec![done("l", 1), done("l", 1)]).await, 1));
    request(&*store, vec![], vec![done("l", 1)]).await.expect("the refused one left nothing");
    let cursors = store.cursors().await.expect("reads");
    let mut waits = Cursor::at(1);
    waits.settle(2..3);
    assert_eq!(cursors, [("l".to_owned(), Cursor::at(3)), ("m".to_owned(), waits)]);
}

async fn a_listener_starts_once<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![], vec![start("l", 5)]).await.expect("starts");
    request(&*store, vec![], vec![start("l", 1)]).await.expect("does nothing");
    let covers = settle("l", CursorChange::Skip { covers: 5..9 });
    request(&*store, vec![], vec![covers]).await.expect("skips");
    assert_eq!(store.cursors().await.expect("reads"), [("l".to_owned(), Cursor::at(9))]);
}

async fn what_a_listener_takes_stays_with_its_cursor_and_what_it_took_until_it_begins_anew<P: Place>() {
    let place = P::new();
    let store = place.open();
    let takes =
        Takes::default().changed_to(["a"], Position(1), Position(1)).changed_to(["b"], Position(1), Position(7));
    let changes = [CursorChange::Takes(Arc::new(takes.clone())), CursorChange::Skip { covers: 0..3 }];
    request(&*store, vec![], vec![settle("l", changes[0].clone())]).await.expect("is of nobody");
    assert!(store.cursors().await.expect("reads").is_empty());
    let steps = [start("l", 1)].into_iter().chain(changes.map(|change| settle("l", change))).collect();
    request(&*store, vec![], steps).await.expect("starts");
    store.close().await.expect("closes");
    let store = place.open();
    let known = |takes: Takes, low| [("l".to_owned(), Cursor::at(low).taking(Arc::new(takes)))];
    assert_eq!(store.cursors().await.expect("reads"), known(takes.clone(), 3));
    let reset = CursorChange::Reset { from: Position(1), unasked_below: Position(1) };
    request(&*store, vec![], vec![settle("l", reset)]).await.expect("begins anew");
    assert_eq!(store.cursors().await.expect("reads"), known(takes.anew(), 1));
}

fn parked(listener: &str, position: u64, body: &[u8]) -> Parked {
    Parked {
        listener: listener.to_owned(),
        position: Position(position),
        attempts: 3,
        cause: ParkedCause::Failed("no".to_owned()),
        parked_at: Timestamp(9),
        asked: None,
        envelope: event(body),
    }
}

pub(crate) fn park(listener: &str, position: u64) -> aftercommit::store::Settlement {
    let parked = parked(listener, position, &[7; 20_000]);
    settle(listener, CursorChange::Park { parked, covers: position..position + 1 })
}

async fn parked_events_outlive_the_log_and_come_in_the_order_they_were_parked<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![event("a"), event("b"), event("c")], vec![start("l", 1), start("b", 1)])
        .await
        .expect("starts");
    for position in [3, 1] {
        request(&*store, vec![], vec![park("l", position)]).await.expect("parks");
        assert!(is_settled(&request(&*store, vec![], vec![park("l", position)]).await, position));
    }
    request(&*store, vec![], vec![park("b", 2)]).await.expect("parks");
    let order = |parked: Vec<Parked>| parked.into_iter().map(|one| (one.listener, one.position.0)).collect::<Vec<_>>();
    let l = "l".to_owned();
    assert_eq!(order(store.parked(Some("l")).await.expect("reads")), [(l.clone(), 3), (l.clone(), 1)]);
    assert_eq!(order(store.parked(None).await.expect("reads")), [("b".to_owned(), 2), (l.clone(), 3), (l.clone(), 1)]);

    let still = Parked { cause: ParkedCause::Behind(Position(1)), ..parked("l", 3, b"x") };
    request(&*store, vec![], vec![settle("l", CursorChange::StillParked(still.clone()))]).await.expect("stays");
    drop(store);
    let store = place.open();
    assert_eq!(store.parked(Some("l")).await.expect("reads"), [still, parked("l", 1, &[7; 20_000])]);
    let resolved = |at| vec![settle("l", CursorChange::Resolved { position: Position(at) })];
    request(&*store, vec![], resolved(3)).await.expect("resolves");
    assert!(is_settled(&request(&*store, vec![], resolved(3)).await, 3));
    assert_eq!(order(store.parked(Some("l")).await.expect("reads")), [(l, 1)]);
}

async fn redeliveries_last_until_they_are_settled<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![event("a"), event("b")], vec![start("l", 1)]).await.expect("starts");
    let waits = |attempts, position| Redelivery {
        position: Position(position),
        attempts,
        due: Timestamp(5),
        error: "no".to_owned(),
        failed_at: Timestamp(4),
        first_failed_at: Timestamp(2),
        counted: attempts,
        kind: Some("a kind".to_owned()),
    };
    for (attempts, position) in [(1, 2), (1, 1), (2, 2)] {
        let change = CursorChange::Redeliver(waits(attempts, position));
        request(&*store, vec![], vec![settle("l", change)]).await.expect("commits");
    }
    assert_eq!(store.redeliveries("l").await.expect("reads"), [waits(1, 1), waits(2, 2)]);
    assert_eq!(store.redeliveries("m").await.expect("reads"), []);
    request(&*store, vec![], vec![done("l", 1)]).await.expect("settles");
    drop(store);
    let store = place.open();
    assert_eq!(store.redeliveries("l").await.expect("reads"), [waits(2, 2)]);
    request(&*store, vec![], vec![park("l", 2)]).await.expect("parks");
    assert_eq!(store.redeliveries("l").await.expect("reads"), []);
}

async fn a_refused_unit_leaves_no_trace<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![event("a")], vec![start("l", 1)]).await.expect("starts");
    request(&*store, vec![], vec![done("l", 1)]).await.expect("settles");
    let mut unit = begin(&*store).await;
    unit.rows().expect("rows").put(&OTHER, b"a".to_vec(), vec![1; 50_000]).expect("puts");
    let refused = unit
        .commit(CommitRequest {
            durability: Durability::Sync,
            events: vec![event(vec![2; 50_000])],
            settlements: vec![start("n", 1), park("n", 1), done("l", 1)],
        })
        .await;
    assert!(is_settled(&refused, 1));
    assert_eq!(store.reader().expect("reader").get(&OTHER, b"a").expect("reads"), None);
    assert_eq!(store.cursors().await.expect("reads"), [("l".to_owned(), Cursor::at(2))]);
    assert_eq!(store.parked(None).await.expect("reads"), []);
    assert_eq!(publish(&*store, vec![event("b")]).await, [2]);
}

async fn everything_is_there_after_reopening<P: Place>() {
    let place = P::new();
    let store = place.open();
    assert!(store.was_clean(), "a new store");
    put(&*store, b"a", b"1").await;
    request(&*store, vec![event("a"), event("b")], vec![start("l", 1)]).await.expect("commits");
    store.close().await.expect("closes");
    drop(store);
    for round in 0..3 {
        let store = place.open();
        assert_eq!(store.was_clean(), round == 0);
        assert_eq!(*store.delivered_up_to().borrow(), Position(2 + round));
        assert_eq!(get(&*store, b"a"), Some(b"1".to_vec()));
        assert_eq!(store.cursors().await.expect("reads"), [("l".to_owned(), Cursor::at(1))]);
        assert_eq!(publish(&*store, vec![event("c")]).await, [3 + round]);
        assert_eq!(positions(&*store).await, (1..=3 + round).collect::<Vec<_>>());
    }
}

async fn suspects_are_known_after_a_crash<P: Place>() {
    let place = P::new();
    let store = place.open();
    assert_eq!(store.suspects().await.expect("reads"), []);
    let suspect = |position, count| settle("l", CursorChange::Suspect { position: Position(position), count });
    request(&*store, vec![event("a"), event("b"), event("c")], vec![start("l", 1)]).await.expect("starts");
    request(&*store, vec![], vec![suspect(1, 1), suspect(2, 4), suspect(3, 1)]).await.expect("marks");
    let cleared = settle("l", CursorChange::Cleared { position: Position(1) });
    request(&*store, vec![], vec![cleared, done("l", 3)]).await.expect("clears");
    drop(store);
    let store = place.open();
    let found = store.suspects().await.expect("reads");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].listener[..], found[0].position, found[0].count), ("l", Position(2), 4));
}

async fn a_forgotten_listener_leaves_nothing_and_is_owed_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![event("a"), event("b")], vec![start("l", 1), start("ll", 1)]).await.expect("starts");
    request(&*store, vec![], vec![park("l", 1), park("ll", 1)]).await.expect("parks");
    store.forget("l").await.expect("forgets");
    assert!(is_settled(&request(&*store, vec![], vec![done("l", 2)]).await, 2));
    let skip = settle("l", CursorChange::Skip { covers: 2..3 });
    request(&*store, vec![], vec![skip]).await.expect("does nothing");
    for _ in 0..2 {
        let names: Vec<String> = store.cursors().await.expect("reads").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ll"]);
        assert_eq!(store.parked(None).await.expect("reads").len(), 1);
    }
    drop(store);
    let store = place.open();
    assert_eq!(store.cursors().await.expect("reads").len(), 1);
    assert_eq!(store.parked(Some("l")).await.expect("reads"), []);
}

async fn a_closed_store_answers_closed_and_was_clean<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut open = begin(&*store).await;
    store.close().await.expect("closes");
    assert!(is_closed(store.close().await));
    assert!(is_closed(store.begin().await));
    assert!(is_closed(store.reader().map(drop)));
    assert!(is_closed(store.cursors().await));
    assert!(is_closed(open.rows().expect("rows").get(&ROWS, b"a")));
    assert!(matches!(
        open.commit(CommitRequest::default()).await,
        Err(CommitError::Refused(Error::Store(StoreError::Closed)))
    ));
    assert!(store.poisoned().is_none());
    drop(store);
    assert!(place.open().was_clean());
}

async fn a_table_of_another_shape_is_refused_after_reopening_too<P: Place>() {
    let place = P::new();
    let store = place.open();
    put(&*store, b"a", b"1").await;
    drop(store);
    let store = place.open();
    let used = TableSpec { shape: || "cells(u64)".to_owned(), ..ROWS };
    let refused = store.reader().expect("reader").get(&used, b"a");
    assert!(matches!(refused, Err(StoreError::TableMismatch { table, held, used })
        if table == ROWS.name && held == "rows(bytes -> bytes)" && used == "cells(u64)"));
    let renamed = TableSpec { formerly: &["rows(bytes -> bytes)"], ..used };
    assert_eq!(store.reader().expect("reader").get(&renamed, b"a").expect("taken over"), Some(b"1".to_vec()));
}

async fn large_rows_and_events_come_back_whole_and_go_when_replaced<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    let row: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_be_bytes).collect();
    let body: Vec<u8> = (0..3u32 << 18).flat_map(|number| (number ^ 0x5555).to_be_bytes()).collect();
    put(&*store, b"a", &row).await;
    assert_eq!(publish(&*store, vec![event("small"), event(body.clone()), event("small")]).await, [1, 2, 3]);
    drop(store);
    let store = place.open();
    assert_eq!(get(&*store, b"a"), Some(row.clone()));
    let mut unit = begin(&*store).await;
    let all = unit.rows().expect("rows").scan(&ROWS, (Bound::Unbounded, Bound::Unbounded), Direction::Forward, 5);
    assert_eq!(all.expect("scans"), [(b"a".to_vec(), row)]);
    let log = log(&*store).await;
    assert_eq!(log.iter().map(|event| event.position.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(log[1].envelope.body, body);
    put(&*store, b"a", b"small").await;
    assert_eq!(get(&*store, b"a"), Some(b"small".to_vec()));
    let one = store.read_log(Position(2), 9, 1_000).await.expect("reads");
    assert_eq!(one.len(), 1);
}

async fn a_unit_that_is_too_large_is_refused_with_its_size<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    let count = P::UNIT_BYTES / 1024 + 88;
    for number in 0..count as u64 {
        unit.rows().expect("rows").put(&ROWS, number.to_be_bytes().to_vec(), vec![1]).expect("puts");
    }
    let refused = commit(unit).await;
    let Err(CommitError::Refused(Error::Unit(UnitError::TooManyWrites { entries, bytes, limit }))) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((entries, bytes, limit), (count, count * 1024, P::UNIT_BYTES));
    assert!(store.poisoned().is_none());
}

async fn a_commit_future_decides_nothing_after_its_first_poll<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut bell = store.delivered_up_to();
    let count = 50;
    for _ in 0..count {
        let unit = begin(&*store).await;
        let request = CommitRequest { events: vec![logged("a")], ..CommitRequest::default() };
        let mut commit = unit.commit(request);
        let _ = futures::poll!(&mut commit);
    }
    bell.wait_for(|position| position.0 >= count).await.expect("rings");
    assert_eq!(positions(&*store).await.len(), 50);
}

async fn a_commit_future_that_is_never_polled_commits_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    drop(begin(&*store).await.commit(CommitRequest { events: vec![event("a")], ..CommitRequest::default() }));
    assert_eq!(publish(&*store, vec![event("b")]).await, [1]);
}
