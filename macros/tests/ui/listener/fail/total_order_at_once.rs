#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count", sequence = Total, concurrency = 8)]
fn count(event: &OrderPlaced) {}

fn main() {}
