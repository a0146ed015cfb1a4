//! How many units of work with one row and one stored event become durable in a second, by 1 and by 64 committers?
//!
//! Every contender makes each unit survive a power cut before it is acknowledged: something is synced for every group.
//! The raw file is the limit: preallocated, one write and one fdatasync a group, and nothing can be read back by key.
//! One committer of a contender calls it in its own thread; 64 are tasks that hand their units to a thread, which takes what waits.
//! The bus is used as an application would, from tasks in both cases.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the seconds of each measurement, the number of rounds, a word that the names of contenders must hold, the numbers of
//! committers.
#![allow(missing_docs)]

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aftercommit::Bus;
use aftercommit::adapters::sled::SledStore;
use aftercommit::event::{Event, EventSlot, Stored, StoredEvent};
use aftercommit::table::Table;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const ROW: usize = 200;
const EVENT: usize = 300;

/// A unit of work: a row under a random key, and an event.
struct Work {
    key: [u8; 16],
    row: Vec<u8>,
    event: Vec<u8>,
}

impl Work {
    fn next() -> Self {
        Self { key: random_key(), row: vec![b'r'; ROW], event: vec![b'e'; EVENT] }
    }
}

/// A different key each time, far from the last.
fn random_key() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // Odd factors, so that no two numbers meet.
    let high = next.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&high.to_be_bytes());
    key[8..].copy_from_slice(&next.to_be_bytes());
    key
}

/// Makes whole groups durable.
trait Groups: Send {
    fn commit(&mut self, group: &[Work]);
    /// How many units it holds; checked after each measurement.
    fn units(&self) -> u64;
}

struct Contender {
    name: &'static str,
    open: fn(&Path) -> Box<dyn Groups>,
}

/// To add one: implement [`Groups`], name it here.
const CONTENDERS: [Contender; 2] = [
    Contender { name: "raw file, preallocated", open: |path| Box::new(RawFile::new(path)) },
    Contender { name: "sled, one batch, flush, fdatasync", open: |path| Box::new(BareSled::new(path)) },
];

struct RawFile {
    file: File,
    at: usize,
    buffer: Vec<u8>,
    units: u64,
}

/// As long as our journal: making a longer one first would slow down what is measured after it.
const RAW_BYTES: usize = 2 << 20;

impl RawFile {
    fn new(path: &Path) -> Self {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).open(path.join("raw")).expect("a file");
        // Page by page, which makes later writes to single pages cheaper.
        (0..RAW_BYTES / 4096).for_each(|_| file.write_all(&[0; 4096]).expect("is written"));
        file.sync_all().expect("is synced");
        Self { file, at: 0, buffer: Vec::new(), units: 0 }
    }
}

impl Groups for RawFile {
    fn commit(&mut self, group: &[Work]) {
        self.buffer.clear();
        for Work { key, row, event } in group {
            self.buffer.extend_from_slice(key);
            self.buffer.extend_from_slice(row);
            self.buffer.extend_from_slice(event);
        }
        self.buffer.resize(self.buffer.len().next_multiple_of(4096), 0);
        if self.at + self.buffer.len() > RAW_BYTES {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at as u64)).expect("seeks");
        self.file.write_all(&self.buffer).and_then(|()| self.file.sync_data()).expect("is written");
        self.at += self.buffer.len();
        self.units += group.len() as u64;
    }

    fn units(&self) -> u64 {
        self.units
    }
}

struct BareSled {
    db: sled::Db,
    data: File,
    events: u64,
}

impl BareSled {
    fn new(path: &Path) -> Self {
        let config = sled::Config::new().path(path).cache_capacity(128 << 20).segment_size(8 << 20);
        let db = config.flush_every_ms(None).open().expect("sled opens");
        let data = OpenOptions::new().write(true).open(path.join("db")).expect("its file");
        Self { db, data, events: 0 }
    }
}

impl Groups for BareSled {
    fn commit(&mut self, group: &[Work]) {
        let mut batch = sled::Batch::default();
        for Work { key, row, event } in group {
            batch.insert([&b"r"[..], key].concat(), &row[..]);
            batch.insert([&b"l"[..], &self.events.to_be_bytes()].concat(), &event[..]);
            self.events += 1;
        }
        self.db.apply_batch(batch).expect("is applied");
        self.db.flush().expect("is flushed");
        self.data.sync_data().expect("is synced");
    }

    fn units(&self) -> u64 {
        let (rows, events) = (self.db.scan_prefix("r").count(), self.db.scan_prefix("l").count());
        assert_eq!(rows, events);
        rows as u64
    }
}

/// What a measurement came to.
#[derive(Clone, Copy)]
struct Measured {
    /// Units a second.
    rate: f64,
    /// Microseconds of processor time a unit, in user and system mode, of all threads.
    busy: f64,
}

/// Begins a measurement.
struct Clock {
    begun: Instant,
    busy: f64,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), busy: busy() }
    }

    fn stop(&self, units: u64) -> Measured {
        let units = units as f64;
        Measured { rate: units / self.begun.elapsed().as_secs_f64(), busy: (busy() - self.busy) / units }
    }
}

/// The processor time of this process in microseconds, where the system tells it (in hundredths of a second).
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split(' ');
    // User and system time, counted from behind the name.
    fields.skip(12).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// Commits for so long.
fn measure(contender: &Contender, committers: usize, span: Duration, runtime: &Runtime) -> Measured {
    let folder = tempfile::tempdir().expect("a folder");
    let mut groups = (contender.open)(folder.path());
    let clock = Clock::start();
    let begun = clock.begun;
    let (units, groups) = if committers == 1 {
        let mut units = 0;
        while begun.elapsed() < span {
            groups.commit(&[Work::next()]);
            units += 1;
        }
        (units, groups)
    } else {
        let (hand_over, queue) = mpsc::channel::<(Work, oneshot::Sender<()>)>();
        let thread = std::thread::spawn(move || {
            while let Ok(first) = queue.recv() {
                let (work, replies): (Vec<_>, Vec<_>) =
                    std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok()).take(255)).unzip();
                groups.commit(&work);
                for reply in replies {
                    reply.send(()).expect("somebody waits");
                }
            }
            groups
        });
        let units = many(runtime, committers, span, begun, move || {
            let (reply, answer) = oneshot::channel();
            hand_over.send((Work::next(), reply)).expect("the thread lives");
            async move { answer.await.expect("it is answered") }
        });
        (units, thread.join().expect("no panic"))
    };
    let measured = clock.stop(units);
    assert_eq!(groups.units(), units, "{} holds what was committed", contender.name);
    measured
}

/// Lets tasks commit one unit after the other until the time is over; answers how many there were.
fn many<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    committers: usize,
    span: Duration,
    begun: Instant,
    commit: impl Fn() -> F + Clone + Send + 'static,
) -> u64 {
    runtime.block_on(async {
        let tasks: Vec<_> = (0..committers)
            .map(|_| {
                let commit = commit.clone();
                tokio::spawn(async move {
                    let mut units = 0;
                    while begun.elapsed() < span {
                        commit().await;
                        units += 1;
                    }
                    units
                })
            })
            .collect();
        let mut units = 0;
        for task in tasks {
            units += task.await.expect("no panic");
        }
        units
    })
}

const ROWS: Table<[u8; 16], String> = Table::new("benches.rows");

/// Stored although nobody listens.
#[derive(Serialize, Deserialize)]
struct Written {
    text: String,
}

impl Event for Written {
    const STORED: Option<Stored<Self>> = Some(Stored::json("benches.written").logged());

    fn slot() -> Option<&'static EventSlot> {
        static SLOT: EventSlot = EventSlot::new();
        Some(&SLOT)
    }
}

impl StoredEvent for Written {}

const OURS: &str = "aftercommit on sled";

fn measure_ours(committers: usize, span: Duration, runtime: &Runtime) -> Measured {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(folder.path()).expect("opens");
    let bus = runtime.block_on(Bus::builder().store(store).start()).expect("starts");
    let bus = Arc::new(bus);
    let clock = Clock::start();
    let own = bus.clone();
    let units = many(runtime, committers, span, clock.begun, move || {
        let bus = own.clone();
        async move {
            let work = Work::next();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("letters");
            let done = bus.transaction(async |tx| {
                ROWS.put(tx, &work.key, &text(work.row))?;
                // The envelope around it makes it 300 bytes.
                tx.publish(Written { text: text(work.event[..200].to_vec()) })
            });
            assert_eq!(done.await.expect("commits").positions.len(), 1);
        }
    });
    let measured = clock.stop(units);
    let mut reader = bus.reader().expect("reads");
    assert_eq!(ROWS.iter(&mut reader).count() as u64, units, "it holds what was committed");
    runtime.block_on(bus.shutdown(Duration::from_secs(10))).expect("stops");
    measured
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |at: usize, default: f64| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let (span, rounds) = (Duration::from_secs_f64(number(0, 2.0)), number(1, 5.0) as usize);
    let wanted = arguments.get(2).map_or("", |word| word);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let names = CONTENDERS.iter().map(|contender| contender.name).chain([OURS]);
    let names: Vec<_> = names.filter(|name| name.contains(wanted)).collect();
    let committers: Vec<_> = arguments.iter().skip(3).map(|text| text.parse().expect("a number")).collect();
    let committers = if committers.is_empty() { vec![1, 64] } else { committers };
    let mut rates = vec![vec![Vec::new(); committers.len()]; names.len()];
    for _ in 0..rounds {
        for (column, committers) in committers.iter().copied().enumerate() {
            for (row, name) in names.iter().enumerate() {
                let measured = match CONTENDERS.iter().find(|contender| contender.name == *name) {
                    Some(contender) => measure(contender, committers, span, &runtime),
                    None => measure_ours(committers, span, &runtime),
                };
                rates[row][column].push(measured);
            }
        }
    }
    println!(
        "units a second, medians of {rounds} rounds of {span:?} (lowest and highest); processor time of all threads for a unit\n"
    );
    println!("| committers | {} |", committers.iter().map(usize::to_string).collect::<Vec<_>>().join(" | "));
    println!("|---{}|", "|---".repeat(committers.len()));
    for (name, columns) in names.iter().zip(&rates) {
        let cells = columns.iter().map(|measured| {
            let sorted = |of: fn(&Measured) -> f64| {
                let mut all: Vec<_> = measured.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all
            };
            let (rates, busy) = (sorted(|one| one.rate), sorted(|one| one.busy));
            let middle = rounds / 2;
            format!("{:.0} ({:.0}-{:.0}), {:.0} us", rates[middle], rates[0], rates[rounds - 1], busy[middle])
        });
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
