//! How long, and in how much room, events stay that everybody is done with.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::clock::Clock;
use aftercommit::store::embedded::{EmbeddedStore, Limits};
use aftercommit::store::{CursorChange, Position, Retention, Store};
use aftercommit::testing::MovedClock;

use crate::place::*;

/// Publishes an event of so many bytes, which is done at once.
async fn publish_done(store: &dyn Store, clock: &MovedClock, bytes: usize) -> u64 {
    let published = publish(store, vec![timed(event(vec![1; bytes]), clock.now())]).await;
    let covers = settle("l", CursorChange::Skip { covers: 1..published[0] + 1 });
    request(store, vec![], vec![covers]).await.expect("settles");
    published[0]
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn an_idle_store_lets_go_of_what_becomes_of_age() {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("creates");
    let mut limits = Limits::default();
    limits.aging = Duration::from_millis(1);
    let store = EmbeddedStore::threaded(engine, limits).expect("opens");
    let clock = MovedClock::default();
    retain(&store, Retention::keep_for(HOUR), &clock).await;
    request(&store, vec![], vec![start("l", 1)]).await.expect("starts");
    publish_done(&store, &clock, 100).await;
    clock.advance(HOUR / 2);
    embedded(&store).tidy().await.expect("tidies");
    assert_eq!(positions(&store).await, [1]);
    clock.advance(HOUR / 2);
    while !log(&store).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

on_every_store! {
    done_events_stay_their_time_and_no_longer
    done_events_go_before_their_time_when_the_log_is_too_large
    logged_events_stay_for_ever_or_as_long_as_is_said
    a_store_that_was_not_told_what_to_retain_keeps_everything
    what_was_published_in_the_future_goes_once_it_has_been_seen_for_its_time
    a_hold_keeps_what_it_stands_before_until_it_moves_or_goes
    what_would_expire_is_told_without_the_hold_that_keeps_it
    under_steady_load_the_log_stays_as_large_as_retention_says
}

async fn done_events_stay_their_time_and_no_longer<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    retain(&*store, Retention::keep_for(3 * HOUR), &clock).await;
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    for _ in 0..6 {
        publish_done(&*store, &clock, 100).await;
        clock.advance(HOUR);
    }
    publish(&*store, vec![timed(event("owed"), clock.now())]).await;
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [5, 6, 7], "published 2 hours ago, 1 hour ago, and now");
    assert_eq!(store.pruned_to(false), Position(5));
    clock.advance(100 * HOUR);
    drop(store);
    let store = place.open();
    assert_eq!(store.pruned_to(false), Position(5), "known after a restart");
    retain(&*store, Retention::keep_for(3 * HOUR), &clock).await;
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [7], "owed, however old it is");
    request(&*store, vec![], vec![done("l", 7)]).await.expect("settles");
    embedded(&*store).tidy().await.expect("tidies");
    assert!(log(&*store).await.is_empty(), "done, and long past its time");
}

async fn done_events_go_before_their_time_when_the_log_is_too_large<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let mut store = place.open();
    for life in 0..2 {
        retain(&*store, Retention::keep_for(HOUR).at_most(100_000), &clock).await;
        request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
        for number in 0..40 {
            // Large ones lie in pieces, and count as well.
            publish_done(&*store, &clock, if number % 2 == 0 { 15_000 } else { 5_000 }).await;
        }
        embedded(&*store).tidy().await.expect("tidies");
        let bytes: usize = log(&*store).await.iter().map(|event| event.envelope.body.len()).sum();
        assert!((80_000..=100_000).contains(&bytes), "life {life}: {bytes}");
        drop(store);
        store = place.open();
    }
}

async fn logged_events_stay_for_ever_or_as_long_as_is_said<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    retain(&*store, Retention::keep_for(HOUR).at_most(1_000), &clock).await;
    for hour in 0..4 {
        publish(&*store, vec![timed(logged(vec![1; 20_000 * (hour % 2)]), clock.now())]).await;
        publish_done(&*store, &clock, 2_000).await;
        clock.advance(HOUR);
    }
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!((positions(&*store).await, store.pruned_to(true)), (vec![1, 3, 5, 7], Position(0)));
    retain(&*store, Retention::keep_for(HOUR).logged_for(3 * HOUR), &clock).await;
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!((positions(&*store).await, store.pruned_to(true)), (vec![5, 7], Position(4)));
    drop(store);
    let store = place.open();
    assert_eq!(store.pruned_to(true), Position(4));
    request(&*store, vec![], vec![settle("l", CursorChange::Reset { from: Position(5), unasked_below: Position(0) })])
        .await
        .expect("resets");
    clock.advance(10 * HOUR);
    retain(&*store, Retention::delete_when_done().logged_for(HOUR), &clock).await;
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [5, 7], "owed once more");
    request(&*store, vec![], vec![settle("l", CursorChange::Skip { covers: 1..9 })]).await.expect("settles");
    embedded(&*store).tidy().await.expect("tidies");
    assert!(log(&*store).await.is_empty());
    assert!(embedded(&*store).verify().expect("reads").is_whole());
}

async fn a_store_that_was_not_told_what_to_retain_keeps_everything<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    for _ in 0..20 {
        publish_done(&*store, &clock, 3_000).await;
    }
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(log(&*store).await.len(), 20);
}

async fn what_was_published_in_the_future_goes_once_it_has_been_seen_for_its_time<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    retain(&*store, Retention::keep_for(HOUR), &clock).await;
    let ahead = clock.now().saturating_add(1_000_000 * HOUR);
    publish(&*store, vec![timed(event("from a clock that ran ahead"), ahead)]).await;
    publish(&*store, vec![timed(event("behind it"), clock.now())]).await;
    embedded(&*store).tidy().await.expect("tidies");
    clock.advance(HOUR - Duration::from_millis(1));
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [1, 2]);
    clock.advance(Duration::from_millis(1));
    embedded(&*store).tidy().await.expect("tidies");
    assert!(log(&*store).await.is_empty());
}

async fn a_hold_keeps_what_it_stands_before_until_it_moves_or_goes<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    retain(&*store, Retention::delete_when_done(), &clock).await;
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    let hold = embedded(&*store).hold_log(Position(2));
    for _ in 0..5 {
        publish_done(&*store, &clock, 100).await;
    }
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [2, 3, 4, 5]);
    hold.move_to(Position(4));
    hold.move_to(Position(3));
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [4, 5], "it never goes back");
    drop(hold);
    embedded(&*store).tidy().await.expect("tidies");
    assert!(log(&*store).await.is_empty());
}

async fn what_would_expire_is_told_without_the_hold_that_keeps_it<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    let hold = Arc::new(embedded(&*store).hold_log(Position(1)));
    let expired = async |most: usize| {
        let expired = embedded(&*store).expired(hold.clone(), most).await.expect("reads");
        (expired.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), expired.to.0)
    };
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    for _ in 0..5 {
        publish_done(&*store, &clock, 1_000).await;
        clock.advance(HOUR);
    }
    assert_eq!(expired(usize::MAX).await, (vec![], 1), "nobody said what to retain");
    retain(&*store, Retention::keep_for(3 * HOUR), &clock).await;
    publish(&*store, vec![event("owed, and of age")]).await;
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(expired(usize::MAX).await, (vec![1, 2, 3], 4));
    assert_eq!(expired(1_500).await, (vec![1, 2], 3));
    let other = embedded(&*store).hold_log(Position(2));
    assert_eq!(expired(usize::MAX).await, (vec![1], 2));
    drop(other);
    hold.move_to(Position(3));
    clock.advance(100 * HOUR);
    assert_eq!(expired(usize::MAX).await, (vec![3, 4, 5], 6));
    embedded(&*store).tidy().await.expect("tidies");
    assert_eq!(positions(&*store).await, [3, 4, 5, 6]);
}

/// Many rounds of publishing and settling, each an hour long, of which 4 are kept.
async fn under_steady_load_the_log_stays_as_large_as_retention_says<P: Place>() {
    let (place, clock) = (P::new(), MovedClock::default());
    let store = place.open();
    retain(&*store, Retention::keep_for(4 * HOUR), &clock).await;
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    let (per_round, mut entries) = (40, Vec::new());
    for round in 0..60 {
        for number in 0..per_round / 4 {
            let size = if number % 5 == 0 { 12_000 } else { 500 };
            let events = (0..4).map(|_| timed(event(vec![1; size]), clock.now())).collect();
            let published = publish(&*store, events).await;
            let covers = settle("l", CursorChange::Skip { covers: 1..published[3] + 1 });
            request(&*store, vec![], vec![covers]).await.expect("settles");
        }
        clock.advance(HOUR);
        embedded(&*store).tidy().await.expect("tidies");
        let kept = positions(&*store).await;
        let rounds = (round + 1).min(3);
        assert_eq!(kept, ((round + 1 - rounds) * per_round + 1..=(round + 1) * per_round).collect::<Vec<_>>());
        let contents = embedded(&*store).verify().expect("reads").contents;
        entries.push((contents.entries, contents.bytes));
    }
    // Once it has been filled, what the store holds is the same after every round.
    let (first, bytes) = entries[4];
    let is_same = |(now, now_bytes): &(u64, u64)| *now == first && now_bytes.abs_diff(bytes) < 100;
    assert!(entries[4..].iter().all(is_same), "{entries:?}");
}
