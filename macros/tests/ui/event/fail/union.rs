#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
union Either {
    one: u8,
    other: i8,
}

fn main() {}
