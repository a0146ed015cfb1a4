//! A shop under every trouble there is: crashes, power cuts, storage errors, conflicts, commits in doubt, a carrier that fails,
//! orders that poison a listener until they are healed. In the end every order is accounted for, once for each listener.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::bus::Replay;
use aftercommit::error::BoxError;
use aftercommit::prelude::*;
use aftercommit::sim_test;
use aftercommit::testing::sim::{Life, Sim};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// An order; those of a shop come in the order in which they were placed there.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(name = "sim.placed")]
struct Placed {
    order: u64,
    #[event(key)]
    shop: u64,
    /// Its number within the shop, from 1.
    number: i64,
}

/// What the publisher knows: the number of each order in its shop.
const ORDERS: Table<u64, i64> = Table::new("sim.orders");
const NUMBERS: Counters<u64> = Counters::new("sim.numbers");
/// How often each listener has applied each order.
const APPLIED: Counters<(u8, u64)> = Counters::new("sim.applied");
/// The last number the ledger has seen of each shop.
const LEDGER: Counters<u64> = Counters::new("sim.ledger");

const LISTENERS: [&str; 5] = ["sim.ledger", "sim.carrier", "sim.batch", "sim.fragile", "sim.unordered"];
const SHOPS: u64 = 3;

/// The world outside, which no crash touches.
#[derive(Default)]
pub(crate) struct Outside {
    /// How often the carrier was asked, by the id of the delivery.
    booked: Mutex<BTreeMap<String, u32>>,
    /// How often the listener without order was called, by order.
    called: Mutex<BTreeMap<u64, u32>>,
    healed: AtomicBool,
    violations: Mutex<Vec<String>>,
}

/// In the order of its shop, exactly once.
#[listener(durable, id = "sim.ledger", concurrency = 2)]
fn ledger(event: &Placed, tx: &mut Tx, outside: State<Outside>) -> Result<(), Error> {
    let last = LEDGER.get(tx, &event.shop)?;
    if event.number != last + 1 {
        outside.violations.lock().push(format!("{event:?} came to the ledger after number {last}"));
    }
    LEDGER.set(tx, &event.shop, event.number)?;
    APPLIED.add(tx, &(0, event.order), 1)
}

/// Outside the store under a stable id, at least once; then once in the store.
#[listener(durable, id = "sim.carrier", concurrency = 4, redeliver(attempts = 50, backoff = fixed(Duration::from_millis(20))))]
async fn carrier(
    event: &Placed,
    delivery: Delivery,
    outside: State<Outside>,
    life: State<Life>,
) -> Result<Settled, BoxError> {
    life.turn("the carrier").await;
    *outside.booked.lock().entry(delivery.id().to_string()).or_default() += 1;
    if life.draw(6) == 0 {
        return Err("the carrier does not answer".into());
    }
    Ok(delivery.settle(async |tx| APPLIED.add(tx, &(1, event.order), 1)).await?)
}

/// Several at once.
#[listener(durable, id = "sim.batch", batch(max = 4, linger = Duration::from_millis(30)))]
fn batch(events: &[Delivered<Placed>], tx: &mut Tx) -> Result<(), Error> {
    events.iter().try_for_each(|one| APPLIED.add(tx, &(2, one.event.order), 1))
}

/// Fails now and then, and always on some: these park, and what follows of their shop behind them.
#[listener(durable, id = "sim.fragile", concurrency = 3, redeliver(attempts = 3, backoff = exponential(Duration::from_millis(50)).jitter(0.5)))]
fn fragile(event: &Placed, tx: &mut Tx, outside: State<Outside>, life: State<Life>) -> Result<(), BoxError> {
    APPLIED.add(tx, &(3, event.order), 1)?;
    let healed = outside.healed.load(Ordering::SeqCst);
    if !healed && (event.order % 5 == 2 || life.draw(4) == 0) { Err("it broke".into()) } else { Ok(()) }
}

/// All at once, and after the commit seen from outside.
#[listener(durable, id = "sim.unordered", sequence = Unordered, concurrency = 3)]
fn unordered(event: &Placed, tx: &mut Tx, outside: State<Outside>) -> Result<(), Error> {
    *outside.called.lock().entry(event.order).or_default() += 1;
    APPLIED.add(tx, &(4, event.order), 1)
}

async fn start(life: &Life, outside: &Arc<Outside>) -> Option<Bus> {
    let listeners = listed![ledger, carrier, batch, fragile, unordered];
    let builder = life.bus().shared_state(outside.clone()).state(life.clone()).listeners(listeners);
    // Not started for a storage error: the process ends, and is started again.
    builder.start().await.ok()
}

/// Places `order`, however often that takes; `None` once the store is given up.
async fn place(bus: &Bus, order: u64) -> Option<()> {
    loop {
        let placed = bus.transaction(async |tx| {
            if ORDERS.get(tx, &order)?.is_some() {
                return Ok(());
            }
            let shop = order % SHOPS;
            let number = NUMBERS.get(tx, &shop)? + 1;
            NUMBERS.set(tx, &shop, number)?;
            ORDERS.put(tx, &order, &number)?;
            tx.publish(Placed { order, shop, number })
        });
        match placed.await {
            Ok(_) => return Some(()),
            Err(error) if error.is_in_doubt() => return None,
            Err(Error::Store(aftercommit::error::StoreError::Poisoned { .. })) => return None,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A life of the shop: places what is not placed yet, with three publishers at once, and waits until all is worked off.
async fn business(life: Life, outside: &Arc<Outside>, orders: u64) -> Option<()> {
    let bus = start(&life, outside).await?;
    let publishers = (0..3).map(|first| {
        let bus = bus.clone();
        tokio::spawn(async move {
            for order in (first..orders).step_by(3) {
                place(&bus, order).await?;
            }
            Some(())
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.expect("no panic")?;
    }
    bus.idle().await;
    if life.draw(2) == 0 {
        bus.shutdown(Duration::from_secs(60)).await.ok()?;
    }
    Some(())
}

/// Every order once for each listener, and nothing left over.
async fn audit(life: Life, outside: &Arc<Outside>, orders: u64) {
    let bus = start(&life, outside).await.expect("nothing goes wrong any more");
    bus.idle().await;
    // Also what was called, by chance, whenever the process ended: after three times it parks.
    for listener in LISTENERS {
        bus.dead_letters(listener).replay(Replay::all()).await.expect("a listener of it runs");
    }
    bus.idle().await;
    let mut reader = bus.reader().expect("a reader");
    let applied: Vec<((u8, u64), i64)> = APPLIED.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    let expected: Vec<((u8, u64), i64)> =
        (0..5).flat_map(|listener| (0..orders).map(move |order| ((listener, order), 1))).collect();
    assert_eq!(applied, expected, "each order is accounted for once by each of {LISTENERS:?}");
    assert_eq!(bus.parked().await.expect("readable"), [], "nothing stays parked");
    for lag in bus.lags().await.expect("readable") {
        assert_eq!(lag.behind, 0, "{} is owed nothing", lag.listener);
    }
    assert_eq!(*outside.violations.lock(), Vec::<String>::new());
    assert_eq!(outside.booked.lock().len() as u64, orders, "one id for each delivery, over all its attempts");
    assert_eq!(outside.called.lock().len() as u64, orders, "none was passed over");
}

pub(crate) fn shop(sim: &mut Sim) {
    let outside = Arc::new(Outside::default());
    let orders = 8 + sim.seed() % 9;
    while sim.lives(async |life| business(life, &outside, orders).await).is_none() {}
    sim.calm();
    outside.healed.store(true, Ordering::SeqCst);
    sim.lives(async |life| audit(life, &outside, orders).await);
}

#[sim_test(seeds = 500)]
fn every_order_is_accounted_for_once_by_each_listener(sim: &mut Sim) {
    shop(sim);
}
