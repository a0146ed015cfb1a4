#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(instance(Option<i64>, name = "shop.wrapper-i64"))]
struct Wrapper<T>(T);

fn main() {}
