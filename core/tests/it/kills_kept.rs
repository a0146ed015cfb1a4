//! A process that is killed while it parks, replays, archives and gives up what is done: nothing is lost, and nothing shows twice.
//!
//! The child is this test binary run again, as in `kills`. After each few lives the parent opens store and archive and audits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use aftercommit::adapters::archive::ArchiveFolder;
use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::bus::Replay;
use aftercommit::error::{BoxError, StoreError};
use aftercommit::event::Stored;
use aftercommit::listener::{self, Redeliver, Registration, StartAt, fixed};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{Archive, LogEvent, Position, Store};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::heard::within;
use crate::kills::follow;

/// Where a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// An event is parked.
    Parked,
    /// A parked event was worked for, in the commit that resolves it.
    Replayed,
    /// A segment is on the disk, and the log still has what is in it.
    Archived,
    /// The log has given up what could go.
    Tidied,
    /// A listener is about to be put back to the beginning, in the commit that clears what it made.
    Resetting,
    /// It works off what it was put back to.
    PutBack,
}

const STEPS: [Step; 6] = [Step::Parked, Step::Replayed, Step::Archived, Step::Tidied, Step::Resetting, Step::PutBack];

/// What tells the child that it is one: the store, the folder, the step or `parent`, how often it is passed first, the first order.
const ROLE: &str = "AFTERCOMMIT_KILLS_KEPT";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept(u32);

impl Event for Kept {
    const STORED: Option<Stored<Self>> = Some(Stored::json("kills-kept.kept"));
}

impl StoredEvent for Kept {}

const ORDERS: Table<u32, u32> = Table::new("kills-kept.orders");
/// Counted by the listener that parks some.
const PICKED: Counters<u32> = Counters::new("kills-kept.picked");
/// Listed by the one that is put back to the beginning, in few rows, which are all cleared at once.
const LISTED: Table<u32, Vec<u32>> = Table::new("kills-kept.listed");

/// Ends the process when its step has been reached often enough.
#[derive(Clone)]
struct End {
    at: Option<Step>,
    left: Arc<AtomicI64>,
}

impl End {
    fn nowhere() -> Self {
        Self { at: None, left: Arc::default() }
    }

    fn reach(&self, step: Step) {
        if self.at == Some(step) && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::process::abort();
        }
    }
}

/// An archive that says when a segment stands.
struct Told {
    archive: ArchiveFolder,
    end: End,
}

impl Archive for Told {
    fn extent(&self) -> Option<Range<Position>> {
        self.archive.extent()
    }

    fn append(&self, range: Range<Position>, is_whole: bool, events: &[LogEvent]) -> Result<(), StoreError> {
        self.archive.append(range, is_whole, events)?;
        self.end.reach(Step::Archived);
        Ok(())
    }

    fn read(&self, from: Position, max_events: usize, max_bytes: usize) -> Result<Vec<LogEvent>, StoreError> {
        self.archive.read(from, max_events, max_bytes)
    }

    fn erase(&self, event: Uuid) -> Result<bool, StoreError> {
        self.archive.erase(event)
    }
}

fn listeners(end: &End, mended: &Arc<AtomicBool>) -> Vec<Registration> {
    let once = Redeliver::new().attempts(1);
    let again = Redeliver::new().attempts(1_000).backoff(fixed(Duration::from_millis(1)));
    let (picking, summing, mended) = (end.clone(), end.clone(), mended.clone());
    vec![
        listener::on::<Kept>("kept.pick").durable().redeliver(once).takes_tx().call_with(
            move |event, call| -> Result<(), BoxError> {
                let is_picky = event.0.is_multiple_of(3);
                if is_picky && !mended.load(Ordering::SeqCst) {
                    return Err("not this one".into());
                }
                PICKED.add(call.tx()?, &event.0, 1)?;
                let end = picking.clone();
                call.tx()?.after_commit(1, move || {
                    if is_picky {
                        end.reach(Step::Replayed);
                    }
                    Ok(())
                });
                Ok(())
            },
        ),
        listener::on::<Kept>("kept.sum").durable().redeliver(again).takes_tx().call_with(
            move |event, call| -> Result<(), BoxError> {
                let tx = call.tx()?;
                let mut listed = LISTED.get(tx, &(event.0 % 16))?.unwrap_or_default();
                listed.push(event.0);
                LISTED.put(tx, &(event.0 % 16), &listed)?;
                summing.reach(Step::PutBack);
                Ok(())
            },
        ),
    ]
}

fn bus_over(on: &str, folder: &Path, end: &End, mended: &Arc<AtomicBool>) -> Result<BusBuilder, BoxError> {
    let store: Arc<dyn Store> = match on {
        "redb" => Arc::new(RedbStore::open(folder)?),
        _ => Arc::new(SledStore::open(folder)?),
    };
    let archive = Told { archive: ArchiveFolder::open(folder.with_extension("archive"))?, end: end.clone() };
    let parked = end.clone();
    Ok(Bus::builder()
        .shared_store(store)
        .durability(Durability::Flush)
        .retention(Retention::delete_when_done())
        .archive(archive)
        .crash_limit(0)
        .observer(move |notice: &Notice<'_>| {
            if let Notice::Parked { .. } = notice {
                parked.reach(Step::Parked);
            }
        })
        .listeners(listeners(end, mended)))
}

/// Empties what the listener made, which is put back to the beginning in the same commit.
async fn put_back(bus: &Bus, end: &End) -> Result<(), Error> {
    bus.reset("kept.sum", StartAt::Beginning, async |tx| {
        (0..16).try_for_each(|row| LISTED.remove(tx, &row))?;
        end.reach(Step::Resetting);
        Ok::<_, Error>(())
    })
    .await
}

/// A life of the process that is killed; does nothing unless the parent says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [on, folder, step, passes, first] = role.split('|').collect::<Vec<_>>()[..] else {
        panic!("not a role: {role}")
    };
    let at = STEPS.into_iter().find(|one| format!("{one:?}") == step);
    let end = End { at, left: Arc::new(AtomicI64::new(passes.parse().expect("a number"))) };
    let (first, mended) = (first.parse::<u32>().expect("a number"), Arc::new(AtomicBool::new(false)));
    let bus = bus_over(on, Path::new(folder), &end, &mended).expect("the store opens").start().await;
    let bus = bus.expect("the bus starts");
    for order in first..first + 10_000 {
        let done = bus.transaction(async |tx| {
            ORDERS.put(tx, &order, &order)?;
            tx.publish(Kept(order))
        });
        done.await.expect("committed");
        // The harness' own capture is off: this is the process' standard output.
        println!("\nacknowledged {order}");
        match order % 6 {
            1 => {
                bus.idle().await;
                bus.tidy().await.expect("tidies");
                end.reach(Step::Tidied);
            }
            3 => {
                bus.idle().await;
                mended.store(true, Ordering::SeqCst);
                bus.dead_letters("kept.pick").replay(Replay::all()).await.expect("it runs");
                bus.idle().await;
                mended.store(false, Ordering::SeqCst);
            }
            5 => put_back(&bus, &end).await.expect("it runs"),
            _ => {}
        }
    }
}

/// One life of a child; answers the orders it acknowledged.
fn live(on: &str, folder: &Path, step: &str, passes: usize, first: u32, kill_after: Option<usize>) -> Vec<u32> {
    let role = format!("{on}|{}|{step}|{passes}|{first}", folder.display());
    follow("kills_kept::child", (ROLE, &role), step, kill_after)
}

/// Every order of the archive and the log, from the beginning.
async fn streamed(bus: &Bus, count: usize) -> Vec<u32> {
    let mut stream = bus.stream_from::<Kept>(Position(1)).expect("it is stored");
    let mut orders = Vec::new();
    while orders.len() < count {
        orders.push(within(stream.next()).await.expect("the bus runs").expect("an entry, and no gap").event.0);
    }
    assert!(futures::FutureExt::now_or_never(stream.next()).is_none(), "something comes behind the last");
    orders
}

async fn audit(on: &str, folder: &Path, acknowledged: &BTreeSet<u32>, what: &str) {
    let mended = Arc::new(AtomicBool::new(true));
    let bus = bus_over(on, folder, &End::nowhere(), &mended).expect("the store opens").start().await;
    let bus = bus.expect("the bus starts");
    within(bus.idle()).await;
    bus.dead_letters("kept.pick").replay(Replay::all()).await.expect("it runs");
    within(bus.idle()).await;
    assert!(bus.parked().await.expect("the parked ones").is_empty(), "{what}: everything was replayed");
    let mut reader = bus.reader().expect("a reader");
    let orders: BTreeSet<u32> = ORDERS.iter(&mut reader).map(|row| row.expect("a row").0).collect();
    assert!(acknowledged.is_subset(&orders), "{what}: acknowledged and lost");
    let once: BTreeMap<u32, i64> = orders.iter().map(|order| (*order, 1)).collect();
    let picked: BTreeMap<u32, i64> = PICKED.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    assert_eq!(picked, once, "{what}: picked");
    let listed: BTreeMap<u32, Vec<u32>> = LISTED.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    let mut listed: Vec<u32> = listed.into_values().flatten().collect();
    listed.sort_unstable();
    assert!(listed.iter().eq(&orders), "{what}: listed");
    // One publishes after the other, so that the log has them in their order.
    let expected: Vec<u32> = orders.into_iter().collect();
    assert_eq!(streamed(&bus, expected.len()).await, expected, "{what}: each once, archive and log");
    bus.tidy().await.expect("tidies");
    assert_eq!(streamed(&bus, expected.len()).await, expected, "{what}: each once, all archived");
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

async fn killed(on: &'static str, per_step: usize, at_random: usize) {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("shop");
    let mut random = fastrand::Rng::with_seed(11);
    let mut lives: Vec<Option<Step>> = STEPS.iter().flat_map(|step| vec![Some(*step); per_step]).collect();
    lives.extend(vec![None; at_random]);
    random.shuffle(&mut lives);
    let (mut acknowledged, mut first) = (BTreeSet::new(), 0);
    for (number, life) in lives.into_iter().enumerate() {
        let (step, kill_after) = match life {
            Some(step) => (format!("{step:?}"), None),
            None => ("parent".to_owned(), Some(random.usize(1..14))),
        };
        let passes = random.usize(0..3);
        let answered = {
            let (folder, step) = (folder.clone(), step.clone());
            within(tokio::task::spawn_blocking(move || live(on, &folder, &step, passes, first, kill_after))).await
        };
        acknowledged.extend(answered.expect("the child was followed"));
        first += 12_000;
        if random.u8(0..3) == 0 {
            audit(on, &folder, &acknowledged, &format!("life {number}, {step}")).await;
        }
    }
    audit(on, &folder, &acknowledged, "in the end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_parks_replays_archives_and_prunes_on_sled_nothing_is_lost_or_shown_twice() {
    killed("sled", 3, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_parks_replays_archives_and_prunes_on_redb_nothing_is_lost_or_shown_twice() {
    killed("redb", 2, 4).await;
}
