#![allow(unused)]

use std::time::Duration;

use aftercommit::lock::{AnyKey, KeyedLock};
use aftercommit::prelude::*;

#[locked(key = product)]
async fn of_a_unit(tx: &mut Tx, product: u32) -> Result<u32, Error> {
    if product == 0 {
        return Ok(0);
    }
    Ok(product + 1)
}

#[locked(keys = [from, to], wait = Duration::from_secs(1))]
async fn several_of_a_unit(tx: &mut Tx, from: u32, to: u32) -> Result<(), Error> {
    tx.try_lock(from).map(drop)
}

#[locked(key = product, shared)]
fn blocking_of_a_unit(tx: &mut Tx, product: u32) -> Result<(), Error> {
    Ok(())
}

#[locked(key = AnyKey::of(&product), on = bus.locks(), wait = Duration::from_secs(1))]
async fn of_a_bus(bus: &Bus, product: u32) -> Result<usize, Error> {
    Ok(bus.locked_keys())
}

struct Accounts {
    locks: KeyedLock<u64>,
}

impl Accounts {
    #[locked(key = account, on = self.locks)]
    fn held(&self, account: u64) -> usize {
        self.locks.len()
    }

    #[locked(keys = [from, to], on = self.locks, shared)]
    async fn both_held<'a>(&'a self, from: u64, to: u64) -> &'a KeyedLock<u64> {
        assert_eq!(self.locks.len(), 2);
        &self.locks
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::builder().start().await?;
    bus.transaction(async |tx| {
        assert_eq!(of_a_unit(tx, 1).await?, 2);
        several_of_a_unit(tx, 2, 3).await?;
        blocking_of_a_unit(tx, 4)?;
        assert_eq!(bus.locked_keys(), 4);
        Ok::<_, Error>(())
    })
    .await?;
    assert_eq!(of_a_bus(&bus, 7).await?, 1);
    let accounts = Accounts { locks: KeyedLock::new() };
    assert_eq!(accounts.held(1), 1);
    assert_eq!(accounts.both_held(2, 1).await.len(), 0);
    Ok(())
}
