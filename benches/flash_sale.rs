//! What does a sale of 100 units to 10,000 buyers by 64 tasks cost with locks, with optimistic units, with a floor, and in a plain
//! mutex that stores nothing?
//!
//! On a memory store, so that the disk is in none of them. Each sale checks that exactly 100 units were sold. The time is that of
//! one sale to all buyers.
#![allow(missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aftercommit::Bus;
use aftercommit::error::{Error, UnitError};
use aftercommit::table::{Counters, Table};
use aftercommit::transaction::Tx;
use aftercommit_benches::lock::two_threads;
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const BUYERS: u64 = 10_000;
const TASKS: u64 = 64;
const UNITS: i64 = 100;

const SHELF: Table<u64, i64> = Table::new("sale.shelf");
const STOCK: Counters<u64> = Counters::new("sale.stock").floor(0);

fn take(tx: &mut Tx, product: u64) -> Result<bool, Error> {
    let left = SHELF.get(tx, &product)?.unwrap_or_default();
    if left == 0 {
        return Ok(false);
    }
    SHELF.put(tx, &product, &(left - 1))?;
    Ok(true)
}

async fn with_locks(bus: Bus, product: u64) -> Result<bool, Error> {
    let sale = bus.transaction(async |tx| {
        tx.lock(product).await?;
        take(tx, product)
    });
    Ok(sale.await?.value)
}

async fn optimistic(bus: Bus, product: u64) -> Result<bool, Error> {
    Ok(bus.transaction_retrying(u32::MAX, async |tx: &mut Tx| take(tx, product)).await?.value)
}

async fn with_a_floor(bus: Bus, product: u64) -> Result<bool, Error> {
    match bus.transaction(async |tx| STOCK.add(tx, &product, -1)).await {
        Ok(_) => Ok(true),
        Err(Error::Unit(UnitError::BelowFloor { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The time of so many sales, each of a product of its own.
fn sales<F, B>(runtime: &Runtime, bus: &Bus, sales: u64, buy: B) -> Duration
where
    F: Future<Output = Result<bool, Error>> + Send,
    B: Fn(Bus, u64) -> F + Copy + Send + 'static,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut took = Duration::ZERO;
    for _ in 0..sales {
        let product = NEXT.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(async {
            let stocked = bus.transaction(async |tx| {
                SHELF.put(tx, &product, &UNITS)?;
                STOCK.add(tx, &product, UNITS)
            });
            stocked.await.expect("committed");
            let begun = Instant::now();
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let bus = bus.clone();
                    tokio::spawn(async move {
                        let mut sold = 0;
                        for _ in (0..BUYERS).filter(|buyer| buyer % TASKS == task) {
                            sold += i64::from(buy(bus.clone(), product).await.expect("sold or refused"));
                        }
                        sold
                    })
                })
                .collect();
            let mut sold = 0;
            for task in tasks {
                sold += task.await.expect("no task panics");
            }
            took += begun.elapsed();
            assert_eq!(sold, UNITS);
        });
    }
    took
}

fn flash_sale(criterion: &mut Criterion) {
    let runtime = two_threads();
    let bus = runtime.block_on(Bus::builder().start()).expect("the bus starts");
    let mut group = criterion.benchmark_group("flash sale");
    group.sample_size(10);
    group.bench_function("locks", |bencher| bencher.iter_custom(|count| sales(&runtime, &bus, count, with_locks)));
    group.bench_function("optimistic", |bencher| bencher.iter_custom(|count| sales(&runtime, &bus, count, optimistic)));
    group.bench_function("floor", |bencher| bencher.iter_custom(|count| sales(&runtime, &bus, count, with_a_floor)));
    group.bench_function("plain mutex", |bencher| bencher.iter_custom(|count| plain(&runtime, count)));
    group.finish();
}

/// The same buyers at a number behind a mutex: nothing is stored.
fn plain(runtime: &Runtime, sales: u64) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..sales {
        let stock = Arc::new(tokio::sync::Mutex::new(UNITS));
        let begun = Instant::now();
        let sold: i64 = runtime.block_on(async {
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let stock = stock.clone();
                    tokio::spawn(async move {
                        let mut sold = 0;
                        for _ in (0..BUYERS).filter(|buyer| buyer % TASKS == task) {
                            let mut left = stock.lock().await;
                            if *left > 0 {
                                *left -= 1;
                                sold += 1;
                            }
                        }
                        sold
                    })
                })
                .collect();
            let mut sold = 0;
            for task in tasks {
                sold += task.await.expect("no task panics");
            }
            sold
        });
        took += begun.elapsed();
        assert_eq!(sold, UNITS);
    }
    took
}

criterion_group!(benches, flash_sale);
criterion_main!(benches);
