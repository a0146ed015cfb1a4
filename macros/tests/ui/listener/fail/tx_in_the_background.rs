#![allow(unused)]

use aftercommit::transaction::Tx;
use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = BeforeCommit, blocking)]
fn count(event: &OrderPlaced, tx: &mut Tx) {}

#[listener(phase = Immediate, spawn)]
async fn sum(event: &OrderPlaced, tx: &mut Tx) {}

fn main() {}
