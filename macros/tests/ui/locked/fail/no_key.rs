#![allow(unused)]

use aftercommit::prelude::*;

#[locked]
async fn take(tx: &mut Tx, product: u32) -> Result<(), Error> {
    Ok(())
}

fn main() {}
