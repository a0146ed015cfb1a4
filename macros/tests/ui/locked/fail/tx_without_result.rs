#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = product)]
async fn take(tx: &mut Tx, product: u32) {}

fn main() {}
