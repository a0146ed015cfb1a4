#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count", blocking, without_tx = run)]
fn count(event: &OrderPlaced) {}

#[listener(durable, id = "shop.sum", spawn)]
async fn sum(event: &OrderPlaced) {}

fn main() {}
