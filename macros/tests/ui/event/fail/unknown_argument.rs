#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(nam = "shop.order-placed", version = 1)]
struct OrderPlaced;

fn main() {}
