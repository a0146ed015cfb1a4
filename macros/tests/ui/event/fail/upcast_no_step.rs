#![allow(unused)]

use aftercommit::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.order-placed", version = 2, upcast(1 => from_v1))]
struct OrderPlaced;

struct NotStored;

fn from_v1(old: serde_json::Value) -> NotStored {
    NotStored
}

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.paid", version = 2, upcast(1 => paid_v1))]
struct Paid;

struct PaidV1;

fn paid_v1(old: PaidV1) -> Paid {
    Paid
}

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.sent", version = 2, upcast(1 => sent_v1))]
struct Sent;

fn main() {}
