#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    total: u64,
}

fn main() {}
