#![allow(unused)]

use aftercommit::transaction::Tx;
use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = BeforeCommit)]
fn count(event: &OrderPlaced, tx: &Tx) {}

#[listener(phase = BeforeCommit)]
fn sum(event: &OrderPlaced, tx: Tx) {}

fn main() {}
