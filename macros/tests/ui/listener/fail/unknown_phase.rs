#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = AfterCommitted)]
fn count(event: &OrderPlaced) {}

#[listener(phase = Stage::AfterCommit)]
fn sum(event: &OrderPlaced) {}

fn main() {}
