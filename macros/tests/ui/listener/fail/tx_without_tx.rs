#![allow(unused)]

use aftercommit::transaction::Tx;
use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener(phase = BeforeCommit, without_tx = run)]
fn count(event: &OrderPlaced, tx: &mut Tx) {}

fn main() {}
