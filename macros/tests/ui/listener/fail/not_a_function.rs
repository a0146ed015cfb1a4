#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener]
struct Counter;

#[listener]
static COUNT: fn(&OrderPlaced) = |_| {};

fn main() {}
