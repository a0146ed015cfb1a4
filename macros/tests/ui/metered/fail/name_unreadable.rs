#![allow(unused)]

use aftercommit::prelude::*;

#[metered(name = "the carrier")]
fn book() {}

fn main() {}
