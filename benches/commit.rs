//! What does a unit of work with one row and one stored event cost, alone and among others?
#![allow(missing_docs)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aftercommit::Bus;
use aftercommit::adapters::memory::MemoryStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::event::{Event, EventSlot, Stored, StoredEvent};
use aftercommit::store::{Durability, Store};
use aftercommit::table::Table;
use aftercommit_benches::share;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

const ROWS: Table<u64, String> = Table::new("benches.rows");

/// An event of about 300 bytes that is stored though nobody listens.
#[derive(Serialize, Deserialize)]
struct Written {
    row: u64,
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

static NEXT: AtomicU64 = AtomicU64::new(0);

async fn write(bus: &Bus) -> Result<(), aftercommit::Error> {
    let row = NEXT.fetch_add(1, Ordering::Relaxed);
    let done = bus
        .transaction(async |tx| {
            ROWS.put(tx, &row, &"r".repeat(200))?;
            tx.publish(Written { row, text: "e".repeat(280) })
        })
        .await?;
    assert_eq!(done.positions.len(), 1, "the event is stored");
    Ok(())
}

/// So many units of work by so many tasks; answers the time, and how many there were.
fn run(runtime: &Runtime, bus: &Bus, tasks: u64, units: u64) -> (Duration, u64) {
    let each = units.div_ceil(tasks);
    let first = NEXT.load(Ordering::Relaxed);
    let took = runtime.block_on(async {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        write(&bus).await?;
                    }
                    Ok::<_, aftercommit::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics").expect("every unit commits");
        }
        begun.elapsed()
    });
    let mut reader = bus.reader().expect("the store has tables");
    for row in first..first + each * tasks {
        let text = ROWS.get(&mut reader, &row).expect("the row can be read");
        assert_eq!(text.map(|text| text.len()), Some(200), "the row is stored");
    }
    (took, each * tasks)
}

fn commit(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("commit");
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let sled = |at: usize, durability| {
        let store = SledStore::open(folders[at].path()).expect("the store opens");
        start(&runtime, store, durability)
    };
    let stores = [
        ("memory", start(&runtime, MemoryStore::new(), Durability::Sync)),
        ("sled, flush", sled(0, Durability::Flush)),
        ("sled, sync", sled(1, Durability::Sync)),
    ];
    for (store, bus) in &stores {
        for tasks in [1, 64] {
            group.bench_function(BenchmarkId::new(*store, tasks), |bencher| {
                bencher.iter_custom(|units| {
                    let (took, did) = run(&runtime, bus, tasks, units);
                    share(took, units, did)
                });
            });
        }
    }
    group.finish();
    for (_, bus) in stores {
        runtime.block_on(bus.shutdown(Duration::from_secs(10))).expect("the bus stops");
    }
}

fn start(runtime: &Runtime, store: impl Store, durability: Durability) -> Bus {
    runtime.block_on(Bus::builder().store(store).durability(durability).start()).expect("the bus starts")
}

criterion_group!(benches, commit);
criterion_main!(benches);
