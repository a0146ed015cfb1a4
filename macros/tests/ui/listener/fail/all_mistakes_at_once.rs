#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = Later, without_tx = always, time_limit = Duration::from_secs(1), fase = 1)]
fn count(event: OrderPlaced, other: &OrderPlaced) {}

fn main() {}
