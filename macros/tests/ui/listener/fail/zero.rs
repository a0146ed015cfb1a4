#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count", redeliver(attempts = 0), concurrency = 0)]
fn count(event: &OrderPlaced) {}

#[listener(durable, id = "shop.sum", look_ahead = 0, park(sequences = 0, length = 1), ack = Count(0))]
fn sum(event: &OrderPlaced) {}

fn main() {}
