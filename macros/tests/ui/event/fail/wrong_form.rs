#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name("shop.order-placed"), version = "1", formerly = "shop.order-made", logged = true)]
struct OrderPlaced;

#[derive(Event)]
#[event]
struct Paid;

#[derive(Event)]
#[event(name)]
struct Sent;

fn main() {}
