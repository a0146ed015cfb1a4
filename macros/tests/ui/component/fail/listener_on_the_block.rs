#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event)]
struct OrderPlaced;

struct Counter;

#[listener(phase = AfterCommit)]
impl Counter {
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
