#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener]
fn count(event: &OrderPlaced) -> impl Send {}

fn main() {}
