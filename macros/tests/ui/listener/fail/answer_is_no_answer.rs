#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

use aftercommit::listener::StopSignal;

#[listener]
fn count(event: &OrderPlaced) -> Vec<String> {
    Vec::new()
}

#[listener]
fn sum(event: &OrderPlaced, stop: StopSignal) -> Result<u64, std::fmt::Error> {
    Ok(7)
}

#[listener]
async fn average(event: &OrderPlaced) -> Option<u8> {
    None
}

fn main() {}
