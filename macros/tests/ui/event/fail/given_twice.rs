#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "shop.order-placed")]
#[event(name = "shop.order-made")]
struct OrderPlaced {
    #[event(key, key)]
    order: u64,
}

fn main() {}
