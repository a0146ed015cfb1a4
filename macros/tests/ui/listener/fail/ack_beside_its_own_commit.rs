#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count", ack = Count(100))]
fn count(event: &OrderPlaced, tx: &mut Tx) {}

#[listener(durable, id = "shop.book", ack = Batch)]
async fn book(event: &OrderPlaced, delivery: Delivery) -> Result<Settled, Error> {
    delivery.done().await
}

fn main() {}
