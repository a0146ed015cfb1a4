#![allow(unused)]

use aftercommit::prelude::*;

#[idempotent(key = request, body = (), guard = PLACE, name = "shop.place")]
async fn place(bus: &Bus, request: u64) -> Result<u32, Error> {
    Ok(1)
}

fn main() {}
