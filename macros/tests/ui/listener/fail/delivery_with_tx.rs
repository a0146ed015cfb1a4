#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count")]
async fn count(event: &OrderPlaced, delivery: Delivery, tx: &mut Tx) -> Settled {}

fn main() {}
