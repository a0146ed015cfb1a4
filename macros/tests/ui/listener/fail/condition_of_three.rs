#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(condition = |event, call, more| true)]
fn count(event: &OrderPlaced) {}

#[listener(condition = async |event| true)]
fn sum(event: &OrderPlaced) {}

fn main() {}
