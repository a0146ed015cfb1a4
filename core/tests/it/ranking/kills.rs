//! A process that is killed while it counts and rebuilds: each event is in the ranking once, and a rebuild is the same to the bit.
//!
//! The child is this test binary run again, as in `kills`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::clock::Timestamp;
use aftercommit::prelude::*;
use aftercommit::ranking::{Ranking, Windows, Zone};
use aftercommit::store::Store;

use super::{DAY, Sold, Viewed, all, plainly, sold, viewed};
use crate::heard::within;
use crate::kills::follow;

/// What tells the child that it is one: the store, the folder, how many events are measured first, the first number.
const ROLE: &str = "AFTERCOMMIT_KILLS_RANKING";

/// What was published, by number; written in the unit of work that publishes it.
const PUBLISHED: Table<u32, (u64, u32)> = Table::new("kills-ranking.published");

/// A ranking whose process ends when so many events were measured.
fn ranking(left: i64) -> Ranking<u32> {
    let left = Arc::new(AtomicI64::new(left));
    let end = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::process::abort();
        }
    };
    let (views, sales) = (end.clone(), end);
    Ranking::declare("kills.ranking")
        .windows(Windows::daily(Zone::UTC))
        .carry("0.25")
        .from_the_beginning()
        .source("view", "0.1", move |event: &Viewed, credits| {
            views();
            viewed(event, credits);
        })
        .source("sale", "0.7", move |event: &Sold, credits| {
            sales();
            sold(event, credits);
        })
        .build()
        .expect("it can be")
}

async fn started(on: &str, folder: &Path, ranking: &Ranking<u32>) -> Bus {
    let store: Arc<dyn Store> = match on {
        "redb" => Arc::new(RedbStore::open(folder).expect("the store opens")),
        _ => Arc::new(SledStore::open(folder).expect("the store opens")),
    };
    let bus = Bus::builder().shared_store(store).durability(Durability::Flush).crash_limit(0).ranking(ranking);
    bus.start().await.expect("the bus starts")
}

fn event_of(number: u32) -> (u64, u32) {
    (u64::from(number.wrapping_mul(2_654_435_761) >> 8) % 4, number.wrapping_mul(40_503) % 17)
}

/// A life of the process that is killed; does nothing unless the parent says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [on, folder, left, first] = role.split('|').collect::<Vec<_>>()[..] else { panic!("not a role: {role}") };
    let ranking = ranking(left.parse().expect("a number"));
    let bus = started(on, Path::new(folder), &ranking).await;
    let first: u32 = first.parse().expect("a number");
    for number in first..first + 10_000 {
        let (day, item) = event_of(number);
        let done = bus.transaction(async |tx| {
            PUBLISHED.put(tx, &number, &(day, item))?;
            match number % 2 {
                0 => tx.publish(Viewed { item, at: day * DAY }),
                _ => tx.publish(Sold { item, amount: 1.5, at: day * DAY }),
            }
        });
        done.await.expect("committed");
        println!("\nacknowledged {number}");
        if number % 40 == 39 {
            ranking.rebuild(&bus).await.expect("rebuilt");
        }
    }
}

async fn audit(on: &str, folder: &Path, acknowledged: usize) {
    let ranking = ranking(i64::MAX);
    let bus = started(on, folder, &ranking).await;
    within(bus.idle()).await;
    let mut reader = bus.reader().expect("a reader");
    let published: Vec<(u32, (u64, u32))> = PUBLISHED.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    assert!(published.len() >= acknowledged, "acknowledged and lost");
    let plain: Vec<(u64, u32, usize, i64)> = published
        .iter()
        .map(|(number, (day, item))| {
            (day * DAY, *item, (number % 2) as usize, [1_000_000_000, 1_500_000_000][(number % 2) as usize])
        })
        .collect();
    let expected = plainly(&plain, &[100_000, 700_000], 250_000);
    assert!(!ranking.is_rebuilding(), "a rebuild goes on by itself");
    assert_eq!(all(&ranking), expected, "each once");
    let cells: Counters<(u32, Timestamp, u32, String)> = Counters::new("kills.ranking");
    let stored = |bus: &Bus| {
        let mut reader = bus.reader().expect("a reader");
        let rows =
            cells.iter(&mut reader).map(|row| row.map(|((_, window, item, source), sum)| (window, item, source, sum)));
        rows.collect::<Result<Vec<_>, _>>().expect("rows")
    };
    within(ranking.tidy(&bus)).await.expect("tidied");
    let before = stored(&bus);
    within(ranking.rebuild(&bus)).await.expect("rebuilt");
    assert_eq!((all(&ranking), stored(&bus)), (expected, before), "to the bit");
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

async fn killed(on: &'static str, lives: usize) {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("shop");
    let mut random = fastrand::Rng::with_seed(5);
    let mut acknowledged = 0;
    for life in 0..lives {
        // Some end by their own hand, between an event's measure and its commit, some by a signal at any moment.
        let (left, kill_after) =
            if random.bool() { (random.i64(0..90), None) } else { (i64::MAX, Some(random.usize(1..60))) };
        let role = format!("{on}|{}|{left}|{}", folder.display(), life * 12_000);
        let answered =
            tokio::task::spawn_blocking(move || follow("ranking::kills::child", (ROLE, &role), "ranking", kill_after));
        acknowledged += within(answered).await.expect("the child was followed").len();
        if life % 4 == 3 {
            audit(on, &folder, acknowledged).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_each_event_counts_once_and_a_rebuild_is_the_same_to_the_bit_on_sled() {
    killed("sled", 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_each_event_counts_once_and_a_rebuild_is_the_same_to_the_bit_on_redb() {
    killed("redb", 8).await;
}
