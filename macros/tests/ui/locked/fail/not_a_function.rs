#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = product)]
struct Stock;

fn main() {}
