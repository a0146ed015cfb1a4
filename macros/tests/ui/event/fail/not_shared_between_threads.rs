#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
struct OrderPlaced {
    lines: std::rc::Rc<str>,
}

fn main() {}
