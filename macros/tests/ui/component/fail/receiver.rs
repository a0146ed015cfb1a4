#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Counter;

#[listeners]
impl Counter {
    #[listener]
    fn count(&mut self, event: &OrderPlaced) {}

    #[listener]
    fn sum(self, event: &OrderPlaced) {}

    #[listener]
    fn average(event: &OrderPlaced) {}
}

fn main() {}
