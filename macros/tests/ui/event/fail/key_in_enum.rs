#![allow(unused)]

use aftercommit::Event;

#[derive(Event)]
enum Paid {
    Cash,
    Card {
        #[event(key)]
        card: u64,
    },
}

fn main() {}
