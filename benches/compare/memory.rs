//! How much memory does a store take under load, beside what its cache and its queue were given?
//!
//! Each measurement is a process of its own: 64 tasks commit units of work with a row and an event, until so many bytes of
//! rows are stored, several times what the cache holds, while a durable listener drains. It says the most memory it ever held.
//! The first line is the same process with a store in memory that committed one unit: what runtime and program take.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the MiB of rows, a word that the names of engines must hold.
#![allow(missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aftercommit::Bus;
use aftercommit::adapters::memory::MemoryStore;
use aftercommit::listener::{self, AckMode};
use aftercommit::store::Store;
use aftercommit_compare::arguments::Arguments;
use aftercommit_compare::child;
use aftercommit_compare::contenders::{Engine, ROWS, Written, open_store, text};
use aftercommit_compare::measure::{peak_memory, runtime, table};
use aftercommit_compare::work::{ROW, Work};

const TASKS: u64 = 64;
const CACHES: [u64; 3] = [16, 64, 128];
/// The bytes of a row: an ordinary one, and one that is cut into pieces.
const SIZES: [usize; 2] = [ROW, 64 << 10];

fn main() {
    if let Some(words) = child::told() {
        return work(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let arguments = Arguments::of_this_process();
    let (stored, wanted): (u64, String) = (arguments.at(0, 400), arguments.at(1, String::new()));
    let nothing = held(&["nothing", "0", "200", "1"]);
    println!("the most memory that a process held, MiB; {nothing:.0} of them without a store on the disk\n");
    table(&["", "bytes of a row", "units", "cache", "held at most", "beyond cache and program"]);
    for engine in Engine::ALL.into_iter().filter(|engine| engine.name().contains(&wanted)) {
        for size in SIZES {
            let units = (stored << 20) / size as u64;
            for cache in CACHES {
                let words = [&cache.to_string(), &size.to_string(), &units.to_string()].map(|word| word.to_owned());
                let held = held(&[engine.name(), &words[0], &words[1], &words[2]]);
                let beyond = held - nothing - cache as f64;
                println!("| {} | {size} | {units} | {cache} | {held:.0} | {beyond:.0} |", engine.name());
            }
        }
    }
}

fn held(words: &[&str]) -> f64 {
    child::run(words).parse().expect("MiB")
}

/// What a child does.
fn work(words: &[&str]) {
    let [engine, numbers @ ..] = words else { panic!("not the words of a child: {words:?}") };
    let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().expect("a number")).collect();
    let [cache, size, units] = numbers[..] else { panic!("not the words of a child: {words:?}") };
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> = match Engine::named(engine) {
        Some(engine) => open_store(engine, folder.path(), Some(cache << 20)).expect("opens"),
        None => Arc::new(MemoryStore::new()),
    };
    runtime().block_on(load(store, size as usize, units));
    println!("{}", peak_memory());
}

async fn load(store: Arc<dyn Store>, size: usize, units: u64) {
    let drained = Arc::new(AtomicU64::new(0));
    let drains = drained.clone();
    let listener = listener::on::<Written>("benches.beside").durable().ack(AckMode::Batch).call(move |_| {
        drains.fetch_add(1, Ordering::Relaxed);
    });
    let bus = Bus::builder().shared_store(store).listener(listener).start().await.expect("starts");
    let left = Arc::new(AtomicU64::new(units));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (bus, left) = (bus.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let work = Work::next();
                    let row = text(&work.row).repeat(size / ROW);
                    let done = bus.transaction(async |tx| {
                        ROWS.put(tx, &work.key, &row)?;
                        tx.publish(Written::of(&work))
                    });
                    done.await.expect("commits");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    bus.idle().await;
    assert_eq!(drained.load(Ordering::Relaxed), units);
    bus.shutdown(Duration::from_secs(60)).await.expect("stops");
}
