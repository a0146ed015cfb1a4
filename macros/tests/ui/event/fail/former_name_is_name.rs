#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "shop.order-placed", formerly = ["shop.order-made", "shop.order-placed"])]
struct OrderPlaced;

fn main() {}
