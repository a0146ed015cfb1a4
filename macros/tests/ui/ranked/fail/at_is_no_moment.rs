#![allow(unused)]

use aftercommit::ranking::Ranked;

#[derive(Ranked)]
#[ranked(source = "view")]
struct Viewed {
    #[ranked(item)]
    product: u64,
    #[ranked(at)]
    at: String,
}

fn main() {}
