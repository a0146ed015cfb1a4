#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(instance(OrderPlaced, name = "shop.order-placed"))]
struct OrderPlaced;

fn main() {}
