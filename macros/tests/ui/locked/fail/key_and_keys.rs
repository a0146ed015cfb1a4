#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = from, keys = [from, to])]
async fn transfer(tx: &mut Tx, from: u32, to: u32) -> Result<(), Error> {
    Ok(())
}

fn main() {}
