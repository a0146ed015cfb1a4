#![allow(unused)]

use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = AfterCommit)]
fn count(event: &OrderPlaced) -> Decision {
    Decision::Done
}

#[listener(phase = BeforeCommit)]
fn check(event: &OrderPlaced) -> Result<Decision, Error> {
    Ok(Decision::Done)
}

fn main() {}
