#![allow(unused)]

use aftercommit::{Delivery, Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.count")]
async fn count(event: &OrderPlaced, delivery: Delivery) {}

#[listener(durable, id = "shop.sum")]
async fn sum(event: &OrderPlaced, delivery: Delivery) -> Result<(), std::fmt::Error> {
    Ok(())
}

fn main() {}
