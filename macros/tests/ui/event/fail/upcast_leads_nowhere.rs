#![allow(unused)]

use aftercommit::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.order-placed", version = 2, upcast(1 => from_v1, 2 => from_v2))]
struct OrderPlaced;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.paid", version = 3, oldest = 2, upcast(1 => from_v1, 2 => from_v2))]
struct Paid;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.sent", version = 2, upcast(1 => from_v1, 1 => from_v2))]
struct Sent;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.lost", version = 2, oldest = 3)]
struct Lost;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.found", upcast(0 => from_v0))]
struct Found;

fn main() {}
