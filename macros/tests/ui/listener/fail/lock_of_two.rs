#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    order: u64,
}

#[listener(lock = |event, call| event.order)]
fn drop_page(event: &OrderPlaced) {}

fn main() {}
