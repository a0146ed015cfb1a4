//! What a store keeps until a time: scheduled events in their order, remembered ids, and when the first of them has come.

use aftercommit::clock::Timestamp;
use aftercommit::store::{CommitRequest, Due, Store, Upcoming};

use crate::place::*;

on_every_store! {
    scheduled_events_stand_by_due_time_and_commit_also_after_reopening
    a_scheduled_event_leaves_once_and_of_two_who_take_it_one_conflicts
    a_savepoint_undoes_what_is_scheduled_taken_and_remembered
    what_moves_into_the_log_is_never_in_both_or_in_none
    an_id_is_remembered_until_it_is_forgotten_also_after_reopening
    of_two_units_that_remember_one_id_one_conflicts
    expired_ids_go_oldest_first_and_a_few_at_a_time
    an_id_that_is_used_anew_is_not_forgotten_for_its_former_time
    upcoming_rings_when_the_first_of_either_changes
    who_only_looked_up_an_id_answers_once_that_survives
}

async fn take(store: &dyn Store, time: u64, body: &str) -> bool {
    let mut unit = begin(store).await;
    let is_there = unit.unschedule(later(time, body).header.metadata.id).await.expect("reads");
    commit(unit).await.expect("commits");
    is_there
}

fn upcoming(due: Option<u64>, expires: Option<u64>) -> Upcoming {
    Upcoming { due: due.map(Timestamp), expires: expires.map(Timestamp) }
}

async fn scheduled_events_stand_by_due_time_and_commit_also_after_reopening<P: Place>() {
    let place = P::new();
    let store = place.open();
    schedule(&*store, vec![later(9, "c"), later(9, vec![4; 30_000]), later(5, "a")]).await;
    schedule(&*store, vec![later(9, "e"), later(5, "b")]).await;
    let order = [(5, 1), (5, 1), (9, 1), (9, 30_000), (9, 1), (9, 1)];
    drop(store);
    let store = place.open();
    schedule(&*store, vec![later(9, "f")]).await;
    let all = scheduled(&*store).await;
    assert_eq!(all.iter().map(|(time, body)| (*time, body.len())).collect::<Vec<_>>(), order);
    assert_eq!((&all[0].1[..], &all[1].1[..], &all[5].1[..]), (&b"a"[..], &b"b"[..], &b"f"[..]));
    // Within limits, from anywhere.
    let first = store.scheduled(Due::default(), 2, usize::MAX).await.expect("reads");
    assert_eq!(first.len(), 2);
    let rest = store.scheduled(first[1].due.next(), 9, 10).await.expect("reads");
    assert_eq!((rest.len(), &rest[0].envelope.body[..]), (1, &b"c"[..]), "one that is too large is left for the next");
    let large = store.scheduled(rest[0].due.next(), 9, 10).await.expect("reads");
    assert_eq!(large[0].envelope.body.len(), 30_000, "at least one");
}

async fn a_scheduled_event_leaves_once_and_of_two_who_take_it_one_conflicts<P: Place>() {
    let place = P::new();
    let store = place.open();
    schedule(&*store, vec![later(9, "a"), later(9, "b"), later(9, vec![4; 30_000])]).await;
    let id = later(9, "a").header.metadata.id;
    let (mut one, mut other) = (begin(&*store).await, begin(&*store).await);
    assert!(one.unschedule(id).await.expect("reads") && other.unschedule(id).await.expect("reads"));
    commit(one).await.expect("the first");
    assert!(is_conflict(&commit(other).await));
    assert!(!take(&*store, 9, "a").await);
    // Pieces go with it.
    let mut unit = begin(&*store).await;
    assert!(unit.unschedule(later(9, vec![4; 30_000]).header.metadata.id).await.expect("reads"));
    commit(unit).await.expect("commits");
    assert_eq!(scheduled(&*store).await, [(9, b"b".to_vec())]);
    store.close().await.expect("closes");
}

async fn a_savepoint_undoes_what_is_scheduled_taken_and_remembered<P: Place>() {
    let place = P::new();
    let store = place.open();
    schedule(&*store, vec![later(9, "stored")]).await;
    let mut unit = begin(&*store).await;
    unit.schedule(later(9, "kept"));
    unit.savepoint().await.expect("sets");
    unit.schedule(later(9, "undone"));
    assert!(unit.unschedule(later(9, "stored").header.metadata.id).await.expect("reads"));
    assert!(unit.unschedule(later(9, "kept").header.metadata.id).await.expect("reads"));
    unit.remember(remembered("scope", b"id", 9)).await.expect("remembers");
    assert!(unit.remembered("scope", b"id").await.expect("reads").is_some(), "a unit sees its own");
    unit.roll_back_to_savepoint().await.expect("undoes");
    assert!(unit.remembered("scope", b"id").await.expect("reads").is_none());
    unit.savepoint().await.expect("sets");
    unit.schedule(later(9, "too"));
    unit.release_savepoint().await.expect("keeps");
    commit(unit).await.expect("commits");
    let bodies: Vec<Vec<u8>> = scheduled(&*store).await.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"stored".to_vec(), b"kept".to_vec(), b"too".to_vec()]);
}

async fn what_moves_into_the_log_is_never_in_both_or_in_none<P: Place>() {
    let place = P::new();
    let store = place.open();
    schedule(&*store, vec![later(9, "moves"), later(9, "refused")]).await;
    let mut unit = begin(&*store).await;
    assert!(unit.unschedule(later(9, "moves").header.metadata.id).await.expect("reads"));
    let mut moved = later(9, "moves");
    moved.header.logged = true;
    unit.commit(CommitRequest { events: vec![moved], ..CommitRequest::default() }).await.expect("commits");
    // One that is refused moves nothing.
    let (mut one, mut other) = (begin(&*store).await, begin(&*store).await);
    for unit in [&mut one, &mut other] {
        assert!(unit.unschedule(later(9, "refused").header.metadata.id).await.expect("reads"));
    }
    commit(one).await.expect("cancelled");
    let refused = other.commit(CommitRequest { events: vec![logged("refused")], ..CommitRequest::default() }).await;
    assert!(is_conflict(&refused));
    drop(store);
    let store = place.open();
    assert!(scheduled(&*store).await.is_empty());
    let bodies: Vec<Vec<u8>> = log(&*store).await.iter().map(|event| event.envelope.body.clone()).collect();
    assert_eq!(bodies, [b"moves".to_vec()]);
}

async fn an_id_is_remembered_until_it_is_forgotten_also_after_reopening<P: Place>() {
    let place = P::new();
    let store = place.open();
    remember(&*store, remembered("a", b"id", 9)).await;
    remember(&*store, remembered("b", &[0xff, 0], 9)).await;
    drop(store);
    let store = place.open();
    let mut unit = begin(&*store).await;
    assert_eq!(unit.remembered("a", b"id").await.expect("reads"), Some(remembered("a", b"id", 9)));
    assert_eq!(unit.remembered("b", &[0xff, 0]).await.expect("reads"), Some(remembered("b", &[0xff, 0], 9)));
    for (scope, id) in [("a", &b"i"[..]), ("b", b"id"), ("", b"a")] {
        assert_eq!(unit.remembered(scope, id).await.expect("reads"), None, "{scope}");
    }
}

async fn of_two_units_that_remember_one_id_one_conflicts<P: Place>() {
    let place = P::new();
    let store = place.open();
    let (mut one, mut other, mut beside) = (begin(&*store).await, begin(&*store).await, begin(&*store).await);
    for unit in [&mut one, &mut other] {
        assert!(unit.remembered("a", b"id").await.expect("reads").is_none());
        unit.remember(remembered("a", b"id", 9)).await.expect("remembers");
    }
    beside.remember(remembered("a", b"other", 9)).await.expect("remembers");
    commit(one).await.expect("the first");
    assert!(is_conflict(&commit(other).await));
    commit(beside).await.expect("another id");
}

async fn expired_ids_go_oldest_first_and_a_few_at_a_time<P: Place>() {
    let place = P::new();
    let store = place.open();
    for number in 0..10u8 {
        remember(&*store, remembered("a", &[number], 20 - u64::from(number))).await;
    }
    let forget = async |now: u64, limit: usize| {
        let mut unit = begin(&*store).await;
        let count = unit.forget_expired(Timestamp(now), limit).await.expect("reads");
        commit(unit).await.expect("commits");
        count
    };
    let there = async || {
        let mut unit = begin(&*store).await;
        let mut there = Vec::new();
        for number in 0..10u8 {
            there.extend(unit.remembered("a", &[number]).await.expect("reads").map(|_| number));
        }
        there
    };
    assert_eq!(forget(10, 9).await, 0);
    assert_eq!(forget(15, 2).await, 2);
    assert_eq!(there().await, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(forget(15, 9).await, 3);
    assert_eq!(there().await, [0, 1, 2, 3, 4]);
    assert_eq!(*store.upcoming().borrow(), upcoming(None, Some(16)));
}

async fn an_id_that_is_used_anew_is_not_forgotten_for_its_former_time<P: Place>() {
    let place = P::new();
    let store = place.open();
    remember(&*store, remembered("a", b"id", 9)).await;
    let mut forgetting = begin(&*store).await;
    assert_eq!(forgetting.forget_expired(Timestamp(9), 9).await.expect("reads"), 1);
    remember(&*store, remembered("a", b"id", 30)).await;
    assert!(is_conflict(&commit(forgetting).await));
    let mut unit = begin(&*store).await;
    assert_eq!(unit.forget_expired(Timestamp(29), 9).await.expect("reads"), 0);
    assert_eq!(unit.remembered("a", b"id").await.expect("reads"), Some(remembered("a", b"id", 30)));
    assert_eq!(*store.upcoming().borrow(), upcoming(None, Some(30)));
}

async fn upcoming_rings_when_the_first_of_either_changes<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut bell = store.upcoming();
    assert_eq!(*bell.borrow_and_update(), Upcoming::default());
    schedule(&*store, vec![later(9, "a")]).await;
    assert_eq!(*bell.borrow_and_update(), upcoming(Some(9), None));
    schedule(&*store, vec![later(12, "later")]).await;
    put(&*store, b"row", b"1").await;
    assert!(!bell.has_changed().expect("open"), "the first is the same");
    remember(&*store, remembered("a", b"id", 7)).await;
    assert_eq!(*bell.borrow_and_update(), upcoming(Some(9), Some(7)));
    assert!(take(&*store, 9, "a").await);
    assert_eq!(*bell.borrow_and_update(), upcoming(Some(12), Some(7)));
    drop((store, bell));
    let store = place.open();
    assert_eq!(*store.upcoming().borrow(), upcoming(Some(12), Some(7)));
}

async fn who_only_looked_up_an_id_answers_once_that_survives<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    assert!(unit.remembered("a", b"id").await.expect("reads").is_none());
    remember(&*store, remembered("a", b"id", 9)).await;
    assert!(is_conflict(&commit(unit).await), "it was told that it is free");
}
