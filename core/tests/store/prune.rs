//! The log gives up what nobody is owed, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::store::embedded::{EmbeddedStore, Engine, Limits};
use aftercommit::store::{CommitRequest, CursorChange, Durability, Position};
use futures::executor::block_on;
use proptest::prelude::*;

use crate::place::*;

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<(bool, usize)>),
    Start(u8, u64),
    Settle(u8, u64, u64),
    Forget(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let listener = 0..3u8;
    let size = prop_oneof![4 => 0..300usize, 1 => 5_000..30_000usize];
    let logged = prop::bool::weighted(0.02);
    prop_oneof![
        6 => prop::collection::vec((logged, size), 0..12).prop_map(Step::Publish),
        1 => (listener.clone(), 1..60u64).prop_map(|(listener, from)| Step::Start(listener, from)),
        8 => (listener.clone(), 1..120u64, 1..40u64).prop_map(|(listener, from, count)| Step::Settle(listener, from, count)),
        1 => listener.prop_map(Step::Forget),
        1 => Just(Step::Reopen),
    ]
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A plain log: every event, and what each listener has settled.
#[derive(Default)]
struct Plain {
    log: BTreeMap<u64, (bool, usize)>,
    /// Whether each position from 1 on is settled.
    listeners: BTreeMap<u8, Vec<bool>>,
}

impl Plain {
    fn is_owed(&self, position: u64) -> bool {
        self.listeners.values().any(|done| !done.get(position as usize).copied().unwrap_or(false))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn nothing_owed_or_kept_is_ever_pruned(steps in prop::collection::vec(step(), 0..60)) {
        let place = InMemory::new();
        let mut store = place.open();
        let mut plain = Plain::default();
        let mut first = 1;
        for step in steps {
            match step {
                Step::Publish(events) => {
                    let envelopes = events.iter().map(|(keep, size)| if *keep { logged(vec![1; *size]) } else { event(vec![1; *size]) });
                    let positions = block_on(publish(&*store, envelopes.collect()));
                    prop_assert!(positions.first().is_none_or(|position| *position >= first));
                    first = positions.last().map_or(first, |last| last + 1);
                    plain.log.extend(positions.into_iter().zip(events));
                }
                Step::Start(who, from) => {
                    block_on(request(&*store, vec![], vec![start(NAMES[who as usize], from)])).expect("starts");
                    plain.listeners.entry(who).or_insert_with(|| vec![true; from as usize]);
                }
                Step::Settle(who, from, count) => {
                    let covers = settle(NAMES[who as usize], CursorChange::Skip { covers: from..from + count });
                    block_on(request(&*store, vec![], vec![covers])).expect("settles");
                    if let Some(done) = plain.listeners.get_mut(&who) {
                        let end = (from + count) as usize;
                        done.resize(done.len().max(end), false);
                        done[from as usize..end].fill(true);
                    }
                }
                Step::Forget(who) => {
                    block_on(store.forget(NAMES[who as usize])).expect("forgets");
                    plain.listeners.remove(&who);
                }
                Step::Reopen => {
                    drop(store);
                    store = place.open();
                }
            }
            let left = block_on(log(&*store));
            let left: BTreeMap<u64, _> = left.iter().map(|event| (event.position.0, event)).collect();
            // Whatever went in this step was owed to nobody by then; a listener that starts later cannot be owed it.
            let went: Vec<u64> = plain.log.keys().filter(|position| !left.contains_key(position)).copied().collect();
            for position in went {
                prop_assert!(!plain.is_owed(position), "{} was owed", position);
                let (kept, _) = plain.log.remove(&position).expect("listed");
                prop_assert!(!kept, "{} was to be kept", position);
            }
            for (position, (_, size)) in &plain.log {
                prop_assert_eq!(left[position].envelope.body.len(), *size);
            }
            for position in 1..first + 2 {
                // Reading goes on wherever it stands, also in a gap.
                let next = block_on(store.read_log(Position(position), 1, 1)).expect("reads");
                let expected = left.range(position..).next().map(|(at, _)| *at);
                prop_assert_eq!(next.first().map(|event| event.position.0), expected);
                let single = block_on(store.read_event(Position(position))).expect("reads");
                prop_assert_eq!(single.is_some(), left.contains_key(&position));
            }
        }
    }
}

#[tokio::test]
async fn what_everybody_has_settled_is_gone_soon() {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("creates");
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    request(&store, vec![], vec![start("l", 1)]).await.expect("starts");
    let entries = || engine.scan(&[]..&[0xff], Default::default(), usize::MAX).expect("scans").len();
    let before = entries();
    for round in 0..200u64 {
        publish(&store, vec![event(vec![1; 300]), event(vec![2; 20_000])]).await;
        let covers = settle("l", CursorChange::Skip { covers: 1..round * 2 + 3 });
        request(&store, vec![], vec![covers]).await.expect("settles");
        // The log's ends take one entry; what was just settled waits for the next commits.
        assert!(entries() < before + 40, "round {round}: {} entries", entries());
    }
    for _ in 0..5 {
        request(&store, vec![], vec![settle("l", CursorChange::Skip { covers: 1..500 })]).await.expect("settles");
    }
    assert_eq!(entries(), before + 1);
    assert_eq!(publish(&store, vec![event("next")]).await, [401]);
}

#[tokio::test]
async fn a_committing_thread_prunes_on_while_nothing_is_committed() {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("creates");
    let store = EmbeddedStore::threaded(engine.clone(), Limits::default()).expect("opens");
    request(&store, vec![], vec![start("l", 1)]).await.expect("starts");
    for _ in 0..20 {
        publish(&store, (0..20).map(|_| event(vec![1; 2_000])).collect()).await;
    }
    let covers = settle("l", CursorChange::Skip { covers: 1..500 });
    let request =
        CommitRequest { durability: Durability::Buffered, settlements: vec![covers], ..CommitRequest::default() };
    begin(&store).await.commit(request).await.expect("settles");
    while !log(&store).await.is_empty() {
        std::thread::yield_now();
    }
}

on_every_disk! {
    a_reader_sees_every_event_in_order_while_the_log_grows_and_is_pruned_behind_it
}

async fn a_reader_sees_every_event_in_order_while_the_log_grows_and_is_pruned_behind_it<P: Place>() {
    let place = P::new();
    let store = place.open();
    request(&*store, vec![], vec![start("l", 1)]).await.expect("starts");
    let last = 3_000;
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            for number in 1..=last / 3 {
                let size = if number % 50 == 0 { 30_000 } else { 200 };
                let events = (0..3).map(|_| event(vec![1; size])).collect();
                let request = CommitRequest { durability: Durability::Buffered, events, settlements: vec![] };
                block_on(block_on(begin(&*store)).commit(request)).expect("commits");
            }
        })
    };
    let mut next = 1;
    while next <= last {
        for event in store.read_log(Position(next), 7, 50_000).await.expect("reads") {
            assert_eq!(event.position.0, next);
            next += 1;
        }
        let covers = settle("l", CursorChange::Skip { covers: 1..next });
        request(&*store, vec![], vec![covers]).await.expect("settles");
    }
    writer.join().expect("no panic");
    while !log(&*store).await.is_empty() {
        tokio::task::yield_now().await;
    }
}
