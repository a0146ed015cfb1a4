//! Backups and moves while units commit: what is copied stood at one moment, nothing is lost, and nobody is harmed when it fails.

use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::store::embedded::copy::{Copied, Moved, Target};
use aftercommit::store::embedded::{Batch, Embedded, EmbeddedStore, Engine, Limits};
use aftercommit::store::{CommitRequest, Direction, Durability, Row, Store, TableSpec};

use crate::place::*;

/// As `on_every_store`, with threads enough that units really commit while others copy.
macro_rules! under_load {
    ($($place:ident $module:ident: $($promise:ident)*;)*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                super::$promise::<crate::place::$place>().await;
            })*
        })*
    };
    ($($promise:ident)*) => {
        under_load! { InMemory memory: $($promise)*; OnSled sled: $($promise)*; OnRedb redb: $($promise)*; }
    };
}

under_load! {
    a_backup_while_units_commit_is_a_state_that_stood_at_one_moment
    a_backup_goes_on_where_the_store_stood
    a_target_that_fails_harms_nobody
    a_target_that_hangs_is_given_up_and_units_go_on
    one_copy_at_a_time
    a_move_under_load_loses_no_unit_and_the_old_store_is_refused
    a_move_that_goes_back_has_everything_again
    a_move_whose_new_place_differs_is_not_made
    a_store_that_is_closed_while_the_old_one_follows_leaves_both_whole
}

fn embedded(store: &Arc<dyn Store>) -> EmbeddedStore {
    store.as_embedded().expect("an embedded store").clone()
}

fn to(engine: &Arc<MemoryEngine>) -> Target {
    Target::new("the other place", engine.clone(), || Ok(()))
}

fn open(engine: &Arc<MemoryEngine>) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::inline(engine.clone(), Limits::default())
}

async fn off<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("ends")
}

async fn backup(store: &Arc<dyn Store>, target: Target) -> Result<Copied, StoreError> {
    let store = embedded(store);
    off(move || store.backup(target)).await
}

async fn move_to(store: &Arc<dyn Store>, target: Target) -> Result<Moved, StoreError> {
    let store = embedded(store);
    off(move || store.move_to(target)).await
}

/// Eight tasks that commit until they are told to stop, each unit over two tables, the log and a cursor.
struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

const TASKS: u64 = 8;

impl Load {
    async fn begin(store: &Arc<dyn Store>) -> Self {
        let settlements = (0..TASKS).map(|task| start(&format!("l{task}"), 1)).collect();
        request(&**store, Vec::new(), settlements).await.expect("commits");
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..TASKS)
            .map(|task| {
                let (store, stop, committed) = (store.clone(), stop.clone(), committed.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        if stop.load(SeqCst) {
                            return;
                        }
                        unit(&*store, task, number).await;
                        committed.fetch_add(1, SeqCst);
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        Self { stop, committed, tasks }
    }

    /// Lets it commit some more.
    async fn until(&self, more: u64) {
        let upto = self.committed.load(SeqCst) + more;
        while self.committed.load(SeqCst) < upto {
            tokio::task::yield_now().await;
        }
    }

    /// Stops it, and answers how many units committed.
    async fn end(mut self) -> u64 {
        self.stop.store(true, SeqCst);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("ends");
        }
        self.committed.load(SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that fails must not leave it running.
        self.stop.store(true, SeqCst);
    }
}

/// Takes one from the left and puts it to the right, counts itself, replaces two equal large values, publishes and settles.
async fn unit(store: &dyn Store, task: u64, number: u64) {
    let mut unit = begin(store).await;
    let rows = unit.rows().expect("rows");
    rows.add(&ROWS, [b"left".as_slice(), &[task as u8]].concat(), -1, None).expect("adds");
    rows.add(&OTHER, b"right".to_vec(), 1, None).expect("adds");
    rows.add(&OTHER, b"units".to_vec(), 1, None).expect("adds");
    if number.is_multiple_of(8) {
        let large = vec![number as u8; 20_000 + 100 * (number as usize % 50)];
        rows.put(&ROWS, [b"twin".as_slice(), &[task as u8]].concat(), large.clone()).expect("puts");
        rows.put(&OTHER, [b"twin".as_slice(), &[task as u8]].concat(), large).expect("puts");
    }
    let events = vec![logged(number.to_be_bytes())];
    let receipt = unit.commit(CommitRequest { durability: Durability::Buffered, events, settlements: Vec::new() });
    let position = receipt.await.expect("commits").positions[0].0;
    request(store, Vec::new(), vec![done(&format!("l{task}"), position)]).await.expect("settles");
}

fn all(store: &dyn Store, table: &TableSpec) -> Vec<Row> {
    let mut reader = store.reader().expect("reader");
    reader.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Forward, usize::MAX).expect("scans")
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("8 bytes"))
}

/// What every state between two groups holds; answers how many units it holds.
async fn check(store: &EmbeddedStore) -> u64 {
    let report = store.verify().expect("reads");
    assert!(report.is_whole(), "{report}");
    let (rows, other) = (all(store, &ROWS), all(store, &OTHER));
    let sum: i64 = rows.iter().filter(|(key, _)| key.starts_with(b"left")).map(|(_, value)| number(value)).sum();
    let value = |key: &[u8]| other.iter().find(|(own, _)| own == key).map_or(0, |(_, value)| number(value));
    assert_eq!(sum + value(b"right"), 0);
    let units = value(b"units") as u64;
    assert_eq!(value(b"right") as u64, units);
    assert_eq!(positions(store).await, (1..=units).collect::<Vec<_>>());
    let twins = |rows: &[Row]| rows.iter().filter(|(key, _)| key.starts_with(b"twin")).cloned().collect::<Vec<_>>();
    assert_eq!(twins(&rows), twins(&other));
    // Each task settles an event after it is committed, before it commits the next.
    let settled: u64 = store
        .cursors()
        .await
        .expect("reads")
        .iter()
        .map(|(_, cursor)| {
            cursor.done_above().iter().map(|range| range.end - range.start).sum::<u64>() + cursor.low() - 1
        })
        .sum();
    assert!(settled <= units && settled + TASKS >= units, "{settled} settled of {units}");
    units
}

async fn a_backup_while_units_commit_is_a_state_that_stood_at_one_moment<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    let mut last = 0;
    for _ in 0..5 {
        load.until(100).await;
        let before = load.committed.load(SeqCst);
        let engine = Arc::new(MemoryEngine::default());
        let copied = backup(&store, to(&engine)).await.expect("copies");
        assert!(copied.entries > 0 && copied.bytes > 0);
        let after = load.committed.load(SeqCst) + TASKS;
        let copy = open(&engine).expect("opens");
        assert!(copy.was_clean());
        let units = check(&copy).await;
        assert!((before..=after).contains(&units), "{units} units, {before} before and {after} after");
        assert!(units > last);
        last = units;
    }
    let committed = load.end().await;
    assert_eq!(check(&embedded(&store)).await, committed);
}

async fn a_backup_goes_on_where_the_store_stood<P: Place>() {
    let place = P::new();
    let store = place.open();
    put(&*store, b"large", &[1; 50_000]).await;
    assert_eq!(publish(&*store, vec![logged("a"), logged(vec![2; 20_000])]).await, [1, 2]);
    let engine = Arc::new(MemoryEngine::default());
    backup(&store, to(&engine)).await.expect("copies");
    put(&*store, b"large", b"gone").await;
    let copy = open(&engine).expect("opens");
    assert_eq!(get(&copy, b"large"), Some(vec![1; 50_000]));
    assert_eq!(publish(&copy, vec![logged("b")]).await, [3]);
    put(&copy, b"large", &[3; 50_000]).await;
    assert!(copy.verify().expect("reads").is_whole());
    assert_eq!(get(&*store, b"large"), Some(b"gone".to_vec()));
}

/// An engine that takes so many batches and no more.
struct Full {
    engine: MemoryEngine,
    room: AtomicU64,
    panics: bool,
}

impl Full {
    fn new(room: u64, panics: bool) -> Arc<Self> {
        Arc::new(Self { engine: MemoryEngine::default(), room: AtomicU64::new(room), panics })
    }
}

impl Engine for Full {
    fn kind(&self) -> &'static str {
        "full"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.engine.scan(range, direction, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        if self.room.load(SeqCst) == 0 {
            assert!(!self.panics, "no room");
            return Err(StoreError::backend("write", "no room left on the disk"));
        }
        self.room.fetch_sub(1, SeqCst);
        self.engine.apply(batch)
    }

    fn sync(&self, _: Durability) -> Result<(), StoreError> {
        if self.room.load(SeqCst) == 0 { Err(StoreError::backend("sync", "no room")) } else { Ok(()) }
    }
}

async fn a_target_that_fails_harms_nobody<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    load.until(50).await;
    for room in [0, 1, 2, 3, 5, 8] {
        for panics in [false, true] {
            let finished = Arc::new(AtomicBool::new(false));
            let told = finished.clone();
            let target = |finish: bool| {
                let told = told.clone();
                Target::new("full", Full::new(room, panics), move || {
                    told.store(true, SeqCst);
                    if finish { Ok(()) } else { Err(StoreError::backend("finish", "no")) }
                })
            };
            let copied = backup(&store, target(false)).await;
            assert!(copied.is_err(), "room for {room}");
            if room < 2 {
                assert!(!finished.load(SeqCst));
            }
            assert!(move_to(&store, target(false)).await.is_err());
            load.until(10).await;
        }
    }
    assert!(store.poisoned().is_none());
    let engine = Arc::new(MemoryEngine::default());
    backup(&store, to(&engine)).await.expect("a later copy is made");
    check(&open(&engine).expect("opens")).await;
    let committed = load.end().await;
    assert_eq!(check(&embedded(&store)).await, committed);
}

/// An engine that takes nothing until the other end of its gate is gone.
struct Hangs {
    engine: MemoryEngine,
    gate: parking_lot::Mutex<std::sync::mpsc::Receiver<()>>,
    asked: AtomicBool,
}

impl Engine for Hangs {
    fn kind(&self) -> &'static str {
        "hangs"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.engine.scan(range, direction, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.asked.store(true, SeqCst);
        // There is nobody who says anything.
        let _ = self.gate.lock().recv();
        self.engine.apply(batch)
    }

    fn sync(&self, _: Durability) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn a_target_that_hangs_is_given_up_and_units_go_on<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    let (gate, closed) = std::sync::mpsc::channel();
    let target =
        Arc::new(Hangs { engine: MemoryEngine::default(), gate: closed.into(), asked: AtomicBool::new(false) });
    let slow = Target::new("hangs", target.clone(), || Ok(())).lag(100_000, std::time::Duration::from_millis(1));
    let inside = embedded(&store);
    let copying = tokio::task::spawn_blocking(move || inside.backup(slow));
    while !target.asked.load(SeqCst) {
        tokio::task::yield_now().await;
    }
    load.until(500).await;
    drop(gate);
    assert!(matches!(copying.await.expect("ends"), Err(StoreError::FellBehind)));
    let committed = load.end().await;
    assert_eq!(check(&embedded(&store)).await, committed);
}

async fn one_copy_at_a_time<P: Place>() {
    let place = P::new();
    let store = place.open();
    put(&*store, b"a", b"1").await;
    let (inside, other) = (embedded(&store), Arc::new(MemoryEngine::default()));
    let target = Target::new("first", Arc::new(MemoryEngine::default()), || Ok(()));
    let moved = move_to(&store, target).await.expect("moves");
    let second = to(&other);
    assert!(matches!(off(move || inside.backup(second)).await, Err(StoreError::CopyRuns)));
    off(move || moved.finish()).await.expect("ends");
    backup(&store, to(&other)).await.expect("copies");
    assert_eq!(get(&open(&other).expect("opens"), b"a"), Some(b"1".to_vec()));
}

async fn a_move_under_load_loses_no_unit_and_the_old_store_is_refused<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    load.until(100).await;
    let engine = Arc::new(MemoryEngine::default());
    let moved = move_to(&store, to(&engine)).await.expect("moves");
    assert!(moved.copied().entries > 0);
    load.until(100).await;
    off(move || moved.finish()).await.expect("the old one followed");
    load.until(100).await;
    let committed = load.end().await;
    assert_eq!(check(&embedded(&store)).await, committed);
    store.close().await.expect("closes");
    assert_eq!(check(&open(&engine).expect("opens")).await, committed);
    drop(store);
    let refused = place.try_open().err().expect("it moved");
    assert!(matches!(&refused, StoreError::Moved { to } if to == "the other place"), "{refused}");
}

async fn a_move_that_goes_back_has_everything_again<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    load.until(100).await;
    let engine = Arc::new(MemoryEngine::default());
    let moved = move_to(&store, to(&engine)).await.expect("moves");
    load.until(100).await;
    off(move || moved.go_back()).await.expect("goes back");
    load.until(100).await;
    let committed = load.end().await;
    assert_eq!(check(&embedded(&store)).await, committed);
    store.close().await.expect("closes");
    drop(store);
    assert_eq!(check(&embedded(&place.open())).await, committed);
    assert!(matches!(open(&engine), Err(StoreError::Moved { .. })));
    EmbeddedStore::forget_move(&*engine).expect("a map does not fail");
    assert!(check(&open(&engine).expect("opens")).await < committed);
}

/// An engine that forgets one row.
struct Forgets(MemoryEngine);

impl Engine for Forgets {
    fn kind(&self) -> &'static str {
        "forgets"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.0.scan(range, direction, limit)
    }

    fn apply(&self, mut batch: Batch) -> Result<(), StoreError> {
        batch.retain(|key, _| !key.ends_with(b"forgotten"));
        self.0.apply(batch)
    }

    fn sync(&self, _: Durability) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn a_move_whose_new_place_differs_is_not_made<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    put(&*store, b"forgotten", b"1").await;
    let target = Target::new("forgets", Arc::new(Forgets(MemoryEngine::default())), || unreachable!("not finished"));
    let refused = move_to(&store, target).await.err().expect("it differs");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    let committed = load.end().await;
    assert_eq!(get(&*store, b"forgotten"), Some(b"1".to_vec()));
    assert_eq!(check(&embedded(&store)).await, committed);
}

async fn a_store_that_is_closed_while_the_old_one_follows_leaves_both_whole<P: Place>() {
    let place = P::new();
    let store = place.open();
    let load = Load::begin(&store).await;
    load.until(20).await;
    let engine = Arc::new(MemoryEngine::default());
    let moved = move_to(&store, to(&engine)).await.expect("moves");
    let committed = load.end().await;
    store.close().await.expect("closes");
    let _ = off(move || moved.finish()).await;
    drop(store);
    let new = open(&engine).expect("opens");
    assert!(new.was_clean());
    assert_eq!(check(&new).await, committed);
    assert!(matches!(place.try_open(), Err(StoreError::Moved { .. })));
}

const ROLE: &str = "AFTERCOMMIT_TEST_COPIES";

/// The body of a child that commits and makes one backup after another until it is killed; else there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_child_that_copies_does() {
    let Ok(root) = std::env::var(ROLE) else { return };
    let root = std::path::PathBuf::from(root);
    let store: Arc<dyn Store> = Arc::new(SledStore::open(root.join("store")).expect("opens"));
    let load = Load::begin(&store).await;
    for number in 0.. {
        println!("> {}", load.committed.load(SeqCst));
        load.until(20).await;
        let target = SledStore::options().target(root.join(format!("backup-{number}"))).expect("a place");
        backup(&store, target).await.expect("copies");
    }
}

#[tokio::test]
async fn a_kill_during_backups_leaves_the_store_whole_and_no_half_backup() {
    use std::io::BufRead;
    let (mut whole, mut random) = (0, fastrand::Rng::with_seed(11));
    for _ in 0..4 {
        let root = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new(std::env::current_exe().expect("knows itself"))
            .args(["copy::what_a_child_that_copies_does", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, root.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        let lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said =
            lines.map_while(Result::ok).filter_map(|line| line.split_once("> ").map(|(_, said)| said.to_owned()));
        let committed: u64 = said.nth(random.usize(1..3)).and_then(|said| said.parse().ok()).expect("a number");
        // Somewhere within the next backup.
        for _ in 0..random.u32(0..40_000) {
            std::thread::yield_now();
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        let store = SledStore::open(root.path().join("store")).expect("opens");
        // Buffered commits may be lost in a kill, the last half second of them; what is there is whole.
        check(store.embedded()).await;
        assert!(committed > 0);
        for entry in std::fs::read_dir(root.path()).expect("reads") {
            let path = entry.expect("reads").path();
            if path.ends_with("store") {
                continue;
            }
            match SledStore::open(&path) {
                Ok(copy) => {
                    check(copy.embedded()).await;
                    assert!(copy.was_clean());
                    whole += 1;
                }
                Err(StoreError::NotAStore { .. }) => {}
                Err(error) => panic!("{path:?}: {error}"),
            }
        }
    }
    assert!(whole > 0);
}
