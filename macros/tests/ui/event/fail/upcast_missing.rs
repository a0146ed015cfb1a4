#![allow(unused)]

use aftercommit::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.order-placed", version = 2)]
struct OrderPlaced;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.paid", version = 4, upcast(1 => from_v1, 3 => from_v3))]
struct Paid;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.sent", version = 3, oldest = 2)]
struct Sent;

fn main() {}
