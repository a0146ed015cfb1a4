#![allow(unused)]

use aftercommit::listener;

struct Counted;

#[listener]
fn count(event: &Counted) {}

fn main() {}
