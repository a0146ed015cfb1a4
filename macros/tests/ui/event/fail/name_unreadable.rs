#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "")]
struct OrderPlaced;

#[derive(Event)]
#[event(name = "order placed", formerly = ["a b"])]
struct OrderMade;

fn main() {}
