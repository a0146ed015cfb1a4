#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Counter;

impl Counter {
    #[listener]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
