#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
struct Measured {
    #[event(key)]
    value: f64,
}

fn main() {}
