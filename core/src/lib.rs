//! An embedded, in-process event bus for applications that keep data.
//!
//! An event is published inside a unit of work. Listeners run in the phase they declare: at once, before the commit, after
//! the commit, after a rollback, after completion. Durable listeners survive a crash: what they are owed is stored in the very
//! commit that writes the business data, and what they write to the store is applied exactly once.
//!
//! ```standalone_crate
//! use std::time::Duration;
//!
//! use aftercommit::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Key, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
//! pub struct OrderId(pub u64);
//!
//! #[derive(Key, Clone, Copy, Debug, Serialize, Deserialize)]
//! pub struct ProductId(pub u32);
//!
//! #[derive(Event, Clone, Debug, Serialize, Deserialize)]
//! #[event(name = "shop.order-placed", version = 1)] // the stored name: renaming the type orphans nothing
//! pub struct OrderPlaced {
//!     #[event(key)]
//!     pub order: OrderId, // same key = same order of delivery
//!     pub product: ProductId,
//!     pub units: i64,
//! }
//!
//! const STOCK: Counters<ProductId> = Counters::new("shop.stock").floor(0); // never oversold, told at commit
//! const SOLD: Counters<ProductId> = Counters::new("shop.units-sold");
//! const SLIPS: Table<OrderId, String> = Table::new("shop.delivery-slips");
//!
//! /// In the publisher's unit of work, before it commits. `Err` rolls everything back.
//! #[listener(phase = BeforeCommit)]
//! fn reserve_stock(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
//!     STOCK.add(tx, &event.product, -event.units)
//! }
//!
//! /// Once the commit stands. It has no `tx`: the finished one is out of reach by type.
//! #[listener(phase = AfterCommit, order = 10)]
//! fn drop_cached_page(event: &OrderPlaced, pages: State<PageCache>) {
//!     pages.drop_page(event.product);
//! }
//!
//! /// Owed until done, across restarts. Its writes and "done" are one commit: applied exactly once.
//! #[listener(durable, id = "shop.units-sold")]
//! fn count_units(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
//!     SOLD.add(tx, &event.product, event.units)
//! }
//!
//! /// Work outside the store: no unit of work is open while the carrier is called; the id makes the call idempotent;
//! /// then the result and "done" are one short commit.
//! #[listener(durable, id = "shop.book-delivery",
//!     redeliver(attempts = 5, backoff = exponential(Duration::from_millis(100))), concurrency = 8)]
//! async fn book_delivery(event: &OrderPlaced, delivery: Delivery, carrier: State<Carrier>) -> Result<Settled, Error> {
//!     let slip = carrier.book(&delivery.id().to_string(), event.units).await;
//!     delivery.settle(async |tx| SLIPS.put(tx, &event.order, &slip)).await // run again on a conflict
//! }
//! # #[derive(Default)] pub struct PageCache;
//! # impl PageCache { fn drop_page(&self, _: ProductId) {} }
//! # #[derive(Default)] pub struct Carrier;
//! # impl Carrier { async fn book(&self, id: &str, units: i64) -> String { format!("{units} for {id}") } }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().join("shop-data");
//! let bus = Bus::builder()
//!     .store(SledStore::open(&folder)?)
//!     .state(Carrier::default())
//!     .state(PageCache::default())
//!     .linked() // every listener linked into this program; `.listeners(listed![..])` names them instead
//!     .start()
//!     .await?; // wires, refuses what cannot work, takes up what a crash left owed
//! # let _ = || listed![count_units];
//!
//! let product = ProductId(7);
//! bus.transaction(async |tx| STOCK.add(tx, &product, 10)).await?;
//!
//! let done = bus
//!     .transaction(async |tx| {
//!         tx.lock(product).await?; // released after the commit, never before it
//!         let order = OrderId(1);
//!         tx.publish(OrderPlaced { order, product, units: 2 })?;
//!         Ok::<_, Error>(order)
//!     })
//!     .await?;
//! assert_eq!(done.value, OrderId(1)); // done.after_errors: what after-phase listeners answered
//!
//! bus.idle().await; // everything caused so far has settled
//! let mut reader = bus.reader()?;
//! assert_eq!(STOCK.get(&mut reader, &product)?, 8);
//! assert_eq!(SOLD.get(&mut reader, &product)?, 2);
//! assert!(SLIPS.contains(&mut reader, &OrderId(1))?);
//! bus.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//! - [`Bus`] has the verbs; [`Tx`] is what a unit of work lends you; [`prelude`] is what an application imports.
//! - [`mod@listener`] says what a listener may ask for and answer; [`event`] what an event is; [`Phase`] when listeners run.
//! - [`table`] keeps typed rows and counters in the embedded stores of [`adapters`]; [`store`] is the port behind them.
//! - [`lock`] has keyed locks, with or without a bus; [`Tx::lock`] holds one until the outcome is durable.
//! - [`Bus::subscribe`] and [`Bus::stream_from`] read events as streams.
//! - [`error`] holds every error there is, [`observe`] what nobody awaits, `testing` (a feature) what tests need.
//!
//! # Features
//! - `macros` (default): the derive and attribute macros, and listeners found at link time.
//! - `sled` (default): the embedded store on sled.
//! - `redb`: the embedded store on redb.
//! - `archive`: what the log gives up goes into compressed files, which replays and streams read like the log.
//! - `cli`: the program `aftercommit`, for whoever operates a store.
//! - `tracing`: spans around units of work and listener calls.
//! - `metrics`: counters, durations and gauges through the `metrics` facade.
//! - `resilience`: circuit breaker, retry, rate limiter, time limiter, bulkhead and fallback around calls.
//! - `ranking`: live rankings, from exact scores that durable listeners keep.
//! - `tower`: pipelines of policies as layers of `tower`.
//! - `testing`: a clock that tests move, a recorder, a failing store, and runs that a seed decides (`testing::sim`).

mod activity;
pub mod adapters;
pub mod bus;
pub mod clock;
mod consumer;
pub mod error;
pub mod event;
#[cfg(doctest)]
mod guides;
pub mod key;
pub mod listener;
pub mod lock;
pub mod observe;
pub mod prelude;
pub mod publication;
#[cfg(feature = "ranking")]
pub mod ranking;
#[cfg(feature = "resilience")]
pub mod resilience;
pub mod runtime;
pub mod store;
pub mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transaction;

pub use bus::{Bus, Delivery};
pub use error::Error;
pub use event::Event;
pub use key::Key;
pub use transaction::{Phase, Tx};

#[cfg(all(feature = "macros", feature = "ranking"))]
pub use aftercommit_macros::Ranked;
#[cfg(all(feature = "macros", feature = "resilience"))]
pub use aftercommit_macros::resilient;
#[cfg(all(feature = "macros", feature = "testing"))]
pub use aftercommit_macros::sim_test;
#[cfg(feature = "macros")]
pub use aftercommit_macros::{Event, Key, idempotent, listener, listeners, locked, metered};

/// What the macros' expansions name; nothing here is for hand-written code.
#[doc(hidden)]
pub mod __private {
    pub use crate::event::{EventSlot, Stored};
    pub use crate::listener::{Declared, Linked, Registration, must_settle};
    pub use crate::lock::obtained;
    #[cfg(feature = "resilience")]
    pub use crate::resilience::attribute as resilient;
    pub use crate::transaction::CallFuture;
    #[cfg(feature = "macros")]
    pub use inventory;
}
