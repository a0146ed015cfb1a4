#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase(AfterCommit), order, condition = true, id = count, spawn = true, formerly = "shop.count")]
async fn count(event: &OrderPlaced) {}

#[listener(durable, id = "shop.sum", redeliver = 5)]
fn sum(event: &OrderPlaced) {}

#[listener(durable, id = "shop.average", redeliver(tries = 5))]
fn average(event: &OrderPlaced) {}

fn main() {}
