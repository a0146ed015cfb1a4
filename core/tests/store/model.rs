//! Random units, interleaved, against a plain map that commits one after the other: the store is serialisable.

use std::collections::BTreeMap;
use std::ops::Bound;

use aftercommit::store::{Direction, Row, Store, Unit};
use futures::executor::block_on;
use proptest::prelude::*;

use crate::place::*;

#[derive(Debug, Clone)]
enum Op {
    Get(u8),
    Scan(u8, u8, bool, usize),
    Put(u8, i64),
    Remove(u8),
    Add(u8, i64, Option<i64>),
    Savepoint,
    Back,
    Release,
    Commit,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..12u8;
    prop_oneof![
        4 => key.clone().prop_map(Op::Get),
        3 => (key.clone(), key.clone(), any::<bool>(), 0..5usize).prop_map(|(a, b, back, limit)| Op::Scan(a.min(b), a.max(b), back, limit)),
        4 => (key.clone(), -50..50i64).prop_map(|(key, value)| Op::Put(key, value)),
        2 => key.clone().prop_map(Op::Remove),
        4 => (key, -20..20i64, prop::option::of(-10..10i64)).prop_map(|(key, delta, floor)| Op::Add(key, delta, floor)),
        1 => Just(Op::Savepoint),
        1 => Just(Op::Back),
        1 => Just(Op::Release),
        4 => Just(Op::Commit),
    ]
}

#[derive(Debug, PartialEq)]
enum Seen {
    Value(Option<i64>),
    Rows(Vec<(u8, i64)>),
    Nothing,
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("8 bytes"))
}

fn play(unit: &mut dyn Unit, op: &Op) -> Seen {
    match *op {
        Op::Savepoint => block_on(unit.savepoint()).expect("savepoint"),
        Op::Back => block_on(unit.roll_back_to_savepoint()).expect("rolls back"),
        Op::Release => block_on(unit.release_savepoint()).expect("releases"),
        _ => {}
    }
    let rows = unit.rows().expect("rows");
    match *op {
        Op::Get(key) => return Seen::Value(rows.get(&ROWS, &[key]).expect("reads").as_deref().map(number)),
        Op::Scan(from, to, back, limit) => {
            let range = (Bound::Included(vec![from]), Bound::Excluded(vec![to]));
            let direction = if back { Direction::Backward } else { Direction::Forward };
            let rows = rows.scan(&ROWS, range, direction, limit).expect("scans");
            return Seen::Rows(rows.iter().map(|row: &Row| (row.0[0], number(&row.1))).collect());
        }
        Op::Put(key, value) => rows.put(&ROWS, vec![key], value.to_be_bytes().to_vec()).expect("puts"),
        Op::Remove(key) => rows.remove(&ROWS, vec![key]).expect("removes"),
        Op::Add(key, delta, floor) => rows.add(&ROWS, vec![key], delta, floor).expect("adds"),
        _ => {}
    }
    Seen::Nothing
}

/// A plain map, and the floors that additions of the running unit asked for.
#[derive(Debug, Clone, Default)]
struct Plain {
    rows: BTreeMap<u8, i64>,
    floors: BTreeMap<u8, i64>,
}

impl Plain {
    /// Runs a unit's steps one after the other, and answers whether it saw what it should have, and whether a floor broke.
    fn run(&mut self, steps: &[(Op, Seen)]) -> Result<bool, String> {
        let mut kept: Vec<Plain> = Vec::new();
        for (op, seen) in steps {
            let expected = match *op {
                Op::Get(key) => Seen::Value(self.rows.get(&key).copied()),
                Op::Scan(from, to, back, limit) => {
                    let mut rows: Vec<_> = self.rows.range(from..to).map(|(key, value)| (*key, *value)).collect();
                    if back {
                        rows.reverse();
                    }
                    rows.truncate(limit);
                    Seen::Rows(rows)
                }
                _ => Seen::Nothing,
            };
            if *seen != expected {
                return Err(format!("{op:?} saw {seen:?} where one after the other it sees {expected:?}"));
            }
            match *op {
                Op::Put(key, value) => {
                    self.rows.insert(key, value);
                    self.floors.remove(&key);
                }
                Op::Remove(key) => {
                    self.rows.remove(&key);
                    self.floors.remove(&key);
                }
                Op::Add(key, delta, floor) => {
                    *self.rows.entry(key).or_default() += delta;
                    if let Some(floor) = floor {
                        let highest = self.floors.entry(key).or_insert(floor);
                        *highest = floor.max(*highest);
                    }
                }
                Op::Savepoint => kept.push(self.clone()),
                Op::Back => {
                    if let Some(before) = kept.pop() {
                        *self = before;
                    }
                }
                Op::Release => {
                    kept.pop();
                }
                _ => {}
            }
        }
        let broken = self.floors.iter().any(|(key, floor)| self.rows.get(key).is_none_or(|value| value < floor));
        self.floors.clear();
        Ok(broken)
    }
}

struct Running {
    unit: Box<dyn Unit>,
    steps: Vec<(Op, Seen)>,
    /// How many units had committed when it began.
    began: usize,
}

fn check(store: &dyn Store, schedule: Vec<(usize, Op)>) -> Result<(), TestCaseError> {
    let mut plain = Plain::default();
    let mut commits = 0;
    let mut running: BTreeMap<usize, Running> = BTreeMap::new();
    for (who, op) in schedule {
        let mut one = running.remove(&who).unwrap_or_else(|| Running {
            unit: block_on(begin(store)),
            steps: Vec::new(),
            began: commits,
        });
        if !matches!(op, Op::Commit) {
            let seen = play(&mut *one.unit, &op);
            one.steps.push((op, seen));
            running.insert(who, one);
            continue;
        }
        let outcome = block_on(commit(one.unit));
        let mut after = plain.clone();
        let alone = after.run(&one.steps);
        if is_conflict(&outcome) {
            prop_assert!(commits > one.began, "a conflict with nobody");
            continue;
        }
        let broken = alone.map_err(TestCaseError::fail)?;
        prop_assert_eq!(is_below_floor(&outcome), broken, "{:?}", outcome);
        if !broken {
            prop_assert!(outcome.is_ok(), "{:?}", outcome);
            plain = after;
            commits += 1;
        }
    }
    let rows = store
        .reader()
        .expect("reader")
        .scan(&ROWS, (Bound::Unbounded, Bound::Unbounded), Direction::Forward, usize::MAX)
        .expect("scans");
    let rows: BTreeMap<u8, i64> = rows.iter().map(|row| (row.0[0], number(&row.1))).collect();
    prop_assert_eq!(rows, plain.rows);
    Ok(())
}

fn schedules() -> impl Strategy<Value = Vec<(usize, Op)>> {
    prop::collection::vec((0..3usize, op()), 0..120)
}

proptest! {
    #[test]
    fn interleaved_units_on_memory_are_serialisable(schedule in schedules()) {
        check(&*InMemory::new().open(), schedule)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn interleaved_units_on_sled_are_serialisable(schedule in schedules()) {
        check(&*OnSled::new().open(), schedule)?;
    }

    #[test]
    fn interleaved_units_on_redb_are_serialisable(schedule in schedules()) {
        check(&*OnRedb::new().open(), schedule)?;
    }
}

on_every_disk! {
    concurrent_transfers_keep_the_sum_and_readers_never_see_another
}

/// Threads that move amounts between accounts, read them all, and count, on a store that commits whole groups.
async fn concurrent_transfers_keep_the_sum_and_readers_never_see_another<P: Place>() {
    let place = P::new();
    let store = place.open();
    for account in 0..8u8 {
        put(&*store, &[account], &100i64.to_be_bytes()).await;
    }
    let moved: usize = std::thread::scope(|scope| {
        let store = &store;
        let workers: Vec<_> =
            (0..4u64).map(|worker| scope.spawn(move || block_on(transfers(&**store, worker)))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    assert!(moved > 0);
    let sum: i64 = (0..8u8).map(|account| cell(&*store, &[account]).expect("is there")).sum();
    assert_eq!(sum, 800);
    assert_eq!(cell(&*store, b"moved"), Some(moved as i64));
}

async fn transfers(store: &dyn Store, worker: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(worker);
    let mut moved = 0;
    for _ in 0..150 {
        let mut unit = begin(store).await;
        let rows = unit.rows().expect("rows");
        let all = rows.scan(&ROWS, (Bound::Included(vec![0]), Bound::Excluded(vec![8])), Direction::Forward, 99);
        let all = all.expect("scans");
        let sum: i64 = all.iter().map(|row| number(&row.1)).sum();
        if random.bool() {
            if commit(unit).await.is_ok() {
                assert_eq!(sum, 800, "a reader that committed saw half of a transfer");
            }
            continue;
        }
        let (from, to, amount) = (random.usize(0..8), random.usize(0..8), random.i64(1..50));
        let mut balances: Vec<i64> = all.iter().map(|row| number(&row.1)).collect();
        balances[from] -= amount;
        balances[to] += amount;
        for account in [from, to] {
            rows.put(&ROWS, vec![account as u8], balances[account].to_be_bytes().to_vec()).expect("puts");
        }
        rows.add(&ROWS, b"moved".to_vec(), 1, None).expect("adds");
        let outcome = commit(unit).await;
        assert!(outcome.is_ok() || is_conflict(&outcome), "{outcome:?}");
        moved += usize::from(outcome.is_ok());
    }
    moved
}
