#![allow(unused)]

use aftercommit::prelude::*;

#[idempotent(key = request, body = (), name = "shop.place", retention = std::time::Duration::from_secs(9), keep_errors = |_| true)]
async fn place(tx: &mut Tx, request: u64) -> Result<u32, Error> {
    Ok(1)
}

fn main() {}
