#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event)]
struct OrderPlaced;

#[listeners]
fn count(event: &OrderPlaced) {}

fn main() {}
