#![allow(unused)]

use aftercommit::{Event, listeners};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

struct Counter;

struct Gateway<T>(T);

#[listeners]
impl<T> Gateway<T> {
    #[listener]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
