#![allow(unused)]

use aftercommit::prelude::*;

#[metered(name = "carrier.book", kind = |_| "error")]
fn book() {}

fn main() {}
