#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener]
fn count<E: Event, const N: usize>(event: &E) {}

#[listener]
fn sum(event: &OrderPlaced, state: impl Send) {}

fn main() {}
