//! Durable listeners: owed until done, each delivery settled once.

mod ack;
mod crash;
mod delivery;
mod dlq;
mod erase;
mod evolution;
mod life;
mod moved;
mod newcomers;
mod obx;
mod once;
mod order;
mod par;
mod parked;
mod property;
mod redelivery;
mod runs;
mod scheduled;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aftercommit::event::Stored;
use aftercommit::listener::{Declaration, Registration};
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{CursorChange, Position, Settlement};
use aftercommit::testing::FailingStore;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::heard::{Heard, within};

/// An order placed in a shop; the shop is its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    shop: String,
    order: u32,
}

impl Event for Placed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("durable.placed"));

    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.shop.as_bytes());
        true
    }
}

impl StoredEvent for Placed {}

impl Placed {
    fn new(shop: &str, order: u32) -> Self {
        Self { shop: shop.to_owned(), order }
    }

    fn line(&self) -> String {
        format!("{} {}", self.shop, self.order)
    }
}

/// What follows from an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shipped {
    order: u32,
}

impl Event for Shipped {
    const STORED: Option<Stored<Self>> = Some(Stored::json("durable.shipped"));
}

impl StoredEvent for Shipped {}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(&'static str);

/// How often each order was applied.
const APPLIED: Counters<(String, u32)> = Counters::new("durable.applied");

fn applied(bus: &Bus) -> Vec<(String, i64)> {
    let mut reader = bus.reader().expect("a reader");
    let rows: Vec<((String, u32), i64)> = APPLIED.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    rows.into_iter().map(|((shop, order), count)| (format!("{shop} {order}"), count)).collect()
}

async fn place(bus: &Bus, shop: &str, order: u32) -> Position {
    let done = bus.transaction(async |tx| tx.publish(Placed::new(shop, order))).await.expect("committed");
    done.positions[0]
}

async fn stop(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

/// A life of the program in a runtime of its own, which ends as a crash ends it.
struct Life(Runtime);

impl Life {
    fn begin() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(runtime.expect("a runtime"))
    }

    async fn start(&self, builder: BusBuilder) -> Bus {
        within(self.0.spawn(builder.start())).await.expect("no panic").expect("the bus starts")
    }

    /// Everything stops where it is; nothing is closed.
    fn crash(self, bus: Bus) {
        self.0.shutdown_background();
        drop(bus);
    }
}

/// The positions that each commit settled for `listener`: the first and the last of each run of neighbours.
fn settled(store: &FailingStore, listener: &str) -> Vec<Vec<(u64, u64)>> {
    let of = |settlements: &Vec<Settlement>| -> Vec<(u64, u64)> {
        let changes = settlements.iter().filter(|one| *one.listener == *listener).map(|one| &one.change);
        changes
            .filter_map(|change| match change {
                CursorChange::Done { position, covers } => Some((position.0, covers.end - 1)),
                _ => None,
            })
            .collect()
    };
    store.settlements().iter().map(of).filter(|runs| !runs.is_empty()).collect()
}

/// A listener that lets each call pass when it is told to, and notes it when it begins.
#[derive(Clone)]
struct Gated {
    heard: Heard,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new() -> Self {
        Self { heard: Heard::new(), gate: Arc::new(Semaphore::new(0)) }
    }

    /// Lets so many calls pass.
    fn open(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    fn listener(&self, declaration: Declaration<Placed>) -> Registration {
        let Self { heard, gate } = self.clone();
        declaration.call_async(move |event, _| {
            let (heard, gate) = (heard.clone(), gate.clone());
            CallFuture::from_or_box(async move {
                let mut passing = std::pin::pin!(gate.acquire());
                // In the queue before it is heard of, so that who opens for it opens for no other.
                let passed = futures::poll!(passing.as_mut());
                heard.note(event.line());
                match passed {
                    Poll::Ready(permit) => permit?.forget(),
                    Poll::Pending => passing.await?.forget(),
                }
                Ok(None)
            })
        })
    }
}

/// Publishes in one unit of work.
async fn place_all(bus: &Bus, orders: &[(&str, u32)]) -> Vec<Position> {
    let placing =
        bus.transaction(async |tx| orders.iter().try_for_each(|(shop, order)| tx.publish(Placed::new(shop, *order))));
    placing.await.expect("committed").positions
}
