#![allow(unused)]

use aftercommit::sim_test;
use aftercommit::testing::sim::{Life, Sim};

#[sim_test(seeds = 0)]
fn no_seed(sim: &mut Sim) {}

#[sim_test(seed = 7)]
fn one_seed(sim: &mut Sim) {}

#[sim_test]
fn nothing() {}

#[sim_test]
fn answers(sim: &mut Sim) -> Result<(), ()> {
    Ok(())
}

#[sim_test]
fn generic<T>(sim: &mut Sim) {}

#[sim_test]
struct NoFunction;

fn main() {}
