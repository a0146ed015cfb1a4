//! Is a ranking the bottleneck of its listener? A backlog of events is worked off by a durable listener that adds to one cell, and by a
//! ranking by day, which measures, stores and ranks: exactly once, a second, on each store.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: events, rounds.
#![allow(missing_docs)]

use std::time::Instant;

use aftercommit::adapters::memory::MemoryStore;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Registration, Sequence};
use aftercommit::prelude::*;
use aftercommit::ranking::{Ranking, Windows, Zone};
use aftercommit_benches::arguments::Arguments;
use aftercommit_benches::measure::{runtime, spread, table};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Viewed {
    item: u64,
}

impl Event for Viewed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("benches.viewed").logged());
}

impl StoredEvent for Viewed {}

const VIEWS: Counters<u64> = Counters::new("benches.views");
const ITEMS: u64 = 10_000;

fn counter() -> Registration {
    let add = |event: &Viewed, call: &mut listener::Call<'_>| VIEWS.add(call.tx().expect("a unit"), &event.item, 1);
    listener::on::<Viewed>("benches.count").durable().takes_tx().sequence(Sequence::Unordered).call_with(add)
}

fn ranking() -> Ranking<u64> {
    Ranking::declare("benches.ranking")
        .windows(Windows::daily(Zone::UTC))
        .source("view", "0.1", |event: &Viewed, credits| credits.one(event.item))
        .build()
        .expect("it can be")
}

/// Works off a backlog of `events`; answers how many a second.
async fn rate(store: std::sync::Arc<dyn aftercommit::store::Store>, ranked: bool, events: u64) -> f64 {
    let ranking = ranking();
    let bus = Bus::builder().shared_store(store).durability(Durability::Flush);
    let bus = if ranked { bus.ranking(&ranking) } else { bus.listener(counter()) }.start().await.expect("starts");
    let id = if ranked { "benches.ranking.view" } else { "benches.count" };
    assert!(bus.pause(id));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..events / 500 {
        let published = bus.transaction(async |tx| {
            (0..500).try_for_each(|_| tx.publish(Viewed { item: (random.f64().powi(4) * ITEMS as f64) as u64 }))
        });
        published.await.expect("commits");
    }
    let begun = Instant::now();
    assert!(bus.resume(id));
    bus.idle().await;
    let seconds = begun.elapsed().as_secs_f64();
    if ranked {
        let whole: i64 = ranking
            .windows()
            .iter()
            .filter_map(|begin| {
                ranking.window(*begin, |board| board.unordered().map(|(_, score)| score.0).sum::<i64>())
            })
            .sum();
        assert_eq!(whole, (events / 500 * 500 * 100_000) as i64, "each once");
    }
    bus.shutdown(std::time::Duration::from_secs(60)).await.expect("stops");
    events as f64 / seconds
}

fn main() {
    let arguments = Arguments::of_this_process();
    let (events, rounds): (u64, usize) = (arguments.at(0, 100_000), arguments.at(1, 3));
    let runtime = runtime();
    table(&["events a second: lowest, middle, highest", "one cell", "ranking"]);
    for store in ["memory", "sled", "redb"] {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (ranked, rates) in [false, true].into_iter().zip(&mut rates) {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("store");
                let store: std::sync::Arc<dyn aftercommit::store::Store> = match store {
                    "sled" => std::sync::Arc::new(SledStore::open(&path).expect("opens")),
                    "redb" => std::sync::Arc::new(RedbStore::open(&path).expect("opens")),
                    _ => std::sync::Arc::new(MemoryStore::new()),
                };
                rates.push(runtime.block_on(rate(store, ranked, events)));
            }
        }
        let shown = rates.map(|rates| spread(rates).map(|rate| format!("{rate:.0}")).join(" / "));
        println!("| {store} | {} | {} |", shown[0], shown[1]);
    }
}
