#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.import", batch(max = 100), ack = Manual)]
fn import(events: &[Delivered<OrderPlaced>], ack: Ack) {}

#[listener(durable, id = "shop.book", batch(max = 100))]
async fn book(events: &[Delivered<OrderPlaced>], delivery: Delivery) -> Result<Settled, Error> {
    delivery.done().await
}

fn main() {}
