//! The event, and five listeners that account for it, each in its own way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::prelude::*;
use serde::{Deserialize, Serialize};

/// How many publishers there are, each with orders of its own, numbered from 0.
pub(crate) const LANES: u32 = 4;
/// How many shops each lane has; the orders of a shop come in order.
pub(crate) const SHOPS: u64 = 32;
pub(crate) const LISTENERS: [&str; 5] = ["soak.ledger", "soak.carrier", "soak.batch", "soak.fragile", "soak.unordered"];

/// An order. It carries something, so that the store has work.
#[derive(Debug, Clone, Event, Serialize, Deserialize)]
#[event(name = "soak.placed")]
pub(crate) struct Placed {
    #[event(key)]
    pub(crate) lane: u32,
    #[event(key)]
    pub(crate) shop: u64,
    pub(crate) order: u64,
    pub(crate) note: String,
}

/// How often each listener has applied each order that is not accounted for yet: by lane, order and listener.
pub(crate) const APPLIED: Counters<(u32, u64, u8)> = Counters::new("soak.applied");
/// The order that the ledger expects next, by lane and shop; 0 before the first.
const LEDGER: Counters<(u32, u64)> = Counters::new("soak.ledger");
/// What should never have happened, in words.
pub(crate) const VIOLATIONS: Table<u64, String> = Table::new("soak.violations");

/// How often something fails, one in so many calls; 0: nothing fails.
#[derive(Debug, Default)]
pub(crate) struct Trouble(AtomicU64);

impl Trouble {
    pub(crate) fn one_in(calls: u64) -> Self {
        Self(AtomicU64::new(calls))
    }

    fn strikes(&self) -> bool {
        let one_in = self.0.load(Ordering::Relaxed);
        one_in > 0 && fastrand::u64(..one_in) == 0
    }

    /// Orders that fail whenever there is trouble at all, but in one of two calls.
    fn poisons(&self, order: u64) -> bool {
        self.0.load(Ordering::Relaxed) > 0 && order % 211 == 7 && fastrand::bool()
    }
}

/// In the order of each shop.
#[listener(durable, id = "soak.ledger", concurrency = 4)]
fn ledger(event: &Placed, tx: &mut Tx) -> Result<(), Error> {
    let key = (event.lane, event.shop);
    let expected = match LEDGER.get(tx, &key)? {
        0 => event.shop as i64,
        next => next,
    };
    if event.order as i64 != expected {
        let told =
            format!("order {} of lane {} came to the ledger, which expected {expected}", event.order, event.lane);
        VIOLATIONS.put(tx, &fastrand::u64(..), &told)?;
    }
    LEDGER.set(tx, &key, (event.order + SHOPS) as i64)?;
    APPLIED.add(tx, &(event.lane, event.order, 0), 1)
}

/// Beside the store first, then in it.
#[listener(durable, id = "soak.carrier", concurrency = 4, redeliver(attempts = 8, backoff = fixed(Duration::from_millis(20))))]
async fn carrier(event: &Placed, delivery: Delivery, trouble: State<Trouble>) -> Result<Settled, BoxError> {
    tokio::task::yield_now().await;
    if trouble.strikes() {
        return Err("the carrier does not answer".into());
    }
    Ok(delivery.settle(async |tx| APPLIED.add(tx, &(event.lane, event.order, 1), 1)).await?)
}

/// Several at once.
#[listener(durable, id = "soak.batch", batch(max = 32, linger = Duration::from_millis(10)))]
fn batch(events: &[Delivered<Placed>], tx: &mut Tx) -> Result<(), Error> {
    events.iter().try_for_each(|one| APPLIED.add(tx, &(one.event.lane, one.event.order, 2), 1))
}

/// Fails now and then, and parks.
#[listener(durable, id = "soak.fragile", concurrency = 4, redeliver(attempts = 3, backoff = exponential(Duration::from_millis(10)).jitter(0.5)))]
fn fragile(event: &Placed, tx: &mut Tx, trouble: State<Trouble>) -> Result<(), BoxError> {
    APPLIED.add(tx, &(event.lane, event.order, 3), 1)?;
    if trouble.strikes() || trouble.poisons(event.order) { Err("it broke".into()) } else { Ok(()) }
}

/// In no order.
#[listener(durable, id = "soak.unordered", sequence = Unordered, concurrency = 4)]
fn unordered(event: &Placed, tx: &mut Tx) -> Result<(), Error> {
    APPLIED.add(tx, &(event.lane, event.order, 4), 1)
}

pub(crate) fn all() -> Vec<aftercommit::listener::Registration> {
    aftercommit::listed![ledger, carrier, batch, fragile, unordered].into_iter().collect()
}
