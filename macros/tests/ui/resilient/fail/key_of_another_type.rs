#![allow(unused)]

use std::sync::LazyLock;
use std::time::Duration;

use aftercommit::resilience::{KeyedRateLimiter, Pipeline, RateSettings};
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());
static PER_USER: LazyLock<KeyedRateLimiter<u64>> =
    LazyLock::new(|| KeyedRateLimiter::new("per-user", RateSettings::new(1, Duration::from_secs(60))).unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[resilient(with = GATEWAY, limit = PER_USER, key = user)]
async fn order(user: String) -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, limit = GATEWAY, key = user)]
async fn limited_by_a_pipeline(user: u64) -> Result<(), Failed> {
    Ok(())
}

fn main() {}
