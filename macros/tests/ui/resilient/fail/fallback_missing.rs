#![allow(unused)]

use std::sync::LazyLock;

use aftercommit::error::PolicyError;
use aftercommit::resilience::Pipeline;
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[resilient(with = GATEWAY, fallback = last_price)]
fn price(product: u32, currency: &str) -> Result<u64, Failed> {
    Ok(1)
}

#[resilient(with = GATEWAY, fallback = Shop::last_price)]
async fn price_async(product: u32, currency: &str) -> Result<u64, Failed> {
    Ok(1)
}

struct Shop;

fn main() {}
