//! What does it cost to read: a row by its key, a hundred rows in order, all rows? Beside the bare engine.
//!
//! Each store holds the same rows of 200 bytes under random keys; every read is of a row that is there, and is checked.
//! `bare` reads the engine's bytes and looks at their length. `bare, decoded` makes of them what a table makes: a `String` out of
//! JSON. `port` is what the store answers: bytes, after the checksum that covers them and the key was compared. `table` is what an
//! application calls. So `port` is to be compared with `bare`, and `table` with `bare, decoded`.
//!
//! Folders are made in the system's temporary place; everything fits the caches.
//! Arguments: the seconds of each measurement, the number of rounds, how many rows, a word that the names of engines must hold.
#![allow(missing_docs)]

use std::hint::black_box;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aftercommit::Bus;
use aftercommit::store::{Direction, Durability, ReadRows, Store};
use aftercommit::table::Reader;
use aftercommit_compare::arguments::Arguments;
use aftercommit_compare::contenders::{Engine, ROWS, open_store};
use aftercommit_compare::measure::{runtime, spread, table};
use aftercommit_compare::work::{ROW, key};
use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

const PAGE: usize = 100;
/// What every row holds.
const EXPECTED: [u8; ROW] = [b'r'; ROW];
const BARE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

/// A way to read. Each answers how many rows it has seen.
trait Reads {
    fn point(&mut self, key: &[u8; 16]) -> usize;
    fn page(&mut self, from: &[u8; 16]) -> usize;
    fn all(&mut self) -> usize;
}

fn main() {
    let arguments = Arguments::of_this_process();
    let (span, rounds) = (Duration::from_secs_f64(arguments.at(0, 1.0)), arguments.at(1, 5));
    let rows: u64 = arguments.at(2, 100_000);
    let wanted: String = arguments.at(3, String::new());
    println!(
        "nanoseconds a row, medians of {rounds} rounds of {span:?} over {rows} rows, and the share of the bare engine\n"
    );
    table(&["", "by key", "100 in order", "all in order"]);
    for engine in Engine::ALL.into_iter().filter(|engine| engine.name().contains(&wanted)) {
        compare(engine, rows, span, rounds);
    }
}

fn compare(engine: Engine, rows: u64, span: Duration, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let bare = Bare::fill(engine, &folder.path().join("bare"), rows);
    let store = open_store(engine, &folder.path().join("ours"), None).expect("opens");
    let bus = runtime.block_on(fill(store.clone(), rows));
    let mut ways: [(&str, Box<dyn Reads>); 4] = [
        ("bare", bare.reads(false)),
        ("port", Box::new(Port(store.reader().expect("reads")))),
        ("bare, decoded", bare.reads(true)),
        ("table", Box::new(Typed(bus.reader().expect("reads")))),
    ];
    let found = measured(&mut ways, rows, span, rounds);
    for pair in found.chunks(2) {
        for (name, costs) in pair {
            let cells = costs.iter().zip(&pair[0].1).map(|(cost, bare)| format!("{cost:.0} ({:.2})", cost / bare));
            println!("| {}, {name} | {} |", engine.name(), cells.collect::<Vec<_>>().join(" | "));
        }
    }
    drop(ways);
    runtime.block_on(bus.shutdown(Duration::from_secs(60))).expect("stops");
}

/// What a row costs in each way, by key, by page, and in a scan over all.
fn measured(
    ways: &mut [(&'static str, Box<dyn Reads>)],
    rows: u64,
    span: Duration,
    rounds: usize,
) -> Vec<(&'static str, [f64; 3])> {
    let mut costs = vec![[(); 3].map(|()| Vec::new()); ways.len()];
    for round in 0..rounds {
        for ((_, reads), costs) in ways.iter_mut().zip(&mut costs) {
            let mut random = fastrand::Rng::with_seed(round as u64);
            let mut next = move || key(random.u64(0..rows));
            costs[0].push(timed(span, || {
                assert_eq!(reads.point(black_box(&next())), 1);
                1
            }));
            let mut random = fastrand::Rng::with_seed(round as u64);
            costs[1].push(timed(span, || reads.page(black_box(&key(random.u64(0..rows))))));
            costs[2].push(timed(span, || {
                let seen = reads.all();
                assert_eq!(seen as u64, rows);
                seen
            }));
        }
    }
    ways.iter().zip(costs).map(|((name, _), costs)| (*name, costs.map(|costs| spread(costs)[1]))).collect()
}

/// The nanoseconds a row of what reads rows again and again for so long.
fn timed(span: Duration, mut reads: impl FnMut() -> usize) -> f64 {
    let begun = Instant::now();
    let mut seen = 0;
    while begun.elapsed() < span {
        // Looking at the clock is spread over some reads.
        for _ in 0..16 {
            seen += reads();
            if begun.elapsed() >= span * 2 {
                break;
            }
        }
    }
    begun.elapsed().as_nanos() as f64 / seen as f64
}

fn row() -> String {
    "r".repeat(ROW)
}

/// Commits the rows, and answers the bus they lie behind.
async fn fill(store: Arc<dyn Store>, rows: u64) -> Bus {
    let bus = Bus::builder().shared_store(store).durability(Durability::Flush).start().await.expect("starts");
    for begin in (0..rows).step_by(256) {
        let put = bus.transaction(async |tx| {
            (begin..rows.min(begin + 256)).try_for_each(|number| ROWS.put(tx, &key(number), &row()))
        });
        put.await.expect("commits");
    }
    bus
}

/// What a table makes of a row's bytes.
fn decode(bytes: &[u8]) -> usize {
    serde_json::from_slice::<String>(bytes).expect("a row").len()
}

/// What the bare engines look at.
fn look(bytes: &[u8], decoded: bool) -> usize {
    // Whoever reads a row looks at its bytes, not at their number alone.
    assert!(if decoded { decode(bytes) == ROW } else { bytes[1..bytes.len() - 1] == EXPECTED });
    1
}

/// An engine alone, with the rows as JSON.
enum Bare {
    Sled(sled::Db),
    Redb(Database),
}

impl Bare {
    fn fill(engine: Engine, path: &Path, rows: u64) -> Self {
        let value = serde_json::to_vec(&row()).expect("JSON");
        match engine {
            Engine::Sled => {
                let config = sled::Config::new().path(path).cache_capacity(128 << 20).segment_size(8 << 20);
                let db = config.flush_every_ms(None).open().expect("opens");
                (0..rows).for_each(|number| drop(db.insert(key(number), &value[..]).expect("is written")));
                db.flush().expect("is flushed");
                Self::Sled(db)
            }
            Engine::Redb => {
                let db = Database::builder().set_cache_size(128 << 20).create(path).expect("opens");
                let change = db.begin_write().expect("begins");
                {
                    let mut table = change.open_table(BARE).expect("a table");
                    for number in 0..rows {
                        table.insert(&key(number)[..], &value[..]).expect("is written");
                    }
                }
                change.commit().expect("commits");
                Self::Redb(db)
            }
        }
    }

    fn reads(&self, decoded: bool) -> Box<dyn Reads> {
        match self {
            Self::Sled(db) => Box::new(OfSled { db: db.clone(), decoded }),
            Self::Redb(db) => {
                let table = db.begin_read().expect("begins").open_table(BARE).expect("a table");
                Box::new(OfRedb { table, decoded })
            }
        }
    }
}

struct OfSled {
    db: sled::Db,
    decoded: bool,
}

impl Reads for OfSled {
    fn point(&mut self, key: &[u8; 16]) -> usize {
        look(&self.db.get(key).expect("reads").expect("is there"), self.decoded)
    }

    fn page(&mut self, from: &[u8; 16]) -> usize {
        self.db.range(&from[..]..).take(PAGE).map(|row| look(&row.expect("reads").1, self.decoded)).sum()
    }

    fn all(&mut self) -> usize {
        self.db.iter().map(|row| look(&row.expect("reads").1, self.decoded)).sum()
    }
}

struct OfRedb {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    decoded: bool,
}

impl Reads for OfRedb {
    fn point(&mut self, key: &[u8; 16]) -> usize {
        look(redb::ReadableTable::get(&self.table, &key[..]).expect("reads").expect("is there").value(), self.decoded)
    }

    fn page(&mut self, from: &[u8; 16]) -> usize {
        let rows = redb::ReadableTable::range(&self.table, &from[..]..).expect("reads");
        rows.take(PAGE).map(|row| look(row.expect("reads").1.value(), self.decoded)).sum()
    }

    fn all(&mut self) -> usize {
        let rows = redb::ReadableTable::iter(&self.table).expect("reads");
        rows.map(|row| look(row.expect("reads").1.value(), self.decoded)).sum()
    }
}

struct Port(Box<dyn ReadRows>);

impl Reads for Port {
    fn point(&mut self, key: &[u8; 16]) -> usize {
        look(&self.0.get(ROWS.spec(), key).expect("reads").expect("is there"), false)
    }

    fn page(&mut self, from: &[u8; 16]) -> usize {
        let range = (Bound::Included(from.to_vec()), Bound::Unbounded);
        let rows = self.0.scan(ROWS.spec(), range, Direction::Forward, PAGE).expect("reads");
        rows.iter().map(|(_, value)| look(value, false)).sum()
    }

    fn all(&mut self) -> usize {
        // As a table does it, page after page.
        let (mut from, mut seen) = (Bound::Unbounded, 0);
        loop {
            let rows = self.0.scan(ROWS.spec(), (from, Bound::Unbounded), Direction::Forward, 1000).expect("reads");
            seen += rows.iter().map(|(_, value)| look(value, false)).sum::<usize>();
            match rows.last() {
                Some((last, _)) if rows.len() == 1000 => from = Bound::Excluded(last.clone()),
                _ => return seen,
            }
        }
    }
}

struct Typed(Reader);

impl Reads for Typed {
    fn point(&mut self, key: &[u8; 16]) -> usize {
        assert_eq!(ROWS.get(&mut self.0, key).expect("reads").expect("is there").len(), ROW);
        1
    }

    fn page(&mut self, from: &[u8; 16]) -> usize {
        let rows = ROWS.range(&mut self.0, *from..).page(PAGE).take(PAGE);
        rows.map(|row| usize::from(row.expect("reads").1.len() == ROW)).sum()
    }

    fn all(&mut self) -> usize {
        ROWS.iter(&mut self.0).map(|row| usize::from(row.expect("reads").1.len() == ROW)).sum()
    }
}
