//! How long does a store take to open after a crash, with a million events in it, all of them done, or all of them still owed?
//!
//! A process fills the store and is ended as `kill -9` would, right after its last commit. Then processes that are ended in the
//! same way open it: it is measured until the store is open, until a bus with the durable listener has started, and until the
//! listener is called for the first time, each from the beginning. What the files hold is in the system's memory.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the number of openings, a word that the names of engines must hold, the numbers of events.
#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aftercommit::Bus;
use aftercommit::listener::{self, AckMode, Registration};
use aftercommit::store::Durability;
use aftercommit_compare::arguments::Arguments;
use aftercommit_compare::child;
use aftercommit_compare::contenders::{Engine, Written, open_store};
use aftercommit_compare::measure::{runtime, spread, table};
use aftercommit_compare::work::Work;
use tokio::sync::Notify;

const LISTENER: &str = "benches.owed";
/// Events of one unit of work.
const UNIT: u64 = 256;

fn main() {
    if let Some(words) = child::told() {
        return work(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let arguments = Arguments::of_this_process();
    let (openings, wanted) = (arguments.at(0, 5), arguments.at(1, String::new()));
    let numbers: Vec<u64> = arguments.from(2).iter().map(|text| text.parse().expect("a number")).collect();
    let numbers = if numbers.is_empty() { vec![10_000, 1_000_000] } else { numbers };
    println!("seconds since the beginning, medians of {openings} openings (lowest and highest)\n");
    table(&["", "events", "MB on the disk", "the store is open", "the bus has started", "first delivery"]);
    for engine in Engine::ALL.into_iter().filter(|engine| engine.name().contains(&wanted)) {
        for events in &numbers {
            for state in ["done", "owed"] {
                measure(engine, *events, state, openings);
            }
        }
    }
}

fn measure(engine: Engine, events: u64, state: &str, openings: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    assert_eq!(child::run(&["fill", engine.name(), &path, state, &events.to_string()]), "filled");
    let bytes: u64 = files(folder.path());
    let mut seconds = [(); 3].map(|()| Vec::new());
    for _ in 0..openings {
        let said = child::run(&["open", engine.name(), &path, state]);
        let told: Vec<f64> = said.split(' ').map(|text| text.parse().expect("seconds")).collect();
        seconds.iter_mut().zip(told).for_each(|(all, one)| all.push(one));
    }
    let cells = seconds.iter().filter(|all| !all.is_empty()).map(|all| {
        let [lowest, middle, highest] = spread(all.iter().copied());
        format!("{middle:.3} ({lowest:.3}-{highest:.3})")
    });
    let cells: Vec<_> = cells.chain([String::new()]).take(3).collect();
    println!("| {}, all {state} | {events} | {:.0} | {} |", engine.name(), bytes as f64 / 1e6, cells.join(" | "));
}

/// The bytes of all files below `folder`.
fn files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { path.metadata().expect("reads").len() }).sum()
}

/// What a child does; it never ends in good order.
fn work(words: &[&str]) {
    let ["fill" | "open", engine, path, ..] = words else { panic!("not the words of a child: {words:?}") };
    let (engine, path) = (Engine::named(engine).expect("an engine"), Path::new(path));
    let runtime = runtime();
    match words[3..] {
        [state, events] => runtime.block_on(fill(engine, path, state, events.parse().expect("a number"))),
        [state] => runtime.block_on(open(engine, path, state)),
        _ => panic!("not the words of a child: {words:?}"),
    }
    child::end_as_killed()
}

fn listener(called: &Arc<Notify>) -> Registration {
    let called = called.clone();
    listener::on::<Written>(LISTENER).durable().ack(AckMode::Batch).call(move |_| called.notify_one())
}

async fn fill(engine: Engine, path: &Path, state: &str, events: u64) {
    let store = open_store(engine, path, None).expect("opens");
    let builder = Bus::builder().shared_store(store).durability(Durability::Flush).listener(listener(&Arc::default()));
    let bus = builder.start().await.expect("starts");
    assert!(state == "done" || bus.pause(LISTENER), "it is there");
    for begin in (0..events).step_by(UNIT as usize) {
        let published = bus.transaction(async |tx| {
            (begin..events.min(begin + UNIT)).try_for_each(|_| tx.publish(Written::of(&Work::next())))
        });
        published.await.expect("commits");
    }
    if state == "done" {
        bus.idle().await;
    }
    let owed: u64 = bus.lags().await.expect("reads").iter().map(|lag| lag.behind).sum();
    assert_eq!(owed, if state == "done" { 0 } else { events });
    println!("filled");
}

async fn open(engine: Engine, path: &Path, state: &str) {
    let begun = Instant::now();
    let called = Arc::new(Notify::new());
    let store = open_store(engine, path, None).expect("opens");
    let opened = begun.elapsed();
    assert!(!store.was_clean(), "it was killed");
    let bus = Bus::builder().shared_store(store).listener(listener(&called)).start().await.expect("starts");
    let started = begun.elapsed();
    let seconds = |elapsed: Duration| elapsed.as_secs_f64();
    if state == "owed" {
        called.notified().await;
        println!("{} {} {}", seconds(opened), seconds(started), seconds(begun.elapsed()));
    } else {
        println!("{} {}", seconds(opened), seconds(started));
    }
    std::mem::forget(bus);
}
