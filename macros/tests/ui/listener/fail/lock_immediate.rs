#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    order: u64,
}

#[listener(phase = Immediate, lock = |event| event.order)]
fn reserve(event: &OrderPlaced) {}

fn main() {}
