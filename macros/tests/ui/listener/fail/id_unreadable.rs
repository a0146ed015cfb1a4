#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(id = "")]
fn count(event: &OrderPlaced) {}

#[listener(id = "shop count")]
fn sum(event: &OrderPlaced) {}

fn main() {}
