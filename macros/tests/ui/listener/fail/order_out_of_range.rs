#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(order = 3_000_000_000)]
fn sum(event: &OrderPlaced) {}

fn main() {}
