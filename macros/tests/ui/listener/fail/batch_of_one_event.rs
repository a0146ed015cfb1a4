#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count", batch(max = 100))]
fn count(event: &OrderPlaced) {}

#[listener(durable, id = "shop.import")]
fn import(events: &[Delivered<OrderPlaced>]) {}

fn main() {}
