#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(version = 2, formerly = ["shop.order-made"], logged)]
struct OrderPlaced;

fn main() {}
