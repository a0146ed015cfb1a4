#![allow(unused)]

use aftercommit::listed;

fn count(event: &u64) {}
struct Counter;

fn all() -> Vec<aftercommit::listener::Registration> {
    listed![Counter]
}

fn main() {}
