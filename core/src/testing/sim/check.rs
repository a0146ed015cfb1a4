//! A test over many seeds, of which the one that fails is told and can be run alone.

use std::panic::{self, AssertUnwindSafe};

use super::Sim;

/// How many lines of the trace are printed with a failure.
const SHOWN: usize = 40;

/// Runs `test` with the seeds `0..seeds`, on the calling thread, one after the other.
///
/// Where one panics, its seed and the end of its trace are printed. `AFTERCOMMIT_SEED=17` runs that one alone, with its whole trace;
/// `AFTERCOMMIT_SEEDS=10000` runs so many instead of `seeds`.
///
/// # Panics
/// As the test does. If one of these variables is no number.
pub fn check(name: &str, seeds: u64, test: impl Fn(&mut Sim)) {
    if let Some(seed) = number("AFTERCOMMIT_SEED") {
        return run(name, seed, usize::MAX, &test);
    }
    let seeds = number("AFTERCOMMIT_SEEDS").unwrap_or(seeds);
    (0..seeds).for_each(|seed| run(name, seed, SHOWN, &test));
}

fn run(name: &str, seed: u64, shown: usize, test: impl Fn(&mut Sim)) {
    let mut sim = Sim::new(seed);
    let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| test(&mut sim))) else { return };
    let trace = sim.trace();
    let hidden = trace.len().saturating_sub(shown);
    eprintln!("simulation `{name}` failed with seed {seed}; run it alone with AFTERCOMMIT_SEED={seed}");
    eprintln!("its trace, without the first {hidden} lines:");
    trace[hidden..].iter().for_each(|line| eprintln!("  {line}"));
    panic::resume_unwind(panic);
}

fn number(variable: &str) -> Option<u64> {
    let said = std::env::var(variable).ok()?;
    Some(said.parse().unwrap_or_else(|_| panic!("{variable}={said} is no number")))
}
