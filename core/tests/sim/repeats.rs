//! The same seed is the same run.

use std::collections::BTreeSet;

use aftercommit::testing::sim::Sim;

use crate::shop::shop;

/// The trace of the shop under a seed, and how many lives and troubles it had.
fn run(seed: u64) -> (Vec<String>, usize, usize) {
    let mut sim = Sim::new(seed);
    shop(&mut sim);
    (sim.trace(), sim.count_lives(), sim.count_troubles())
}

#[test]
fn the_same_seed_is_the_same_run_line_for_line_and_another_is_another() {
    let (mut runs, mut lives, mut troubles) = (BTreeSet::new(), 0, 0);
    for seed in 0..40 {
        let first = run(seed);
        let second = run(seed);
        for (line, (one, other)) in first.0.iter().zip(&second.0).enumerate() {
            assert_eq!(one, other, "seed {seed}, line {line}");
        }
        assert_eq!(first, second, "seed {seed}");
        lives += first.1;
        troubles += first.2;
        runs.insert(first.0);
    }
    assert_eq!(runs.len(), 40, "each seed decides otherwise");
    let kinds = [
        "kill: ",
        "power cut: ",
        "a conflict",
        "a storage error",
        "a commit in doubt",
        "notice: ",
        " parked",
        "the carrier",
    ];
    for kind in kinds {
        assert!(runs.iter().flatten().any(|line| line.contains(kind)), "`{kind}` never came");
    }
    assert!(lives > 120 && troubles > 120, "{lives} lives with {troubles} troubles");
}
