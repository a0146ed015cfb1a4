#![allow(unused)]

use aftercommit::Key;

#[derive(Key)]
#[key(order = 1)]
struct OrderId(u64);

fn main() {}
