#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
#[event(instance(Wrapper<i64>), instance(Wrapper<u8>, logged))]
struct Wrapper<T>(T);

fn main() {}
