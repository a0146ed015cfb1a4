#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    order: u64,
}

#[listener(spawn, lock = |event| event.order)]
async fn send(event: &OrderPlaced) {}

#[listener(blocking, lock = |event| event.order)]
fn print(event: &OrderPlaced) {}

#[listener(without_tx = run, lock = |event| event.order)]
fn drop_page(event: &OrderPlaced) {}

fn main() {}
