#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced;

#[listener]
async fn count(event: &OrderPlaced) {
    let total = std::rc::Rc::new(1);
    std::future::ready(()).await;
    drop(total);
}

fn main() {}
