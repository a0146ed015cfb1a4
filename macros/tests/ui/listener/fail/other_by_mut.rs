#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = BeforeCommit)]
fn count(event: &OrderPlaced, total: &mut u64) {}

fn main() {}
