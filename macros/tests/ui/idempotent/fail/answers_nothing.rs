#![allow(unused)]

use aftercommit::prelude::*;

#[idempotent(key = request, body = (), name = "shop.place", retention = std::time::Duration::from_secs(9))]
async fn place(bus: &Bus, request: u64) {}

fn main() {}
