#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
struct OrderPlaced<'a> {
    buyer: &'a str,
}

fn main() {}
