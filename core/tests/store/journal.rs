//! An engine behind a journal: readers see one map, and what was answered is there whatever fails and whenever it ends.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::error::StoreError;
use aftercommit::store::embedded::{Batch, EmbeddedStore, Engine, Journaled, Limits};
use aftercommit::store::{Direction, Durability, Store};
use proptest::prelude::*;

use crate::faults::{Fault, Faulty, check_units, everything, units};
use crate::place::*;

/// A made store: what the engine holds, and a folder with the journal.
struct Made {
    folder: tempfile::TempDir,
    engine: MemoryEngine,
}

impl Made {
    fn new() -> Self {
        let made = Self { folder: tempfile::tempdir().expect("a folder"), engine: MemoryEngine::default() };
        EmbeddedStore::create(&made.engine).expect("creates");
        Journaled::create(&made.engine, &made.path()).expect("creates");
        made
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// What a crash now would leave of the journal, whatever is still done with it later.
    fn copy(&self) -> PathBuf {
        let copy = self.folder.path().join("copy");
        std::fs::copy(self.path(), &copy).expect("copies");
        copy
    }

    fn open(&self, engine: Arc<dyn Engine>) -> Result<Journaled, StoreError> {
        Journaled::open(engine, &self.path(), limits())
    }
}

/// So small that the engine is handed something every few entries.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.group_bytes = 8 * 1024;
    limits
}

#[tokio::test]
async fn whatever_call_of_the_engine_behind_fails_what_was_answered_is_there_after_a_kill() {
    for fault in [Fault::Before, Fault::After, Fault::Panic] {
        let mut call = 0;
        loop {
            let made = Made::new();
            let engine = Faulty::over(&made.engine, Some((call, fault)));
            let mut outcomes = Vec::new();
            let mut store = None;
            let mut limits = Limits::default();
            limits.group_bytes = 256 * 1024;
            if let Ok(journaled) = Journaled::open(engine.clone(), &made.path(), limits) {
                let store = store.insert(EmbeddedStore::threaded(Arc::new(journaled), limits).expect("opens"));
                outcomes = units(store).await;
                let ended = outcomes.iter().position(|(_, outcome)| outcome.is_err());
                assert!(ended.is_none_or(|ended| ended + 1 == outcomes.len()), "nothing begins after a failure");
                assert!(ended.is_none() || store.poisoned().is_some());
            }
            // First the journal: the engine may still be taking what stands there.
            let journal = made.copy();
            let durable = MemoryEngine::default();
            durable.apply(everything(&**engine.durable.lock())).expect("a map");
            let journaled = Journaled::open(Arc::new(durable), &journal, Limits::default()).expect("opens again");
            let again = EmbeddedStore::inline(Arc::new(journaled), Limits::default()).expect("opens again");
            check_units(&again, &outcomes, &format!("call {call}, {fault:?}")).await;
            if let Some(store) = store {
                // It fails if the engine did.
                let _ = store.close().await;
            }
            let failed = engine.calls.load(SeqCst) > call;
            if !failed {
                break;
            }
            call += 1;
        }
        assert!(call > 15, "every step was tried");
    }
}

#[test]
fn an_opening_that_is_cut_short_anywhere_changes_nothing_for_the_next() {
    let made = Made::new();
    let before = Faulty::over(&made.engine, None);
    let journaled = made.open(before.clone()).expect("opens");
    let mut expected = everything(&made.engine);
    for number in 0..60u8 {
        let batch = Batch::from([(vec![b'r', number % 50], (!number.is_multiple_of(7)).then(|| vec![number; 700]))]);
        expected.extend(batch.clone());
        journaled.apply(batch).expect("applies");
        journaled.sync(Durability::Sync).expect("syncs");
    }
    expected.retain(|key, value| value.is_some() && !key.starts_with(b"m"));
    // An engine that lost nothing it had synced, and has nothing of what the journal holds last.
    let (left, journal) = (everything(&**before.durable.lock()), std::fs::read(made.path()).expect("reads"));
    drop(journaled);
    for call in 0.. {
        std::fs::write(made.path(), &journal).expect("writes");
        let map = MemoryEngine::default();
        map.apply(left.clone()).expect("a map");
        let cut = Faulty::over(&map, Some((call, Fault::After)));
        let first = made.open(cut.clone());
        let whole = first.is_ok();
        drop(first);
        let durable = cut.durable.lock().clone();
        drop(made.open(durable.clone()).expect("opens"));
        let mut found = everything(&*durable);
        found.retain(|key, _| !key.starts_with(b"m"));
        assert_eq!(found, expected, "cut at call {call}");
        if whole {
            assert!(call > 1, "there was something to lose");
            break;
        }
    }
}

#[test]
fn the_engine_is_handed_no_more_between_two_syncs_than_the_limit_says() {
    let made = Made::new();
    let engine = Faulty::over(&made.engine, None);
    let journaled = made.open(engine.clone()).expect("opens");
    for number in 0..200u8 {
        journaled.apply(Batch::from([(vec![b'r', number], Some(vec![number; 1500]))])).expect("applies");
    }
    // Larger than the limit, and larger than the journal: each goes alone.
    for len in [100_000, 3_000_000] {
        journaled.apply(Batch::from([(b"rlarge".to_vec(), Some(vec![1; len]))])).expect("applies");
        journaled.sync(Durability::Sync).expect("syncs");
    }
    drop(journaled);
    let trace = engine.trace.lock();
    assert!(trace.chunks(2).all(|pair| matches!(pair, [Some(_), None])), "each batch is synced: {trace:?}");
    let most = trace.iter().flatten().filter(|bytes| **bytes < 100_000).max();
    assert!(most.is_some_and(|most| *most <= limits().group_bytes), "{most:?}");
    let durable = engine.durable.lock();
    assert_eq!(durable.get(b"rlarge").expect("reads").map(|value| value.len()), Some(3_000_000));
    assert_eq!(durable.get(&[b'r', 199]).expect("reads"), Some(vec![199; 1500]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn readers_see_one_map_wherever_its_entries_are(
        steps in prop::collection::vec(prop::collection::vec((0..40u8, prop::option::of(0..200u8)), 1..6), 1..40),
        reads in prop::collection::vec((0..40u8, 0..30u8, any::<bool>(), 0..12usize), 20),
    ) {
        let made = Made::new();
        let journaled = made.open(Arc::new(MemoryEngine::default())).err();
        prop_assert!(matches!(journaled, Some(StoreError::Damaged { .. })), "an engine that knows of no journal");
        let engine = Arc::new(MemoryEngine::default());
        engine.apply(everything(&made.engine)).expect("a map");
        let journaled = made.open(engine).expect("opens");
        let mut model = std::collections::BTreeMap::new();
        for step in &steps {
            let batch: Batch = step.iter().map(|(key, value)| (vec![b'r', *key], value.map(|value| vec![value; 3]))).collect();
            for (key, value) in &batch {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            journaled.apply(batch).expect("applies");
            for (start, len, forward, limit) in &reads[..reads.len().min(4)] {
                let (start, end) = (vec![b'r', *start], vec![b'r', start + len]);
                let bounds = (Bound::Included(start.clone()), Bound::Excluded(end.clone()));
                let rows = model.range(bounds).map(|(key, value)| (key.clone(), value.clone()));
                let (direction, expected): (_, Vec<_>) = match forward {
                    true => (Direction::Forward, rows.take(*limit).collect()),
                    false => (Direction::Backward, rows.rev().take(*limit).collect()),
                };
                prop_assert_eq!(journaled.scan(&start..&end, direction, *limit).expect("scans"), expected);
                prop_assert_eq!(journaled.get(&start).expect("reads"), model.get(&start).cloned());
            }
        }
    }
}

/// What a crash now would leave of the folder `from`.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("reads") {
        let path = entry.expect("reads").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("copies");
        }
    }
}

on_every_disk! {
    a_crash_loses_nothing_acknowledged_and_damage_to_the_journal_is_named
}

async fn a_crash_loses_nothing_acknowledged_and_damage_to_the_journal_is_named<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let store = D::at(&root.path().join("live")).expect("opens");
    for number in 0..9u8 {
        put(&*store, &[number], &[number; 100]).await;
    }
    // So few stand in the journal alone.
    for damage in [None, Some("flipped"), Some("gone")] {
        let crashed = root.path().join(damage.unwrap_or("whole"));
        copy_folder(&root.path().join("live"), &crashed);
        let journal = crashed.join("store/journal");
        match damage {
            None => {}
            Some("gone") => std::fs::remove_file(journal).expect("removes"),
            Some(_) => {
                let mut bytes = std::fs::read(&journal).expect("reads");
                bytes[4096 + 50] ^= 1;
                std::fs::write(&journal, bytes).expect("writes");
            }
        }
        match D::at(&crashed) {
            Ok(opened) => {
                assert!(damage.is_none(), "{damage:?}");
                assert!(!opened.was_clean());
                for number in 0..9u8 {
                    assert_eq!(get(&*opened, &[number]), Some(vec![number; 100]));
                }
            }
            Err(error) => {
                assert!(damage.is_some(), "{error}");
                assert!(matches!(&error, StoreError::Damaged { what, .. } if what.contains("journal")), "{error}");
            }
        }
    }
}
