#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
struct OrderPlaced {
    #[event(id)]
    order: u64,
}

fn main() {}
