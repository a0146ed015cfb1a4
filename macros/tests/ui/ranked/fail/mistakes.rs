#![allow(unused)]

use aftercommit::ranking::Ranked;

#[derive(Ranked)]
struct Nothing {
    product: u64,
}

#[derive(Ranked)]
#[ranked(source = "a view", weight = 1)]
struct Twice {
    #[ranked(item)]
    product: u64,
    #[ranked(item)]
    brand: u64,
    #[ranked(key)]
    buyer: u64,
}

#[derive(Ranked)]
#[ranked(source = "sale", points = |event, credits| 1.0)]
struct Two {
    #[ranked(item)]
    product: u64,
}

#[derive(Ranked)]
#[ranked(source = "sale")]
enum Choice {
    One,
}

fn main() {}
