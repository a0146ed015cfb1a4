//! A shop's orders, whole: an event, tables, listeners before and after the commit and durable ones, a store on the disk.
//!
//! `cargo run -p aftercommit --example first`; run it again, and it goes on with what it stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Key, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct OrderId(u64);

#[derive(Key, Clone, Copy, Debug, Serialize, Deserialize)]
struct ProductId(u32);

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "shop.order-placed", version = 1)] // the stored name: renaming the type orphans nothing
struct OrderPlaced {
    #[event(key)]
    order: OrderId, // same key = same order of delivery
    product: ProductId,
    units: i64,
}

const STOCK: Counters<ProductId> = Counters::new("shop.stock").floor(0); // never oversold, told at commit
const SOLD: Counters<ProductId> = Counters::new("shop.units-sold");
const ORDERS: Table<OrderId, String> = Table::new("shop.orders");
const SLIPS: Table<OrderId, String> = Table::new("shop.delivery-slips");

/// In the publisher's unit of work, before it commits. `Err` rolls everything back.
#[listener(phase = BeforeCommit)]
fn reserve_stock(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
    STOCK.add(tx, &event.product, -event.units)
}

/// Once the commit stands. It has no `tx`: the finished one is out of reach by type.
#[listener(phase = AfterCommit, order = 10)]
fn drop_cached_page(event: &OrderPlaced, pages: State<PageCache>) {
    pages.drop_page(event.product);
}

/// Owed until done, across restarts. Its writes and "done" are one commit: applied exactly once.
#[listener(durable, id = "shop.units-sold")]
fn count_units(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
    SOLD.add(tx, &event.product, event.units)
}

/// Work outside the store: no unit of work is open while the carrier is called; the id makes the call idempotent;
/// then the result and "done" are one short commit.
#[listener(durable, id = "shop.book-delivery",
    redeliver(attempts = 5, backoff = exponential(Duration::from_millis(100))), concurrency = 8)]
async fn book_delivery(event: &OrderPlaced, delivery: Delivery, carrier: State<Carrier>) -> Result<Settled, Error> {
    let slip = carrier.book(&delivery.id().to_string(), event.units).await;
    delivery.settle(async |tx| SLIPS.put(tx, &event.order, &slip)).await // run again on a conflict
}

/// A state of the bus: what listeners ask for with `State<PageCache>`.
#[derive(Default)]
struct PageCache {
    dropped: AtomicU64,
}

impl PageCache {
    fn drop_page(&self, product: ProductId) {
        let times = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        println!("the cached page of product {} is dropped, page {times} of this run", product.0);
    }
}

/// Somebody else's service, which a real shop would reach over the network.
struct Carrier;

impl Carrier {
    async fn book(&self, id: &str, units: i64) -> String {
        format!("{units} units, booked as {id}")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = std::env::temp_dir().join("aftercommit-first");
    let bus = Bus::builder()
        .store(SledStore::open(&folder)?)
        .state(Carrier)
        .state(PageCache::default())
        .observer(|notice: &Notice<'_>| eprintln!("{notice}")) // what nobody awaits: redeliveries, parked events
        .linked() // every listener linked into this program; `.listeners(listed![..])` names them instead
        .start()
        .await?; // wires, refuses what cannot work, takes up what a crash left owed

    let product = ProductId(7);
    bus.transaction(async |tx| STOCK.add(tx, &product, 10)).await?;

    let placed = bus
        .transaction(async |tx| {
            tx.lock(product).await?; // released after the commit, never before it
            let last = ORDERS.iter(tx).next_back().transpose()?;
            let order = OrderId(last.map_or(1, |(OrderId(number), _)| number + 1));
            ORDERS.put(tx, &order, &"2 units".to_owned())?;
            tx.publish(OrderPlaced { order, product, units: 2 })?;
            Ok::<_, Error>(order)
        })
        .await?;
    for error in &placed.after_errors {
        eprintln!("{error}"); // an after-phase listener failed; the order stands
    }

    let refused =
        bus.transaction(async |tx| tx.publish(OrderPlaced { order: OrderId(0), product, units: 1_000_000 })).await;
    println!("an order of a million: {}", refused.err().map_or("taken".to_owned(), |error| error.to_string()));

    bus.idle().await; // everything caused so far has settled
    let mut reader = bus.reader()?;
    println!("order {} is placed", placed.value.0);
    println!("in stock: {}", STOCK.get(&mut reader, &product)?);
    println!("sold: {}", SOLD.get(&mut reader, &product)?);
    for slip in SLIPS.iter(&mut reader) {
        let (order, slip) = slip?;
        println!("delivery of order {}: {slip}", order.0);
    }
    println!("stored in {}", folder.display());

    bus.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
