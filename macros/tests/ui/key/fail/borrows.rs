#![allow(unused)]

use aftercommit::Key;

#[derive(Key)]
struct Name<'a>(&'a str);

fn main() {}
