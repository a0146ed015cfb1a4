#![allow(unused)]

use std::sync::LazyLock;

use aftercommit::error::PolicyError;
use aftercommit::resilience::Pipeline;
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
enum PriceError {
    Down,
}

#[resilient(with = GATEWAY)]
fn price(product: u32) -> Result<u64, PriceError> {
    Ok(1)
}

#[resilient(with = GATEWAY)]
fn no_result(product: u32) -> u64 {
    1
}

fn main() {}
