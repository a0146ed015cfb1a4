//! What does it cost to work off a backlog, beside reading and decoding the same log bare, and how much memory does it take?
//!
//! A process publishes the backlog while its listeners are paused. Then each measurement is two processes, one after the other. The first
//! opens the store, and reads and decodes the whole log through the store's port, twice, of which the second counts. The second opens
//! the store and starts a bus whose listener works the backlog off, until everything is settled or the time is over. Each says the most
//! memory it ever held, which must stay below 200 MiB above the store's cache where the backlog is worked off.
//!
//! The second table asks whether an event costs the same however large the backlog is, of however many keys, and beside however many
//! other durable listeners, which are owed none of it and have it all before them too.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the events of the backlog, the number of rounds, a word that `<store>, <way>` must hold, the seconds that one
//! measurement takes at most. With the word `flat` behind them only the second table, with `drain` only the first.
#![allow(missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aftercommit::listener::{self, AckMode, Registration};
use aftercommit::store::{Durability, Position, Store};
use aftercommit::{Bus, Event};
use aftercommit_benches::arguments::Arguments;
use aftercommit_benches::child;
use aftercommit_benches::engine::{Engine, open_store};
use aftercommit_benches::measure::{peak_memory, runtime, spread, table};
use aftercommit_benches::settling::{Placed, Seen, Way, counted, publish, syncs_a_second};
use serde::{Deserialize, Serialize};

/// MiB of the store's cache.
const CACHE: u64 = 64;
/// MiB that a process may hold above that.
const BEYOND: f64 = 200.0;
/// Events of one unit of work.
const UNIT: u64 = 256;
/// Events of a page of the log that is read bare, and its bytes: as many as a durable listener's worker reads at once.
const PAGE: usize = 1024;
const PAGE_BYTES: usize = 1 << 20;

/// What is in a store.
#[derive(Clone, Copy, PartialEq)]
struct Backlog {
    events: u64,
    keys: u32,
    /// How many listeners to other events there are.
    others: usize,
}

/// An event that nobody publishes.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "benches.other")]
struct Other;

fn main() {
    if let Some(words) = child::told() {
        return work(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let arguments = Arguments::of_this_process();
    let (events, rounds): (u64, usize) = (arguments.at(0, 1_000_000), arguments.at(1, 3));
    let (wanted, seconds): (String, f64) = (arguments.at(2, String::new()), arguments.at(3, 30.0));
    let tables: String = arguments.at(4, String::new());
    if tables != "flat" {
        drain(Backlog { events, keys: 100_000, others: 0 }, rounds, &wanted, seconds);
    }
    if tables != "drain" {
        flat(events, rounds, &wanted, seconds);
    }
}

/// Those of the stores and ways whose names hold `wanted`.
fn chosen(wanted: &str) -> impl Iterator<Item = (Engine, Way)> {
    let all = Engine::ALL.into_iter().flat_map(|engine| Way::ALL.map(|way| (engine, way)));
    all.filter(move |(engine, way)| name(*engine, *way).contains(wanted))
}

fn name(engine: Engine, way: Way) -> String {
    format!("{}, {}", engine.name(), way.name())
}

/// A store with a backlog.
struct Filled {
    folder: tempfile::TempDir,
    engine: Engine,
    backlog: Backlog,
}

/// What a measurement came to.
struct Drained {
    /// Events a second, read and decoded bare.
    bare: f64,
    /// Events a second, settled.
    rate: f64,
    settled: u64,
    /// MiB at most; and where it was read bare.
    held: f64,
    held_bare: f64,
}

impl Filled {
    fn new(engine: Engine, backlog: Backlog, ways: &[Way], rounds: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let Backlog { events, keys, others } = backlog;
        let numbers = [events.to_string(), keys.to_string(), others.to_string(), rounds.to_string()];
        let path = folder.path().display().to_string();
        let mut words = vec!["fill", engine.name(), &path];
        words.extend(numbers.iter().map(String::as_str));
        words.extend(ways.iter().map(|way| way.name()));
        assert_eq!(child::run(&words), "filled");
        Self { folder, engine, backlog }
    }

    /// Works the backlog off once in each round; the medians.
    fn drained(&self, way: Way, rounds: usize, seconds: f64) -> Drained {
        let path = self.folder.path().display().to_string();
        let (others, seconds) = (self.backlog.others.to_string(), seconds.to_string());
        let said: Vec<[f64; 5]> = (0..rounds)
            .map(|round| {
                let round = round.to_string();
                let bare = child::run(&["bare", self.engine.name(), &path]);
                let words = ["drain", self.engine.name(), &path, way.name(), &round, &others, &seconds];
                let said = format!("{bare} {}", child::run(&words));
                let mut told = said.split(' ').map(|text| text.parse::<f64>().expect("a number"));
                [(); 5].map(|()| told.next().expect("five numbers"))
            })
            .collect();
        let middle = |at: usize| spread(said.iter().map(|one| one[at]))[1];
        let most = |at: usize| spread(said.iter().map(|one| one[at]))[2];
        let settled = middle(3) as u64;
        Drained { bare: middle(0), rate: middle(2), settled, held: most(4), held_bare: most(1) }
    }
}

fn drain(backlog: Backlog, rounds: usize, wanted: &str, seconds: f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let syncs = syncs_a_second(folder.path(), Duration::from_secs(1));
    println!(
        "a backlog of {} events of {} keys, medians of {rounds} rounds of at most {seconds} s; {syncs:.0} fdatasync a second\n",
        backlog.events, backlog.keys
    );
    table(&[
        "",
        "settled",
        "bare, events a second",
        "events a second",
        "of the bare read",
        "of one fdatasync each",
        "MiB at most",
        "MiB, bare",
    ]);
    let mut too_much = Vec::new();
    for engine in Engine::ALL {
        let ways: Vec<Way> = chosen(wanted).filter(|one| one.0 == engine).map(|one| one.1).collect();
        if ways.is_empty() {
            continue;
        }
        let filled = Filled::new(engine, backlog, &ways, rounds);
        for way in ways {
            let Drained { bare, rate, settled, held, held_bare } = filled.drained(way, rounds, seconds);
            let (share, times, name) = (rate / bare, rate / syncs, name(engine, way));
            println!(
                "| {name} | {settled} | {bare:.0} | {rate:.0} | {share:.2} | {times:.1} | {held:.0} | {held_bare:.0} |"
            );
            too_much.extend((held >= CACHE as f64 + BEYOND).then(|| format!("{name}: {held:.0} MiB")));
        }
    }
    println!();
    assert!(too_much.is_empty(), "more than {BEYOND} MiB above the cache of {CACHE}: {too_much:?}");
}

fn flat(most: u64, rounds: usize, wanted: &str, seconds: f64) {
    let plain = Backlog { events: most / 10, keys: 100, others: 0 };
    let columns: Vec<(String, Backlog)> = [most / 100, most / 10, most]
        .map(|events| (format!("{events} events"), Backlog { events, ..plain }))
        .into_iter()
        .chain([1, 100, 100_000].map(|keys| (format!("{keys} keys"), Backlog { keys, ..plain })))
        .chain([1, 10, 50].map(|others| (format!("{others} others"), Backlog { others, ..plain })))
        .collect();
    println!(
        "microseconds an event, medians of {rounds} rounds; {} events of {} keys beside {} others unless said\n",
        plain.events, plain.keys, plain.others
    );
    let heads: Vec<&str> = std::iter::once("").chain(columns.iter().map(|(head, _)| head.as_str())).collect();
    table(&heads);
    for engine in Engine::ALL {
        let ways: Vec<Way> = chosen(wanted).filter(|one| one.0 == engine).map(|one| one.1).collect();
        let mut costs = vec![Vec::new(); ways.len()];
        for (_, backlog) in &columns {
            let filled = Filled::new(engine, *backlog, &ways, rounds);
            for (way, costs) in ways.iter().zip(&mut costs) {
                costs.push(format!("{:.2}", 1e6 / filled.drained(*way, rounds, seconds).rate));
            }
        }
        for (way, costs) in ways.iter().zip(costs) {
            println!("| {} | {} |", name(engine, *way), costs.join(" | "));
        }
    }
}

/// What a child does.
fn work(words: &[&str]) {
    let number = |word: &str| word.parse::<f64>().expect("a number");
    let engine = |name: &str| Engine::named(name).expect("an engine");
    match words {
        ["fill", on, path, events, keys, others, rounds, ways @ ..] => {
            let ways: Vec<Way> = ways.iter().map(|way| Way::named(way).expect("a way")).collect();
            let listeners = (0..number(rounds) as usize).flat_map(|round| ways.iter().map(move |way| (*way, round)));
            let backlog =
                Backlog { events: number(events) as u64, keys: number(keys) as u32, others: number(others) as usize };
            runtime().block_on(fill(engine(on), Path::new(path), backlog, &listeners.collect::<Vec<_>>()));
            println!("filled");
        }
        ["bare", on, path] => {
            let store = open_store(engine(on), Path::new(path), Some(CACHE << 20)).expect("opens");
            let rate = runtime().block_on(read_twice(store));
            println!("{rate} {}", peak_memory());
        }
        ["drain", on, path, way, round, others, seconds] => {
            let way = Way::named(way).expect("a way");
            let (id, lot) = (id(way, number(round) as usize), way as u32 * 1000 + number(round) as u32);
            let store = open_store(engine(on), Path::new(path), Some(CACHE << 20)).expect("opens");
            let seconds = Duration::from_secs_f64(number(seconds));
            println!("{}", runtime().block_on(measure(store, way, &id, lot, number(others) as usize, seconds)));
        }
        _ => panic!("not the words of a child: {words:?}"),
    }
}

fn id(way: Way, round: usize) -> String {
    format!("benches.{way:?}-{round}")
}

fn others(count: usize) -> impl Iterator<Item = Registration> {
    let ack = AckMode::Count(1000);
    (0..count).map(move |at| listener::on::<Other>(format!("benches.other-{at}")).durable().ack(ack).call(|_| ()))
}

/// Publishes the backlog, which nobody works off.
async fn fill(engine: Engine, path: &Path, backlog: Backlog, listeners: &[(Way, usize)]) {
    let store = open_store(engine, path, Some(CACHE << 20)).expect("opens");
    let paused = listeners.iter().map(|(way, round)| way.listener(&id(*way, *round), &Seen::new(0)));
    let paused: Vec<Registration> = paused.chain(others(backlog.others)).collect();
    let ids: Vec<String> = paused.iter().map(|one| one.descriptor().id.clone()).collect();
    let builder = Bus::builder().shared_store(store).durability(Durability::Flush);
    let bus = builder.listeners(paused).start().await.expect("starts");
    assert!(ids.iter().all(|id| bus.pause(id)), "they are there");
    let mut random = fastrand::Rng::with_seed(5);
    for begin in (0..backlog.events).step_by(UNIT as usize) {
        let count = UNIT.min(backlog.events - begin);
        publish(&bus, &mut random, backlog.keys, count).await.expect("commits");
    }
    bus.shutdown(Duration::from_secs(60)).await.expect("stops");
}

/// How many events a second are read and decoded bare, the second time.
async fn read_twice(store: Arc<dyn Store>) -> f64 {
    read(&*store).await;
    let begun = Instant::now();
    let events = read(&*store).await;
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    store.close().await.expect("closes");
    rate
}

/// Has it worked off.
async fn measure(store: Arc<dyn Store>, way: Way, id: &str, lot: u32, beside: usize, most: Duration) -> String {
    let events = store.delivered_up_to().borrow().0;
    let seen = Seen::new(lot);
    let listeners: Vec<_> = others(beside).chain([way.listener(id, &seen)]).collect();
    let builder = Bus::builder().shared_store(store).listeners(listeners);
    let begun = Instant::now();
    let bus = builder.start().await.expect("starts");
    let is_done = tokio::time::timeout(most, bus.idle()).await.is_ok();
    let (settled, took) = (seen.count(), begun.elapsed());
    assert!(!is_done || settled == events, "each is seen once");
    let rate = settled as f64 / took.as_secs_f64();
    assert!(!is_done || !way.is_exactly_once() || counted(&bus, lot) == events, "each is counted once");
    bus.shutdown(Duration::from_secs(60)).await.expect("stops");
    format!("{rate} {settled} {}", peak_memory())
}

/// Reads and decodes the log, page by page; answers how many events there are.
async fn read(store: &dyn Store) -> u64 {
    let stored = Placed::STORED.expect("it is stored");
    let (mut from, mut events, mut text) = (Position(1), 0, 0);
    loop {
        let page = store.read_log(from, PAGE, PAGE_BYTES).await.expect("reads");
        let Some(last) = page.last() else { break };
        from = last.position.next();
        for event in page {
            text += (stored.decode)(&event.envelope.body).expect("is decoded").text.len();
            events += 1;
        }
    }
    assert!(text as u64 > events, "each has some");
    events
}
