#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Counter;

#[listeners]
impl Counter {
    #[listener(phase = Immediate)]
    async fn count(&self, event: &OrderPlaced) {}

    #[listener(durable)]
    fn sum(&self, event: &OrderPlaced) {}

    #[listener = "durable"]
    fn average(&self, event: &OrderPlaced) {}
}

fn main() {}
