#![allow(unused)]

use aftercommit::Key;

#[derive(Key)]
union Either {
    one: u8,
    other: i8,
}

fn main() {}
