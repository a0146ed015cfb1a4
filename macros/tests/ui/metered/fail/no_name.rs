#![allow(unused)]

use aftercommit::prelude::*;

#[metered]
fn book() {}

fn main() {}
