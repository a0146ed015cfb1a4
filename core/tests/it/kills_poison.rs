//! An event that takes the process with it, deep in what is called and not settled: a few lives tell which one it is, and it parks.
//!
//! The child is this test binary run again, as in `kills`: it delivers a backlog until it is killed by the poison, or all is delivered.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::bus::Replay;
use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, AckMode, Batch, Registration};
use aftercommit::prelude::*;
use aftercommit::store::{ParkedCause, Position, Store};
use serde::{Deserialize, Serialize};

use crate::heard::{Heard, within};

/// What tells the child that it is one: the store, the folder, the way it is called.
const ROLE: &str = "AFTERCOMMIT_KILLS_POISON";
const LISTENER: &str = "poison.taken";
/// The signal of `abort`.
const ABORTED: i32 = 6;

const BACKLOG: u32 = 900;
const KEYS: u32 = 50;
/// Deep in every window, and behind what is called alone first.
const POISON: u32 = 701;
/// How often the process may end while the poison is called alone.
const LIMIT: u32 = 2;
/// Once unmarked, once marked with others, and as often as the limit says.
const ENDS: u32 = 2 + LIMIT;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Dose(u32);

impl Event for Dose {
    const STORED: Option<Stored<Self>> = Some(Stored::json("kills-poison.dose"));

    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend((self.0 % KEYS).to_be_bytes());
        true
    }
}

impl StoredEvent for Dose {}

const TAKEN: Counters<u32> = Counters::new("kills-poison.taken");

/// How the listener is called, and what it did is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Outside the store, and gathered: everything is called and nothing settled when the poison comes.
    Gathered,
    /// As before, eight at once.
    GatheredAtOnce,
    /// In the store, many in one unit of work.
    Batches,
    /// In the store, and what it commits is on the disk much later.
    Buffered,
}

impl Way {
    const ALL: [Self; 4] = [Self::Gathered, Self::GatheredAtOnce, Self::Batches, Self::Buffered];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| format!("{way:?}") == name)
    }

    fn durability(self) -> Durability {
        if self == Way::Buffered { Durability::Buffered } else { Durability::Flush }
    }

    fn in_store(self) -> bool {
        matches!(self, Way::Batches | Way::Buffered)
    }

    /// Does what `taken` says with each event.
    fn listener(self, taken: impl Fn(u32) + Send + Sync + 'static) -> Registration {
        let declared = listener::on::<Dose>(LISTENER).durable();
        let late = AckMode::CountOrTime(100_000, Duration::from_secs(3_600));
        match self {
            Way::Gathered => declared.ack(late).call(move |event| taken(event.0)),
            Way::GatheredAtOnce => declared.ack(late).concurrency(8).call(move |event| taken(event.0)),
            Way::Batches => declared.batch(Batch::new(200, Duration::ZERO)).takes_tx().call_batch(
                move |events, call| -> Result<(), BoxError> {
                    for one in events {
                        taken(one.event.0);
                        TAKEN.add(call.tx()?, &one.event.0, 1)?;
                    }
                    Ok(())
                },
            ),
            Way::Buffered => declared.concurrency(8).takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                taken(event.0);
                Ok(TAKEN.add(call.tx()?, &event.0, 1)?)
            }),
        }
    }
}

fn open(on: &str, folder: &Path) -> Arc<dyn Store> {
    match on {
        "redb" => Arc::new(RedbStore::open(folder).expect("the store opens")),
        _ => Arc::new(SledStore::open(folder).expect("the store opens")),
    }
}

async fn start(on: &str, folder: &Path, way: Way, taken: impl Fn(u32) + Send + Sync + 'static) -> Bus {
    let builder = Bus::builder().shared_store(open(on, folder)).crash_limit(LIMIT).durability(way.durability());
    builder.listener(way.listener(taken)).start().await.expect("the bus starts")
}

async fn stop(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

/// A life of the process that is killed; does nothing unless the parent says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [on, folder, way] = role.split('|').collect::<Vec<_>>()[..] else { panic!("not a role: {role}") };
    if way == "innocent" {
        return live_with_an_innocent(on, Path::new(folder)).await;
    }
    let way = Way::named(way).expect("a way");
    let bus = start(on, Path::new(folder), way, |dose| {
        if dose == POISON {
            std::process::abort();
        }
    });
    let bus = bus.await;
    within(bus.quiet()).await;
    stop(bus).await;
}

/// Answers whether the process ended itself; if not, it delivered everything.
async fn live(on: &str, folder: &Path, way: &str) -> bool {
    let role = format!("{on}|{}|{way}", folder.display());
    let living = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "kills_poison::child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("a child")
    });
    let ended = within(living).await.expect("the child was followed");
    assert!(ended.success() || ended.signal() == Some(ABORTED), "{way} on {on}: {ended}");
    !ended.success()
}

fn folder_in(home: &tempfile::TempDir) -> PathBuf {
    home.path().join("store")
}

async fn parks_the_poison(on: &str, way: Way) {
    let home = tempfile::tempdir().expect("a folder");
    let folder = folder_in(&home);
    let bus = start(on, &folder, way, |_| {}).await;
    assert!(bus.pause(LISTENER), "it is there");
    let published = bus.transaction(async |tx| (0..BACKLOG).try_for_each(|dose| tx.publish(Dose(dose))));
    let positions = published.await.expect("committed").positions;
    stop(bus).await;

    let mut ends = 0;
    while live(on, &folder, &format!("{way:?}")).await {
        ends += 1;
        assert!(ends <= ENDS, "{way:?} on {on}: it takes the process with it again and again");
    }

    let heard = Heard::new();
    let to = heard.clone();
    let bus = start(on, &folder, way, move |dose| to.note(dose.to_string())).await;
    within(bus.idle()).await;
    let parked = bus.dead_letters(LISTENER).page(Position(0), 999).await.expect("readable");
    let poison = positions[POISON as usize];
    let behind: Vec<u32> = (POISON..BACKLOG).filter(|dose| dose % KEYS == POISON % KEYS).collect();
    let expected: Vec<_> = behind.iter().map(|dose| positions[*dose as usize]).collect();
    assert_eq!(parked.iter().map(|one| one.position).collect::<Vec<_>>(), expected, "{way:?} on {on}");
    let cause = |at: Position| if at == poison { ParkedCause::Crashed(LIMIT) } else { ParkedCause::Behind(poison) };
    assert!(parked.iter().all(|one| one.cause == cause(one.position)), "{way:?} on {on}: {parked:?}");
    assert!(heard.all().is_empty(), "{way:?} on {on}: everything else was settled");
    let replayed = bus.dead_letters(LISTENER).replay(Replay::all()).await.expect("it runs");
    assert_eq!(replayed, 1);
    // What is gathered is settled at the end.
    within(bus.quiet()).await;
    assert_eq!(heard.all(), behind.iter().map(u32::to_string).collect::<Vec<_>>(), "mended, in order");
    if way.in_store() {
        let mut reader = bus.reader().expect("a reader");
        let taken: Vec<(u32, i64)> = TAKEN.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
        assert_eq!(taken, (0..BACKLOG).map(|dose| (dose, 1)).collect::<Vec<_>>(), "{way:?} on {on}: each once");
    }
    stop(bus).await;
    let store = open(on, &folder);
    let report = store.as_embedded().expect("it is embedded").verify().expect("readable");
    assert!(report.is_whole(), "{way:?} on {on}: no mark is left: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_deep_in_what_is_gathered_parks_on_sled() {
    parks_the_poison("sled", Way::Gathered).await;
    parks_the_poison("sled", Way::GatheredAtOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_deep_in_what_is_gathered_parks_on_redb() {
    parks_the_poison("redb", Way::Gathered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_deep_in_a_batch_parks() {
    parks_the_poison("sled", Way::Batches).await;
    parks_the_poison("redb", Way::Batches).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_deep_in_buffered_deliveries_parks() {
    parks_the_poison("sled", Way::Buffered).await;
    parks_the_poison("redb", Way::Buffered).await;
}

/// One event ends the first life; in the second its call comes back, and something else ends the process.
async fn live_with_an_innocent(on: &str, folder: &Path) {
    let is_first = !folder.exists();
    let bus = start(on, folder, Way::Buffered, move |_| {
        if is_first {
            std::process::abort();
        }
    });
    let bus = bus.await;
    if is_first {
        let published = bus.transaction(async |tx| {
            tx.set_durability(Durability::Flush);
            tx.publish(Dose(1))
        });
        published.await.expect("committed");
    }
    within(bus.idle()).await;
    std::process::abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_came_back_is_not_blamed_for_another_end() {
    for on in ["sled", "redb"] {
        let home = tempfile::tempdir().expect("a folder");
        let folder = folder_in(&home);
        assert!(live(on, &folder, "innocent").await);
        assert!(live(on, &folder, "innocent").await);
        let store = open(on, &folder);
        assert_eq!(store.suspects().await.expect("readable"), [], "{on}");
    }
}
