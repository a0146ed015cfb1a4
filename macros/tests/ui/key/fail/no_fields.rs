#![allow(unused)]

use aftercommit::Key;

#[derive(Key)]
struct Nothing;

fn main() {}
