#![allow(unused)]

use aftercommit::prelude::*;

#[metered(name = "carrier.book")]
const fn book() {}

fn main() {}
