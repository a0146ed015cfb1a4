#![allow(unused)]

use aftercommit::{Event, listener};

#[listener(condition = |event| event.total)]
fn count(event: &Priced) {}

#[derive(Event)]
struct Priced {
    total: u64,
}

fn main() {}
