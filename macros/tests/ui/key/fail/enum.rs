#![allow(unused)]

use aftercommit::Key;

#[derive(Key)]
enum Status {
    Open,
    Paid,
}

fn main() {}
