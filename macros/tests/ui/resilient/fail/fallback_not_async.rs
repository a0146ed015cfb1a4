#![allow(unused)]

use std::sync::LazyLock;

use aftercommit::error::PolicyError;
use aftercommit::resilience::Pipeline;
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[resilient(with = GATEWAY, fallback = last_price)]
async fn price(product: u32, currency: &str) -> Result<u64, Failed> {
    Ok(1)
}

fn last_price(product: u32, currency: &str, error: Failed) -> Result<u64, Failed> {
    Err(error)
}

#[resilient(with = GATEWAY, fallback = later_price)]
fn price_now(product: u32) -> Result<u64, Failed> {
    Ok(1)
}

async fn later_price(product: u32, error: Failed) -> Result<u64, Failed> {
    Err(error)
}

fn main() {}
