#![allow(unused)]

use std::sync::LazyLock;

use aftercommit::error::PolicyError;
use aftercommit::resilience::Pipeline;
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

static NUMBER: u32 = 7;

#[resilient(with = NUMBER)]
fn price(product: u32) -> Result<u64, Failed> {
    Ok(1)
}

fn main() {}
