#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = product, on = locks, wait = std::time::Duration::from_secs(1))]
fn take(locks: &aftercommit::lock::KeyedLock<u32>, product: u32) {}

fn main() {}
