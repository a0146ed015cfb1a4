#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Counter;

#[listeners(phase = AfterCommit)]
impl Counter {
    #[listener]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
