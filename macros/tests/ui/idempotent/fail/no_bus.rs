#![allow(unused)]

use aftercommit::prelude::*;

#[idempotent(key = request, body = (), name = "shop.place", retention = std::time::Duration::from_secs(9))]
async fn place(request: u64) -> Result<u32, Error> {
    Ok(1)
}

fn main() {}
