#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener]
unsafe fn count(event: &OrderPlaced) {}

#[listener]
const fn sum(event: &OrderPlaced) {}

#[listener]
extern "C" fn average(event: &OrderPlaced) {}

fn main() {}
