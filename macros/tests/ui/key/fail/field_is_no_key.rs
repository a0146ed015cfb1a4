#![allow(unused)]

use aftercommit::Key;

#[derive(Key)]
struct Place {
    name: String,
    latitude: f64,
    longitude: usize,
}

fn main() {}
