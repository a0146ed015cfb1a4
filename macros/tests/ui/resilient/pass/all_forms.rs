//! Functions and methods, sync and async, with each form of a fallback; their futures go to other threads.
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aftercommit::clock::fixed;
use aftercommit::error::PolicyError;
use aftercommit::resilience::{BreakerSettings, KeyedRateLimiter, Pipeline, RateSettings, RetrySettings};
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| {
    let retry = RetrySettings::new().attempts(3).backoff(fixed(Duration::ZERO));
    Pipeline::named("gateway").retry(retry).build().expect("legal")
});

#[derive(Debug, Clone, PartialEq)]
enum PriceError {
    Down,
    Unknown(u32),
    Policy(PolicyError),
}

impl From<PolicyError> for PriceError {
    fn from(error: PolicyError) -> Self {
        PriceError::Policy(error)
    }
}

impl From<std::num::ParseIntError> for PriceError {
    fn from(_: std::num::ParseIntError) -> Self {
        PriceError::Unknown(0)
    }
}

#[derive(Clone)]
struct Owned(String);

/// Taken by value, by reference and by pattern; `?` knows its error.
#[resilient(with = GATEWAY)]
async fn price(mut product: Owned, (a, b): (u32, u32), text: &str, calls: &AtomicU32) -> Result<u32, PriceError> {
    product.0.push('1');
    if calls.fetch_add(1, Ordering::Relaxed) < 2 {
        return Err(PriceError::Down);
    }
    let parsed: u32 = text.parse()?;
    Ok(parsed + a + b + product.0.len() as u32)
}

#[resilient(with = GATEWAY)]
fn sync_price(text: &str, calls: &AtomicU32) -> Result<u32, PriceError> {
    calls.fetch_add(1, Ordering::Relaxed);
    Ok(text.parse::<u32>()?)
}

#[resilient(with = GATEWAY, fallback = last_price)]
async fn every(product: u32, name: &str) -> Result<String, PriceError> {
    Err(PriceError::Unknown(product + name.len() as u32))
}

async fn last_price(product: u32, name: &str, error: PriceError) -> Result<String, PriceError> {
    std::future::ready(()).await;
    Ok(format!("{product} {name} {error:?}"))
}

#[resilient(with = GATEWAY, fallback = of_error)]
fn alone(_product: u32) -> Result<u32, PriceError> {
    Err(PriceError::Down)
}

fn of_error(error: PriceError) -> Result<u32, PriceError> {
    if error == PriceError::Down { Ok(7) } else { Err(error) }
}

#[resilient(with = GATEWAY, fallback(PriceError::Down => of_error, PriceError::Unknown(id) if *id > 5 => unknown))]
fn by_match(error: PriceError) -> Result<u32, PriceError> {
    Err(error)
}

fn unknown(_asked: PriceError, _error: PriceError) -> Result<u32, PriceError> {
    Ok(5)
}

#[resilient(with = GATEWAY)]
async fn generic<T: Clone + Send + ToString>(value: T) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    Ok(value.to_string())
}

static PER_USER: LazyLock<KeyedRateLimiter<u64>> =
    LazyLock::new(|| KeyedRateLimiter::new("per-user", RateSettings::new(1, Duration::from_secs(3_600))).expect("legal"));

#[resilient(with = GATEWAY, limit = PER_USER, key = user)]
async fn order(user: u64, units: Owned) -> Result<usize, PriceError> {
    Ok(units.0.len())
}

#[resilient(with = GATEWAY, limit = PER_USER, key = *user, fallback(PriceError::Policy(_) => later))]
fn sync_order(user: &u64) -> Result<u64, PriceError> {
    Ok(*user)
}

fn later(user: &u64, _error: PriceError) -> Result<u64, PriceError> {
    Ok(user + 100)
}

struct Gateway {
    policies: Pipeline,
    calls: AtomicU32,
}

impl Gateway {
    #[resilient(with = self.policies, fallback(PriceError::Policy(_) | PriceError::Down => Self::cached))]
    async fn charge(&self, order: &str, cents: u32) -> Result<u32, PriceError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if order == "down" { Err(PriceError::Down) } else { Ok(cents) }
    }

    async fn cached(&self, order: &str, cents: u32, _error: PriceError) -> Result<u32, PriceError> {
        Ok(self.calls.load(Ordering::Relaxed) + order.len() as u32 + cents)
    }

    /// What stands before it stays.
    #[resilient(with = self.policies, fallback = Self::sync_cached)]
    pub(crate) fn sync_charge(&self, order: &str) -> Result<u32, PriceError> {
        Err(PriceError::Unknown(order.len() as u32))
    }

    fn sync_cached(&self, order: &str, error: PriceError) -> Result<u32, PriceError> {
        assert_eq!(error, PriceError::Unknown(order.len() as u32));
        Ok(self.calls.load(Ordering::Relaxed))
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let calls = AtomicU32::new(0);
    assert_eq!(price(Owned("ab".to_owned()), (1, 2), "10", &calls).await, Ok(16));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(sync_price("x", &calls), Err(PriceError::Unknown(0)));
    assert_eq!(calls.load(Ordering::Relaxed), 6);
    assert_eq!(is_send(every(1, "name")).await, Ok("1 name Unknown(5)".to_owned()));
    assert_eq!(alone(1), Ok(7));
    let answers = [PriceError::Down, PriceError::Unknown(9), PriceError::Unknown(1)].map(by_match);
    assert_eq!(answers, [Ok(7), Ok(5), Err(PriceError::Unknown(1))]);
    assert_eq!(is_send(generic(5)).await.ok(), Some("5".to_owned()));
    let policies = Pipeline::named("own").circuit_breaker(BreakerSettings::new()).build().expect("legal");
    let gateway = Arc::new(Gateway { policies, calls: AtomicU32::new(0) });
    let shared = gateway.clone();
    let charged = tokio::spawn(async move { shared.charge("order", 5).await });
    assert_eq!(charged.await.expect("no panic"), Ok(5));
    assert_eq!(gateway.charge("down", 100).await, Ok(2 + 4 + 100));
    gateway.policies.breaker("own").expect("it has one").force_open();
    assert_eq!(gateway.charge("order", 100).await, Ok(2 + 5 + 100));
    gateway.policies.breaker("own").expect("it has one").close();
    assert_eq!(gateway.sync_charge("order"), Ok(2));
    let order = |user| is_send(order(user, Owned("two".to_owned())));
    assert_eq!((order(1).await, order(2).await), (Ok(3), Ok(3)));
    assert!(matches!(order(1).await, Err(PriceError::Policy(PolicyError::RateLimited { .. }))), "one each");
    assert_eq!((sync_order(&3), sync_order(&3)), (Ok(3), Ok(103)), "the fallback is asked about what the limit refuses, too");
}
