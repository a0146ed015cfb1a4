#![allow(unused)]

use aftercommit::prelude::*;

#[locked(key = price)]
async fn take(tx: &mut Tx, price: f64) -> Result<(), Error> {
    Ok(())
}

fn main() {}
