#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(formerly = ["shop.sum"], redeliver(attempts = 5), concurrency = 8, time_limit = Duration::from_secs(1))]
async fn count(event: &OrderPlaced) {}

fn main() {}
