#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count", sequence = ByKey, ack = Each, start = Latest, park(followers = Skip, full = Wait))]
fn count(event: &OrderPlaced) {}

fn main() {}
