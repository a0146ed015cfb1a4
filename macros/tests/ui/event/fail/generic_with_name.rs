#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(name = "shop.wrapper", version = 1)]
struct Wrapper<T>(T);

fn main() {}
