#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = product, on = locks)]
async fn take(tx: &mut Tx, locks: &aftercommit::lock::KeyedLock<u32>, product: u32) -> Result<(), Error> {
    Ok(())
}

fn main() {}
