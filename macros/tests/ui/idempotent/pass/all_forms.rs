#![allow(unused)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::bus::Idempotency;
use aftercommit::prelude::*;
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(86_400);
const PAY: Idempotency = Idempotency::new("bank.pay", DAY);
static RUNS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Serialize, Deserialize)]
enum PayError {
    Declined,
    Other(String),
}

impl From<Error> for PayError {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

struct Payments {
    bus: Bus,
}

impl Payments {
    #[idempotent(key = request, body = (to, cents), guard = PAY, bus = self.bus,
        keep_errors = |error| matches!(error, PayError::Declined))]
    async fn pay(&self, request: String, to: String, cents: u64) -> Result<String, PayError> {
        RUNS.fetch_add(1, Ordering::Relaxed);
        if cents > 100 {
            return Err(PayError::Declined);
        }
        Ok(to)
    }
}

#[idempotent(key = request, body = units, name = "shop.place-order", retention = DAY)]
async fn place(tx: &mut Tx, request: u64, units: i64) -> Result<i64, Error> {
    const SOLD: Counters<u8> = Counters::new("shop.sold");
    SOLD.add(tx, &0, units)?;
    if units == 0 {
        return Ok(0);
    }
    Ok(units * 2)
}

#[idempotent(key = request, body = (), name = "shop.touch", retention = DAY)]
async fn touch(bus: &Bus, request: u64) -> Result<(), Error> {
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payments = Payments { bus: Bus::builder().start().await? };
    for _ in 0..2 {
        assert_eq!(payments.pay("a".to_owned(), "Ada".to_owned(), 5).await.expect("paid"), "Ada");
        assert!(matches!(payments.pay("b".to_owned(), "Ada".to_owned(), 500).await, Err(PayError::Declined)));
        touch(&payments.bus, 1).await?;
        let placed = payments.bus.transaction(async |tx| place(tx, 1, 3).await).await?;
        assert_eq!(placed.value, 6);
    }
    assert_eq!(RUNS.load(Ordering::Relaxed), 3);
    Ok(())
}
