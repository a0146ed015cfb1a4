#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Failed;

#[listener]
fn count(event: &OrderPlaced) -> Result<(), Failed> {
    Err(Failed)
}

fn main() {}
