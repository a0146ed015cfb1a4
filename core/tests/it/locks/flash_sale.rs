//! The flash sale: 10,000 buyers, 100 units, 64 tasks; and two buses that sell from one stock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aftercommit::bus::Fences;
use aftercommit::error::{LockError, UnitError};
use aftercommit::lock::{AnyKey, Fence};
use aftercommit::prelude::*;
use aftercommit::table::Reader;
use tokio::sync::Barrier;

use crate::scene::bus_on;
use crate::stores::Home;

const BUYERS: u32 = 10_000;
const UNITS: i64 = 100;
const TASKS: u32 = 64;
const PRODUCT: u32 = 7;

/// Units that are left, as a row that is read and written.
const SHELF: Table<u32, i64> = Table::new("sale.shelf");
/// Units that are left, as a counter that cannot go below nothing.
const STOCK: Counters<u32> = Counters::new("sale.stock").floor(0);
/// Who bought.
const BOUGHT: Table<u32, u32> = Table::new("sale.bought");

async fn stocked(home: &dyn Home) -> Bus {
    let bus = bus_on(home).durability(Durability::Buffered).start().await.expect("a bus");
    let stock = bus.transaction(async |tx| {
        SHELF.put(tx, &PRODUCT, &UNITS)?;
        STOCK.add(tx, &PRODUCT, UNITS)
    });
    stock.await.expect("committed");
    bus
}

/// Takes a unit off the shelf, if there is one.
fn take(tx: &mut Tx, buyer: u32) -> Result<bool, Error> {
    let left = SHELF.get(tx, &PRODUCT)?.unwrap_or_default();
    if left == 0 {
        return Ok(false);
    }
    SHELF.put(tx, &PRODUCT, &(left - 1))?;
    BOUGHT.put(tx, &buyer, &1)?;
    Ok(true)
}

async fn with_a_lock(bus: &Bus, buyer: u32) -> Result<bool, Error> {
    let sale = bus.transaction(async |tx| {
        tx.lock(PRODUCT).await?;
        take(tx, buyer)
    });
    Ok(sale.await?.value)
}

async fn optimistic(bus: &Bus, buyer: u32) -> Result<bool, Error> {
    Ok(bus.transaction_retrying(u32::MAX, async |tx: &mut Tx| take(tx, buyer)).await?.value)
}

async fn with_a_floor(bus: &Bus, buyer: u32) -> Result<bool, Error> {
    let sale = bus.transaction(async |tx| {
        STOCK.add(tx, &PRODUCT, -1)?;
        BOUGHT.put(tx, &buyer, &1)
    });
    match sale.await {
        Ok(_) => Ok(true),
        Err(Error::Unit(UnitError::BelowFloor { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every buyer buys once; answers how many got a unit.
async fn sale<F>(bus: &Bus, buy: impl Fn(Bus, u32) -> F) -> u32
where
    F: Future<Output = Result<bool, Error>> + Send + 'static,
{
    let sold = Arc::new(AtomicU32::new(0));
    let buyers: Vec<Vec<F>> = (0..TASKS)
        .map(|task| (0..BUYERS).filter(|buyer| buyer % TASKS == task).map(|buyer| buy(bus.clone(), buyer)).collect())
        .collect();
    let tasks: Vec<_> = buyers
        .into_iter()
        .map(|buyers| {
            let sold = sold.clone();
            tokio::spawn(async move {
                for buying in buyers {
                    if buying.await.expect("a sale is made or refused") {
                        sold.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    sold.load(Ordering::Relaxed)
}

fn bought(reader: &mut Reader) -> usize {
    BOUGHT.range(reader, ..).count()
}

async fn sells_exactly_what_there_is<F>(home: &dyn Home, buy: impl Fn(Bus, u32) -> F)
where
    F: Future<Output = Result<bool, Error>> + Send + 'static,
{
    let bus = stocked(home).await;
    let sold = sale(&bus, buy).await;
    let mut reader = bus.reader().expect("tables");
    assert_eq!((i64::from(sold), bought(&mut reader)), (UNITS, usize::try_from(UNITS).expect("few")));
    assert_eq!(bus.locked_keys(), 0);
}

on_embedded_stores! {
    async fn a_flash_sale_with_locks_sells_exactly_what_there_is(home: &dyn Home) {
        sells_exactly_what_there_is(home, |bus, buyer| async move { with_a_lock(&bus, buyer).await }).await;
    }

    async fn a_flash_sale_of_optimistic_units_sells_exactly_what_there_is(home: &dyn Home) {
        sells_exactly_what_there_is(home, |bus, buyer| async move { optimistic(&bus, buyer).await }).await;
    }

    async fn a_flash_sale_with_a_floor_sells_exactly_what_there_is(home: &dyn Home) {
        sells_exactly_what_there_is(home, |bus, buyer| async move { with_a_floor(&bus, buyer).await }).await;
    }
}

/// A node as another process would be: a bus of its own, with locks of its own, over a store that both have.
async fn node(store: &Arc<dyn aftercommit::store::Store>) -> Bus {
    Bus::builder().shared_store(Arc::new(super::shared::Shared(store.clone()))).start().await.expect("a bus")
}

/// The last unit, sold by two nodes at the same time. Each holds its lock, and neither lock knows of the other.
async fn last_unit(store: &Arc<dyn aftercommit::store::Store>, validated: bool) -> usize {
    let nodes = [node(store).await, node(store).await];
    nodes[0].transaction(async |tx| SHELF.put(tx, &PRODUCT, &1)).await.expect("committed");
    let both_have_read = Barrier::new(2);
    let sell = async |node: &Bus, buyer: u32| -> Result<bool, Error> {
        if !validated {
            // Read outside of the unit that writes: nothing but the lock stands for what was read.
            let _held = node.locks().lock_owned(AnyKey::of(&PRODUCT)).await;
            let left = SHELF.get(&mut node.reader()?, &PRODUCT)?.unwrap_or_default();
            both_have_read.wait().await;
            if left == 0 {
                return Ok(false);
            }
            let sale = node.transaction(async |tx| {
                SHELF.put(tx, &PRODUCT, &(left - 1))?;
                BOUGHT.put(tx, &buyer, &1)
            });
            return sale.await.map(|_| true);
        }
        let first = std::cell::Cell::new(true);
        let sale = node.transaction_retrying(10, async |tx: &mut Tx| {
            tx.lock(PRODUCT).await?;
            let sold = take(tx, buyer)?;
            if first.replace(false) {
                both_have_read.wait().await;
            }
            Ok::<_, Error>(sold)
        });
        Ok(sale.await?.value)
    };
    let (one, other) = tokio::join!(sell(&nodes[0], 1), sell(&nodes[1], 2));
    let sold = [one.expect("sold or refused"), other.expect("sold or refused")];
    assert_eq!(bought(&mut nodes[0].reader().expect("tables")), sold.iter().filter(|sold| **sold).count());
    sold.into_iter().filter(|sold| *sold).count()
}

on_embedded_stores! {
    /// What a local lock does not do, and what the store does without one.
    async fn two_nodes_oversell_with_local_locks_alone_and_do_not_with_the_stores_validation(home: &dyn Home) {
        let store = home.open();
        assert_eq!(last_unit(&store, false).await, 2, "both sold the last unit");
    }

    async fn two_nodes_whose_reads_are_validated_sell_the_last_unit_once(home: &dyn Home) {
        let store = home.open();
        assert_eq!(last_unit(&store, true).await, 1);
    }

    /// A holder whose lease ended while it stood still writes nothing: its fence is past.
    async fn a_late_holder_of_a_remote_lock_is_fenced_off(home: &dyn Home) {
        const FENCES: Fences<u32> = Fences::new("sale.fences");
        let bus = stocked(home).await;
        let sell = async |fence: Fence, buyer: u32| {
            bus.transaction(async |tx| {
                FENCES.pass(tx, &PRODUCT, fence)?;
                take(tx, buyer)
            })
            .await
            .map(|sold| sold.value)
        };
        assert!(sell(Fence(33), 1).await.expect("it holds the lease"));
        assert!(sell(Fence(33), 2).await.expect("it holds the lease still"));
        assert!(sell(Fence(34), 3).await.expect("its lease is later"));
        let late = sell(Fence(33), 4).await;
        assert!(matches!(late, Err(Error::Lock(LockError::Fenced { fence: 33, latest: 34, .. }))), "{late:?}");
        assert_eq!(SHELF.get(&mut bus.reader().expect("tables"), &PRODUCT).expect("a read"), Some(UNITS - 3));
    }
}
