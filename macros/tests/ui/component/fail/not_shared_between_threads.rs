#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Cell(std::cell::Cell<u8>);

#[listeners]
impl Cell {
    #[listener]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
