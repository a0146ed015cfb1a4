#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = product)]
async fn take(product: u32) {}

fn main() {}
