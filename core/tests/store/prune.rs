//! The log gives up what retention lets go of, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::clock::{Clock, Timestamp};
use aftercommit::store::embedded::{EmbeddedStore, Engine, Limits};
use aftercommit::store::{CommitRequest, CursorChange, Durability, LogHold, Position, Redelivery, Retention};
use aftercommit::testing::MovedClock;
use futures::executor::block_on;
use proptest::prelude::*;

use crate::place::*;

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<(bool, usize)>),
    Start(u8, u64),
    Settle(u8, u64, u64),
    Redeliver(u8, u64),
    Forget(u8),
    Hold(u8, u64),
    LetGo(u8),
    Advance(u64),
    Retain(Keep),
    Tidy,
    Reopen,
}

/// A retention, in seconds and bytes.
#[derive(Debug, Clone, Copy)]
struct Keep {
    time: Option<u64>,
    logged: Option<u64>,
    bytes: Option<u64>,
}

const FOR_EVER: Keep = Keep { time: None, logged: None, bytes: None };

impl Keep {
    fn retention(self) -> Retention {
        let seconds = Duration::from_secs;
        let retention = self.time.map_or_else(Retention::keep_forever, |time| Retention::keep_for(seconds(time)));
        let retention = self.bytes.into_iter().fold(retention, Retention::at_most);
        self.logged.into_iter().fold(retention, |retention, time| retention.logged_for(seconds(time)))
    }
}

fn keep() -> impl Strategy<Value = Keep> {
    let time = || prop_oneof![1 => Just(None), 2 => Just(Some(0)), 4 => (1..100u64).prop_map(Some)];
    let bytes = prop_oneof![3 => Just(None), 1 => (0..60_000u64).prop_map(Some)];
    (time(), time(), bytes).prop_map(|(time, logged, bytes)| Keep { time, logged, bytes })
}

fn step() -> impl Strategy<Value = Step> {
    let listener = 0..3u8;
    let size = prop_oneof![4 => 0..300usize, 1 => 5_000..30_000usize];
    let logged = prop::bool::weighted(0.02);
    prop_oneof![
        8 => prop::collection::vec((logged, size), 0..12).prop_map(Step::Publish),
        1 => (listener.clone(), 1..60u64).prop_map(|(listener, from)| Step::Start(listener, from)),
        8 => (listener.clone(), 1..120u64, 1..40u64).prop_map(|(listener, from, count)| Step::Settle(listener, from, count)),
        1 => (listener.clone(), 1..120u64).prop_map(|(listener, at)| Step::Redeliver(listener, at)),
        1 => listener.clone().prop_map(Step::Forget),
        1 => (listener.clone(), 1..120u64).prop_map(|(hold, from)| Step::Hold(hold, from)),
        1 => listener.prop_map(Step::LetGo),
        3 => (0..60u64).prop_map(Step::Advance),
        2 => keep().prop_map(Step::Retain),
        2 => Just(Step::Tidy),
        1 => Just(Step::Reopen),
    ]
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// More than an event takes beside its body, and more than a pack beside its events.
const OVERHEAD: u64 = 250;

/// An event of the plain log.
#[derive(Debug, Clone, Copy)]
struct Stored {
    logged: bool,
    size: usize,
    time: Timestamp,
    /// Not more bytes of the log were written before its pack.
    before: u64,
}

/// A plain log: every event, what each listener has settled, and who holds what.
struct Plain {
    log: BTreeMap<u64, Stored>,
    written: u64,
    /// Whether each position from 1 on is settled.
    listeners: BTreeMap<u8, Vec<bool>>,
    holds: BTreeMap<u8, u64>,
    keep: Keep,
}

impl Plain {
    fn new() -> Self {
        Self { log: BTreeMap::new(), written: 0, listeners: BTreeMap::new(), holds: BTreeMap::new(), keep: FOR_EVER }
    }

    fn is_owed(&self, position: u64) -> bool {
        self.listeners.values().any(|done| !done.get(position as usize).copied().unwrap_or(false))
    }

    fn is_held(&self, position: u64) -> bool {
        self.holds.values().any(|from| *from <= position)
    }

    /// Whether retention lets go of an event now, as far as the log's room can be told.
    fn may_go(&self, event: &Stored, now: Timestamp, was_passed: bool) -> bool {
        let is_over = |time: u64| event.time.saturating_add(Duration::from_secs(time)) <= now;
        let is_crowded = self.keep.bytes.is_some_and(|most| self.written - event.before > most);
        let passes = was_passed || is_crowded || self.keep.time.is_some_and(is_over);
        passes && (!event.logged || self.keep.logged.is_some_and(is_over))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_owed_redelivering_held_or_kept_is_ever_pruned(steps in prop::collection::vec(step(), 0..80)) {
        let place = InMemory::new();
        let mut store = place.open();
        let mut plain = Plain::new();
        let clock = MovedClock::default();
        let mut held: BTreeMap<u8, LogHold> = BTreeMap::new();
        let mut first = 1;
        for step in steps {
            let passed = store.pruned_to(false).0;
            match step {
                Step::Publish(events) => {
                    let now = clock.now();
                    let envelopes = events.iter().map(|(keep, size)| timed(if *keep { logged(vec![1; *size]) } else { event(vec![1; *size]) }, now));
                    let positions = block_on(publish(&*store, envelopes.collect()));
                    prop_assert!(positions.first().is_none_or(|position| *position >= first));
                    first = positions.last().map_or(first, |last| last + 1);
                    // One step is one group, so that no pack begins before it.
                    let before = plain.written;
                    plain.written += events.iter().map(|(_, size)| *size as u64 + OVERHEAD).sum::<u64>();
                    let stored = events.into_iter().map(|(logged, size)| Stored { logged, size, time: now, before });
                    plain.log.extend(positions.into_iter().zip(stored));
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
                Step::Redeliver(who, at) => {
                    let (position, at) = (Position(at), clock.now());
                    let again = Redelivery { position, attempts: 1, due: at, error: "no".into(), failed_at: at, first_failed_at: at, counted: 1, kind: None };
                    block_on(request(&*store, vec![], vec![settle(NAMES[who as usize], CursorChange::Redeliver(again))])).expect("is noted");
                }
                Step::Hold(who, from) => {
                    held.insert(who, embedded(&*store).hold_log(Position(from)));
                    plain.holds.insert(who, from);
                }
                Step::LetGo(who) => {
                    held.remove(&who);
                    plain.holds.remove(&who);
                }
                Step::Advance(seconds) => clock.advance(Duration::from_secs(seconds)),
                Step::Retain(keep) => {
                    plain.keep = keep;
                    block_on(retain(&*store, keep.retention(), &clock));
                }
                Step::Tidy => block_on(embedded(&*store).tidy()).expect("tidies"),
                Step::Reopen => {
                    drop(store);
                    store = place.open();
                    // A store that was just opened retains everything, and nobody holds anything.
                    plain.holds.clear();
                    plain.keep = FOR_EVER;
                }
            }
            let left = block_on(log(&*store));
            let left: BTreeMap<u64, _> = left.iter().map(|event| (event.position.0, event)).collect();
            // Whatever went in this step was owed to nobody by then; a listener that starts later cannot be owed it.
            let went: Vec<u64> = plain.log.keys().filter(|position| !left.contains_key(position)).copied().collect();
            for position in went {
                prop_assert!(!plain.is_owed(position), "{} was owed", position);
                prop_assert!(!plain.is_held(position), "{} was held", position);
                let stored = plain.log.remove(&position).expect("listed");
                // It may have been passed by another retention than today's, with an event in its pack that was to be kept.
                prop_assert!(plain.may_go(&stored, clock.now(), position < passed), "{} was to be kept: {:?}", position, stored);
                prop_assert!(store.pruned_to(stored.logged).0 > position, "nobody is told that {} went", position);
            }
            for (position, stored) in &plain.log {
                prop_assert_eq!(left[position].envelope.body.len(), stored.size);
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
    retain(&store, Retention::delete_when_done(), &MovedClock::default()).await;
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
    retain(&store, Retention::delete_when_done(), &MovedClock::default()).await;
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
    retain(&*store, Retention::delete_when_done(), &MovedClock::default()).await;
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
