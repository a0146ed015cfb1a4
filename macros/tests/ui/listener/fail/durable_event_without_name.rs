#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event)]
struct Counted;

#[listener(durable, id = "shop.count")]
fn count(event: &Counted) {}

fn main() {}
