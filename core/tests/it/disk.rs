//! A disk that fails or hangs under a running bus: what was acknowledged is there, what is wrong is said, and the bus goes on once
//! the cause is gone: by itself if the disk hung, opened anew if it refused.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::store::embedded::{Batch, EmbeddedStore, Engine, Limits};
use aftercommit::store::{Direction, Row, Store};
use aftercommit::testing::{MovedClock, Recorder};
use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::heard::{until, within};
use crate::scene::{DONE, Heard, Placed, ROWS, counting, done, row};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

/// What tells the child that it is one: the engine, and the folder.
const ROLE: &str = "AFTERCOMMIT_DISK_CHILD";

fn open(engine: &str, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match engine {
        "redb" => Arc::new(RedbStore::options().wait(LONG).open(folder)?),
        _ => Arc::new(SledStore::options().wait(LONG).open(folder)?),
    })
}

async fn start(engine: &str, folder: &Path, observed: &Recorder) -> Bus {
    let store = open(engine, folder).expect("opens");
    let bus = Bus::builder().shared_store(store).observer(observed.clone()).listener(counting("disk.count")).start();
    bus.await.expect("the bus starts")
}

async fn place(bus: &Bus, order: u32) -> Result<(), Error> {
    let placed = bus.transaction(async |tx| {
        ROWS.put(tx, &order, &"placed".repeat(50))?;
        tx.publish(Placed(order))
    });
    placed.await.map(drop)
}

fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// From now on no file of this process is written beyond so many bytes; without a number, as far as was allowed at first.
fn room(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).expect("may be lowered");
}

/// A process whose disk stops taking anything, and takes it again; does nothing unless the parent says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (engine, folder) = role.split_once('|').expect("an engine and a folder");
    let folder = Path::new(folder);
    let observed = Recorder::new();
    let bus = start(engine, folder, &observed).await;
    let mut acknowledged = Vec::new();
    for order in 0..50 {
        place(&bus, order).await.expect("committed");
        acknowledged.push(order);
    }
    within(bus.idle()).await;

    room(Some(4096));
    let mut order = 50;
    let failed = loop {
        match place(&bus, order).await {
            Ok(()) => acknowledged.push(order),
            Err(error) => break error,
        }
        order += 1;
        assert!(order < 2_000, "nothing can be written any more");
    };
    // Refused only if a commit of the store's own met it first.
    let refused = matches!(failed, Error::Store(StoreError::Poisoned { .. }));
    assert!(failed.is_in_doubt() || refused, "{failed:?}");
    assert!(with_causes(&failed).contains("File too large"), "{}", with_causes(&failed));
    assert_eq!(bus.counts().in_doubt > 0, failed.is_in_doubt());
    assert!(
        refused || observed.notices().iter().any(|notice| notice.contains("File too large")),
        "{:?}",
        observed.notices()
    );
    // It says that it stopped, why, and what to do; also to readers.
    let stopped = place(&bus, 3_000).await.expect_err("it takes nothing more");
    for told in [stopped, bus.reader().map(drop).expect_err("it reads nothing more")] {
        let told = with_causes(&told);
        assert!(told.starts_with("the store stopped after a storage error and must be opened anew: "), "{told}");
        assert!(told.contains("File too large"), "{told}");
    }
    bus.shutdown(LONG).await.expect_err("it could not be closed");
    drop(bus);

    // As long as the cause lasts, so does the refusal.
    let refused = with_causes(&open(engine, folder).map(drop).expect_err("nothing can be written"));
    assert!(refused.contains("File too large"), "{refused}");

    room(None);
    let bus = start(engine, folder, &observed).await;
    within(bus.idle()).await;
    let mut reader = bus.reader().expect("a reader");
    let placed: BTreeMap<u32, String> = ROWS.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    let counted: BTreeMap<u32, i64> = DONE.iter(&mut reader).collect::<Result<_, _>>().expect("cells");
    assert!(acknowledged.iter().all(|order| placed.contains_key(order)), "what was acknowledged is there");
    assert!(!placed.contains_key(&3_000), "what was refused is not");
    assert_eq!(counted, placed.keys().map(|order| (*order, 1)).collect(), "each was counted once");
    place(&bus, 3_000).await.expect("it goes on");
    within(bus.idle()).await;
    assert_eq!(done(&bus, 3_000), 1);
    bus.shutdown(LONG).await.expect("in good order");
    println!("\nwent on");
}

fn a_disk_that_takes_no_more(engine: &str) {
    let home = tempfile::tempdir().expect("a folder");
    let this = std::env::current_exe().expect("this binary");
    // A write without room is to be an error, and not the end.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(this)
        .args(["--exact", "disk::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{engine}|{}", home.path().join("shop").display()))
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("went on"), "{said}\n{complained}");
}

#[test]
fn a_disk_that_takes_no_more_is_told_and_nothing_acknowledged_is_lost_on_sled() {
    a_disk_that_takes_no_more("sled");
}

#[test]
fn a_disk_that_takes_no_more_is_told_and_nothing_acknowledged_is_lost_on_redb() {
    a_disk_that_takes_no_more("redb");
}

/// An engine in memory whose syncs do not come back while it hangs.
#[derive(Default)]
struct Hanging {
    map: MemoryEngine,
    /// Whether it hangs, and whether somebody waits for it.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Hanging {
    fn hang(&self, hangs: bool) {
        *self.state.lock() = (hangs, false);
        self.changed.notify_all();
    }

    fn holds_somebody_up(&self) -> bool {
        self.state.lock().1
    }
}

impl Engine for Hanging {
    fn kind(&self) -> &'static str {
        "hanging"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.map.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.map.scan(range, direction, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.map.apply(batch)
    }

    fn sync(&self, _durability: Durability) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        while state.0 {
            state.1 = true;
            self.changed.wait(&mut state);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_is_told_while_it_hangs_and_nothing_fails() {
    let engine = Arc::new(Hanging::default());
    EmbeddedStore::create(&*engine).expect("creates");
    let store = EmbeddedStore::threaded(engine.clone(), Limits::default()).expect("opens");
    let (clock, heard) = (MovedClock::default(), Heard::default());
    let hears = heard.clone();
    let bus = Bus::builder()
        .store(store)
        .clock(clock.clone())
        .slow_after(SECOND)
        .observer(move |notice: &Notice<'_>| hears.note(notice.to_string()))
        .listener(counting("disk.count"))
        .start()
        .await
        .expect("the bus starts");
    place(&bus, 1).await.expect("committed");
    within(bus.idle()).await;

    engine.hang(true);
    let placing = tokio::spawn({
        let bus = bus.clone();
        async move { place(&bus, 2).await }
    });
    until(|| engine.holds_somebody_up()).await;
    until(|| clock.sleepers() == 1).await;
    clock.advance(SECOND);
    until(|| heard.all().len() == 1).await;
    assert_eq!(row(&bus, 1).map(|row| row.len()), Some(300), "who reads is not held up");
    assert!(!placing.is_finished(), "nothing is acknowledged before it is on the disk");
    engine.hang(false);
    within(placing).await.expect("no panic").expect("committed");
    within(bus.idle()).await;
    assert_eq!((done(&bus, 1), done(&bus, 2)), (1, 1));
    let told = heard.all();
    assert!(told.len() == 2 && told.iter().all(|notice| notice.contains("a unit of work")), "{told:?}");
    let counts = bus.counts();
    assert_eq!((counts.in_doubt, counts.worker_failures, counts.stopped_workers), (0, 0, 0));
    within(bus.shutdown(LONG)).await.expect("in good order");
}
