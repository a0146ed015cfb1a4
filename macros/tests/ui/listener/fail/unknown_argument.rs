#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(fase = AfterCommit, order = 1)]
fn count(event: &OrderPlaced) {}

#[listener(BeforeCommit)]
fn reserve(event: &OrderPlaced) {}

#[listener("AfterCommit")]
fn sum(event: &OrderPlaced) {}

fn main() {}
