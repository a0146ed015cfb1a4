#![allow(unused)]

use aftercommit::prelude::*;

#[metered(name = "carrier.book", kind = |error, slip| "error")]
fn book() -> Result<(), Error> {
    Ok(())
}

fn main() {}
