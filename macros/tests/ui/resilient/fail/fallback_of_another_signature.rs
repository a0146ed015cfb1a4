#![allow(unused)]

use std::sync::LazyLock;

use aftercommit::error::PolicyError;
use aftercommit::resilience::Pipeline;
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[resilient(with = GATEWAY, fallback = of_other_arguments)]
fn price(product: u32, currency: &str) -> Result<u64, Failed> {
    Ok(1)
}

fn of_other_arguments(product: u32, error: Failed) -> Result<u64, Failed> {
    Err(error)
}

#[resilient(with = GATEWAY, fallback = of_another_answer)]
fn price_again(product: u32, currency: &str) -> Result<u64, Failed> {
    Ok(1)
}

fn of_another_answer(product: u32, currency: &str, error: Failed) -> u64 {
    1
}

struct Shop;

impl Shop {
    #[resilient(with = GATEWAY, fallback(_ => Self::without_self))]
    fn price(&self, product: u32) -> Result<u64, Failed> {
        Ok(1)
    }

    fn without_self(product: u32, error: Failed) -> Result<u64, Failed> {
        Err(error)
    }
}

fn main() {}
