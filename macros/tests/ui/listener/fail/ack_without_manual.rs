#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(durable, id = "shop.export")]
fn export(event: &OrderPlaced, ack: Ack) {}

#[listener(durable, id = "shop.import", ack = Manual)]
fn import(event: &OrderPlaced) {}

fn main() {}
