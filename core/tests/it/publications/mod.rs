//! What is owed to whom, and what became of it.

mod nms;
mod paused;
mod reg;
mod story;
mod view;

use std::num::NonZeroUsize;
use std::time::Duration;

use aftercommit::event::Stored;
use aftercommit::prelude::*;
use aftercommit::publication::{Publication, Query, Status};
use aftercommit::store::Position;
use serde::{Deserialize, Serialize};

use crate::heard::within;

/// An order placed in a shop; the shop is its key. Kept for later listeners, so that what is done is not pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ordered {
    shop: String,
    order: u32,
}

impl Event for Ordered {
    const STORED: Option<Stored<Self>> = Some(Stored::json("view.ordered").logged());

    fn key(&self, out: &mut Vec<u8>) -> bool {
        self.shop.encode(out);
        true
    }
}

impl StoredEvent for Ordered {}

impl Ordered {
    fn new(shop: &str, order: u32) -> Self {
        Self { shop: shop.to_owned(), order }
    }

    fn line(&self) -> String {
        format!("{} {}", self.shop, self.order)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(&'static str);

const MANY: NonZeroUsize = NonZeroUsize::new(1_000).expect("not 0");

fn at_most(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).expect("not 0")
}

async fn order(bus: &Bus, shop: &str, number: u32) -> Position {
    let done = bus.transaction(async |tx| tx.publish(Ordered::new(shop, number))).await.expect("committed");
    done.positions[0]
}

async fn stop(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

/// All publications that are wanted, in one page.
async fn found(bus: &Bus, query: Query) -> Vec<Publication> {
    let page = within(bus.publications().page(&query, None, MANY)).await.expect("readable");
    assert_eq!(page.next, None);
    page.publications
}

/// Where, whose and in which state.
fn rows(publications: &[Publication]) -> Vec<(u64, &str, Status)> {
    publications.iter().map(|one| (one.position.0, one.listener.as_str(), one.stage.status())).collect()
}

/// Waits until all publications are where, whose and in the state that is said.
async fn comes_to(bus: &Bus, expected: &[(u64, &str, Status)]) {
    within(async {
        while rows(&found(bus, Query::new()).await) != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
