#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "shop.order-placed", version = 2, upcast = from_v1)]
struct OrderPlaced;

#[derive(Event)]
#[event(name = "shop.paid", version = 2, upcast(from_v1), oldest(2))]
struct Paid;

fn main() {}
