#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    order: u64,
}

#[listener(durable, id = "shop.import", batch(max = 10), lock = |event| event.order)]
fn import(events: &[Delivered<OrderPlaced>]) {}

fn main() {}
