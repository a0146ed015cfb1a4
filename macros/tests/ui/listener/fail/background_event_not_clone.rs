#![allow(unused)]

use aftercommit::{Event, listener};

#[derive(Event)]
struct Counted;

#[listener(phase = Immediate, spawn)]
async fn count(event: &Counted) {}

fn main() {}
