//! Both forms of a simulation compile; they run as tests.
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]
#![cfg_attr(not(test), allow(unused))]

use aftercommit::sim_test;
use aftercommit::testing::sim::{Life, Sim};

#[sim_test(seeds = 3)]
fn lives_after_lives(sim: &mut Sim) {
    let mut seen = 0;
    sim.lives(async |life| seen = life.number());
}

#[sim_test]
async fn one_life(life: Life) {
    life.note("here");
}

fn main() {}
