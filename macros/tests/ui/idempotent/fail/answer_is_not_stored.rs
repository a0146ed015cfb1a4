#![allow(unused)]

use aftercommit::prelude::*;

struct Slip;

#[idempotent(key = request, body = (), name = "shop.place", retention = std::time::Duration::from_secs(9))]
async fn place(bus: &Bus, request: u64) -> Result<Slip, Error> {
    Ok(Slip)
}

fn main() {}
