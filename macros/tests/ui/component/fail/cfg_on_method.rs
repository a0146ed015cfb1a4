#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Counter;

#[listeners]
impl Counter {
    #[listener]
    #[cfg(any())]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
