#![allow(unused)]

use std::sync::LazyLock;

use aftercommit::error::PolicyError;
use aftercommit::resilience::Pipeline;
use aftercommit::resilient;

static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| Pipeline::named("gateway").build().unwrap());

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[resilient]
fn through_nothing() -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, retries = 3)]
fn unknown_argument() -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, fallback)]
fn fallback_without_value() -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, fallback = |error| Ok(()))]
fn fallback_is_a_closure() -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, fallback = one, fallback = two)]
fn two_fallbacks() -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, fallback(Failure::Down => one, Failure::Down => two, _ => three, Failure::Up => four))]
fn two_answers_to_one_pattern() -> Result<(), Failure> {
    Ok(())
}

enum Failure {
    Down,
    Up,
}

#[resilient(with = GATEWAY)]
fn no_answer(order: u32) {}

#[resilient(with = GATEWAY)]
fn opaque() -> impl Sized {}

#[resilient(with = GATEWAY)]
fn lends(order: &mut u32) -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY)]
const fn constant() -> Result<(), PolicyError> {
    Ok(())
}

#[resilient(with = GATEWAY)]
unsafe fn dangerous() -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, limit = PER_USER)]
fn limited_for_nobody(user: u64) -> Result<(), Failed> {
    Ok(())
}

#[resilient(with = GATEWAY, key = user)]
fn key_of_no_limit(user: u64) -> Result<(), Failed> {
    Ok(())
}

struct Gateway;

impl Gateway {
    #[resilient(with = GATEWAY)]
    fn by_value(self) -> Result<(), Failed> {
        Ok(())
    }

    #[resilient(with = GATEWAY)]
    fn by_mut(&mut self) -> Result<(), Failed> {
        Ok(())
    }
}

#[resilient(with = GATEWAY)]
struct NoFunction;

fn main() {}
