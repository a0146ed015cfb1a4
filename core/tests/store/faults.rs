//! An engine that fails, panics or stalls where it is told: what is answered is the truth.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::error::{Error, StoreError, UnitError};
use aftercommit::store::embedded::{Batch, EmbeddedStore, Engine, Limits};
use aftercommit::store::{CommitError, CommitRequest, Direction, Durability, Position, Receipt, Retention, Row, Store};
use aftercommit::testing::MovedClock;
use parking_lot::{Condvar, Mutex};

use crate::place::*;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// The call answers with an error and did nothing.
    Before,
    /// The call answers with an error although it did what it should.
    After,
    Panic,
}

/// A map in memory that keeps apart what is synced, and fails at one call of `apply` or `sync`.
pub(crate) struct Faulty {
    live: MemoryEngine,
    /// What would be there after a kill.
    pub(crate) durable: Mutex<Arc<MemoryEngine>>,
    /// What was applied since the last flush.
    unflushed: Mutex<Vec<Batch>>,
    pub(crate) calls: AtomicUsize,
    fault: Option<(usize, Fault)>,
    pub(crate) gate: Gate,
    /// Holds full syncs up.
    pub(crate) sync_gate: Gate,
    /// The bytes of each batch, and `None` for each full sync.
    pub(crate) trace: Mutex<Vec<Option<usize>>>,
}

/// Holds `apply` up while it is shut.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether it is shut, and whether somebody stands at it.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.state.lock().0 = true;
    }

    pub(crate) fn open(&self) {
        *self.state.lock() = (false, false);
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        while state.0 {
            state.1 = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }

    pub(crate) fn wait_for_somebody(&self) {
        let mut state = self.state.lock();
        while !state.1 {
            self.changed.wait(&mut state);
        }
    }
}

pub(crate) fn everything(engine: &dyn Engine) -> Batch {
    let rows = engine.scan(&[]..&[0xff], Direction::Forward, usize::MAX).expect("scans");
    rows.into_iter().map(|(key, value)| (key, Some(value))).collect()
}

impl Faulty {
    pub(crate) fn new(fault: Option<(usize, Fault)>) -> Arc<Self> {
        let made = MemoryEngine::default();
        EmbeddedStore::create(&made).expect("creates");
        Self::over(&made, fault)
    }

    /// Begins with what `made` holds.
    pub(crate) fn over(made: &MemoryEngine, fault: Option<(usize, Fault)>) -> Arc<Self> {
        let live = MemoryEngine::default();
        live.apply(everything(made)).expect("a map");
        let durable = MemoryEngine::default();
        durable.apply(everything(made)).expect("a map");
        Arc::new(Self {
            live,
            durable: Mutex::new(Arc::new(durable)),
            unflushed: Mutex::default(),
            calls: AtomicUsize::new(0),
            fault,
            gate: Gate::default(),
            sync_gate: Gate::default(),
            trace: Mutex::default(),
        })
    }

    fn call(&self, does: impl FnOnce()) -> Result<(), StoreError> {
        let call = self.calls.fetch_add(1, SeqCst);
        match self.fault {
            Some((at, fault)) if at == call => {
                if fault == Fault::After {
                    does();
                }
                if fault == Fault::Panic {
                    std::panic::panic_any("the engine panicked, as it was told");
                }
                Err(StoreError::backend("do what it was told not to", "no"))
            }
            _ => {
                does();
                Ok(())
            }
        }
    }
}

impl Engine for Faulty {
    fn kind(&self) -> &'static str {
        "faulty"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.live.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.live.scan(range, direction, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.gate.pass();
        let bytes = batch.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        self.trace.lock().push(Some(bytes));
        self.call(|| {
            self.live.apply(batch.clone()).expect("a map");
            self.unflushed.lock().push(batch);
        })
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        if durability == Durability::Sync {
            self.sync_gate.pass();
            self.trace.lock().push(None);
        }
        self.call(|| {
            for batch in self.unflushed.lock().drain(..) {
                self.durable.lock().apply(batch).expect("a map");
            }
        })
    }
}

fn open(engine: Arc<dyn Engine>, threaded: bool) -> Result<EmbeddedStore, StoreError> {
    match threaded {
        true => EmbeddedStore::threaded(engine, Limits::default()),
        false => EmbeddedStore::inline(engine, Limits::default()),
    }
}

fn is_in_doubt(outcome: &Result<Receipt, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::InDoubt(_)))
}

fn is_poisoned(outcome: &Result<Receipt, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Refused(Error::Store(StoreError::Poisoned { .. }))))
}

/// Commits units until the engine has failed and for a while after, each with a row and an event; some of them large.
pub(crate) async fn units(store: &dyn Store) -> Vec<(Durability, Result<Receipt, CommitError>)> {
    let mut outcomes = Vec::new();
    for number in 0..10u8 {
        let durability = [Durability::Sync, Durability::Flush, Durability::Buffered][usize::from(number) % 3];
        let Ok(mut unit) = store.begin().await else { break };
        let size = if number == 4 { 600_000 } else { 10 };
        if unit.rows().expect("rows").put(&ROWS, vec![number], vec![number; size]).is_err() {
            break;
        }
        let events = vec![logged(vec![number; size])];
        outcomes.push((durability, unit.commit(CommitRequest { durability, events, settlements: vec![] }).await));
    }
    outcomes
}

#[tokio::test]
async fn whatever_call_fails_the_answers_are_the_truth_and_the_store_stops() {
    for threaded in [false, true] {
        for fault in [Fault::Before, Fault::After, Fault::Panic] {
            let mut call = 0;
            loop {
                let engine = Faulty::new(Some((call, fault)));
                let outcomes = match open(engine.clone(), threaded) {
                    Ok(store) => {
                        let outcomes = units(&store).await;
                        if engine.calls.load(SeqCst) <= call {
                            break;
                        }
                        assert!(store.poisoned().is_some());
                        assert!(matches!(store.begin().await, Err(StoreError::Poisoned { .. })));
                        assert!(matches!(store.close().await, Err(StoreError::Poisoned { .. })));
                        outcomes
                    }
                    Err(_) => Vec::new(),
                };
                let context = format!("call {call}, {fault:?}, threaded: {threaded}");
                check_after_a_kill(&engine, &outcomes, &context).await;
                let stopped = outcomes.iter().position(|(_, outcome)| outcome.is_err());
                if let Some(stopped) = stopped {
                    assert!(is_in_doubt(&outcomes[stopped].1), "{context}: {:?}", outcomes[stopped]);
                    assert_eq!(outcomes.len(), stopped + 1, "{context}: nothing more begins");
                }
                call += 1;
            }
            assert!(call > 15, "every step was tried");
        }
    }
}

/// What was answered is what a reopened store holds.
async fn check_after_a_kill(engine: &Faulty, outcomes: &[(Durability, Result<Receipt, CommitError>)], context: &str) {
    let store = open(engine.durable.lock().clone(), false).expect("what was synced can be opened");
    check_units(&store, outcomes, context).await;
}

/// What was answered is what `store` holds.
pub(crate) async fn check_units(
    store: &dyn Store,
    outcomes: &[(Durability, Result<Receipt, CommitError>)],
    context: &str,
) {
    let events: BTreeMap<u8, u64> =
        log(store).await.iter().map(|event| (event.envelope.body[0], event.position.0)).collect();
    for (number, (durability, outcome)) in outcomes.iter().enumerate() {
        let number = number as u8;
        let row = get(store, &[number]).is_some();
        let position = events.get(&number).copied();
        assert_eq!(row, position.is_some(), "{context}: unit {number} is half there");
        if let Ok(receipt) = outcome
            && *durability >= Durability::Flush
        {
            assert_eq!(position.map(Position), receipt.positions.first().copied(), "{context}: unit {number}");
        }
    }
    // In order: nothing is there whose forerunner is lost.
    let found: Vec<u8> = events.keys().copied().collect();
    assert_eq!(found, (0..found.len() as u8).collect::<Vec<_>>(), "{context}");
}

#[tokio::test]
async fn pieces_written_ahead_of_a_unit_that_never_came_are_swept() {
    let size = 4 << 20;
    let whole = Faulty::new(None);
    let store = open(whole.clone(), false).expect("opens");
    publish(&store, vec![event(vec![1; size])]).await;
    let calls = whole.calls.load(SeqCst);
    assert!(calls > 8, "it was written in pieces");
    for call in 4..calls {
        let engine = Faulty::new(Some((call, Fault::Before)));
        let store = open(engine.clone(), false).expect("opens");
        assert!(is_in_doubt(&request(&store, vec![event(vec![1; size])], vec![]).await));
        let durable = engine.durable.lock().clone();
        let store = open(durable.clone(), false).expect("opens");
        retain(&store, Retention::delete_when_done(), &MovedClock::default()).await;
        for _ in 0..200 {
            publish(&store, vec![event("a")]).await;
        }
        let left = durable.scan(&[]..&[0xff], Direction::Forward, usize::MAX).expect("scans").len();
        assert!(left < 5, "{left} entries are left after a failure at call {call}");
    }
}

#[tokio::test]
async fn between_two_full_syncs_no_more_is_applied_than_the_limit_says() {
    for durability in [Durability::Buffered, Durability::Flush] {
        let engine = Faulty::new(None);
        let store = open(engine.clone(), true).expect("opens");
        for number in 0..300u32 {
            let mut unit = begin(&store).await;
            unit.rows().expect("rows").put(&ROWS, number.to_be_bytes().to_vec(), vec![1; 5_000]).expect("puts");
            let size = if number == 150 { 3_000_000 } else { 300 };
            let request = CommitRequest { durability, events: vec![logged(vec![1; size])], settlements: vec![] };
            unit.commit(request).await.expect("commits");
        }
        let (mut window, mut most, mut syncs) = (0, 0, 0);
        for entry in engine.trace.lock().iter() {
            match entry {
                Some(bytes) => window += bytes,
                None => (window, syncs) = (0, syncs + 1),
            }
            most = window.max(most);
        }
        assert!(most <= Limits::default().group_bytes, "{most}");
        assert!(syncs < 60, "{syncs} syncs are more than the bytes ask for");
    }
}

/// Polls commits until each is queued, while the engine is held up by a first one.
async fn queued(
    engine: &Faulty,
    store: &EmbeddedStore,
    units: Vec<Box<dyn aftercommit::store::Unit>>,
) -> Vec<futures::future::BoxFuture<'static, Result<Receipt, CommitError>>> {
    engine.gate.shut();
    let mut first = begin(store).await.commit(CommitRequest { events: vec![event("first")], ..Default::default() });
    let _ = futures::poll!(&mut first);
    let mut commits = vec![first];
    engine.gate.wait_for_somebody();
    for unit in units {
        let request = CommitRequest { events: vec![logged("next")], ..Default::default() };
        let mut commit = unit.commit(request);
        let _ = futures::poll!(&mut commit);
        commits.push(commit);
    }
    commits
}

/// Commits of twenty units that come while a group of two is held up in its sync, which fails or not; those two come first.
async fn while_two_are_synced(fails: bool) -> (Arc<Faulty>, usize, Vec<Result<Receipt, CommitError>>) {
    // The mark of an opened store is applied and synced; then come a batch that is only buffered, the group of two, and its sync.
    let engine = Faulty::new(fails.then_some((4, Fault::Before)));
    let store = open(engine.clone(), true).expect("opens");
    engine.gate.shut();
    let mut commits = Vec::new();
    let mut durability = Durability::Buffered;
    for number in 0..23 {
        let request = CommitRequest { durability, events: vec![event("a")], settlements: vec![] };
        let mut commit = begin(&store).await.commit(request);
        assert!(futures::poll!(&mut commit).is_pending());
        commits.push(commit);
        durability = Durability::Sync;
        match number {
            0 => engine.gate.wait_for_somebody(),
            2 => {
                engine.sync_gate.shut();
                engine.gate.open();
                commits.remove(0).await.expect("is buffered");
                engine.sync_gate.wait_for_somebody();
            }
            _ => {}
        }
    }
    let before = engine.trace.lock().len();
    for commit in &mut commits {
        assert!(futures::poll!(commit).is_pending(), "answered before its sync");
    }
    engine.sync_gate.open();
    let outcomes = futures::future::join_all(commits).await;
    (engine, before, outcomes)
}

#[tokio::test]
async fn units_that_come_while_a_group_is_synced_are_the_next_group() {
    let (engine, before, outcomes) = while_two_are_synced(false).await;
    let groups: Vec<usize> = outcomes.into_iter().map(|outcome| outcome.expect("commits").group).collect();
    assert_eq!(groups[..2], [2; 2]);
    assert_eq!(groups[2..], [20; 20]);
    let trace = engine.trace.lock();
    assert!(matches!(trace[before..][..3], [None, Some(_), None]), "{:?}", &trace[before..]);
}

#[tokio::test]
async fn units_that_come_while_a_sync_fails_are_refused_and_only_its_group_is_in_doubt() {
    let (_, _, outcomes) = while_two_are_synced(true).await;
    assert!(outcomes[..2].iter().all(is_in_doubt), "{outcomes:?}");
    assert!(outcomes[2..].iter().all(is_poisoned), "{outcomes:?}");
}

#[tokio::test]
async fn units_that_wait_together_are_committed_with_one_batch_and_one_sync() {
    let engine = Faulty::new(None);
    let store = open(engine.clone(), true).expect("opens");
    let mut units = Vec::new();
    for number in 0..20u8 {
        let mut unit = begin(&store).await;
        let rows = unit.rows().expect("rows");
        // All read and write the same row: one of them may go through.
        if number >= 15 {
            rows.get(&ROWS, b"same").expect("reads");
            rows.put(&ROWS, b"same".to_vec(), vec![number]).expect("puts");
        }
        rows.add(&ROWS, b"stock".to_vec(), -1, Some(-10)).expect("adds");
        units.push(unit);
    }
    let commits = queued(&engine, &store, units).await;
    let before = engine.trace.lock().len();
    engine.gate.open();
    let outcomes = futures::future::join_all(commits).await;
    let (first, rest) = outcomes.split_first().expect("some");
    assert!(first.is_ok());
    assert!(rest[..10].iter().all(Result::is_ok));
    assert!(rest[10..15].iter().all(is_below_floor), "{rest:?}");
    assert!(rest[15..].iter().all(is_below_floor), "{rest:?}");
    assert_eq!(cell(&store, b"stock"), Some(-10));
    assert_eq!(engine.trace.lock()[before..].iter().filter(|entry| entry.is_some()).count(), 2, "two groups");
    assert_eq!(positions(&store).await.len(), 11);
}

#[tokio::test]
async fn of_units_in_one_group_that_read_and_wrote_the_same_row_the_first_goes_through() {
    let engine = Faulty::new(None);
    let store = open(engine.clone(), true).expect("opens");
    let mut units = Vec::new();
    for number in 0..5u8 {
        let mut unit = begin(&store).await;
        let rows = unit.rows().expect("rows");
        rows.get(&ROWS, b"same").expect("reads");
        rows.put(&ROWS, b"same".to_vec(), vec![number]).expect("puts");
        units.push(unit);
    }
    let commits = queued(&engine, &store, units).await;
    engine.gate.open();
    let outcomes = futures::future::join_all(commits).await;
    assert!(outcomes[1].is_ok());
    assert!(outcomes[2..].iter().all(is_conflict));
    assert_eq!(get(&store, b"same"), Some(vec![0]));
}

#[tokio::test]
async fn a_commit_dropped_while_it_waits_for_room_is_still_committed() {
    let engine = Faulty::new(None);
    let limits = {
        let mut limits = Limits::default();
        limits.queue_units = 3;
        limits
    };
    let store = EmbeddedStore::threaded(engine.clone(), limits).expect("opens");
    let mut units = Vec::new();
    for _ in 0..20 {
        units.push(begin(&store).await);
    }
    drop(queued(&engine, &store, units).await);
    engine.gate.open();
    store.delivered_up_to().wait_for(|position| position.0 == 21).await.expect("rings");
}

#[tokio::test]
async fn a_group_that_fails_is_in_doubt_as_a_whole_and_what_waits_is_refused() {
    // Two calls for opening, two for the first group, then the group that fails to sync.
    let engine = Faulty::new(Some((5, Fault::Before)));
    let store = open(engine.clone(), true).expect("opens");
    let mut units = Vec::new();
    for number in 0..6u8 {
        let mut unit = begin(&store).await;
        unit.rows().expect("rows").add(&ROWS, b"n".to_vec(), i64::from(number), Some(3)).expect("adds");
        units.push(unit);
    }
    let late = begin(&store).await;
    let commits = queued(&engine, &store, units).await;
    engine.gate.open();
    let outcomes = futures::future::join_all(commits).await;
    assert!(outcomes[0].is_ok());
    assert!(outcomes[1..4].iter().all(is_below_floor), "what was refused is refused: {outcomes:?}");
    assert!(outcomes[4..].iter().all(is_in_doubt), "{outcomes:?}");
    let error = outcomes.into_iter().next_back().expect("some").expect_err("in doubt").into_error();
    assert!(matches!(error, Error::Unit(UnitError::InDoubt { .. })));
    let late = late.commit(CommitRequest { events: vec![event("late")], ..Default::default() }).await;
    assert!(is_poisoned(&late));
    assert!(matches!(store.reader().map(drop), Err(StoreError::Poisoned { .. })));
}

#[tokio::test]
async fn a_store_that_is_dropped_commits_and_syncs_what_was_handed_over() {
    let engine = Faulty::new(None);
    let store = open(engine.clone(), true).expect("opens");
    let mut bell = store.delivered_up_to();
    let units = vec![begin(&store).await, begin(&store).await];
    drop(queued(&engine, &store, units).await);
    drop(store);
    engine.gate.open();
    while bell.changed().await.is_ok() {}
    let reopened = open(engine.durable.lock().clone(), false).expect("opens");
    assert!(!reopened.was_clean());
    assert_eq!(*reopened.delivered_up_to().borrow(), Position(3));
}
