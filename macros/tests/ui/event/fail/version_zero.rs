#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "shop.order-placed", version = 0)]
struct OrderPlaced;

fn main() {}
