//! Killed at any moment, any number of times, and run again: the same output, nothing lost, nothing twice.

use std::io::Read;
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::replay::Log;
use crate::shop::{command, printed, run, text};

/// Waits until the child has closed its standard output, at most `leash`; then kills it with SIGKILL.
/// Answers what it printed, if it ended by itself.
fn run_on_leash(mut child: Child, leash: Duration) -> Option<String> {
    let mut out = child.stdout.take().unwrap();
    let (ended, end) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        let _ = ended.send(());
        text
    });
    if end.recv_timeout(leash).is_err() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = reader.join().unwrap();
    assert!(output.status.success() || output.status.code().is_none(), "{}", String::from_utf8_lossy(&output.stderr));
    output.status.success().then_some(text)
}

/// Kills runs at moments drawn from `seed` until one is faster than its leash; answers what that one printed, and how many were killed.
fn killed_until_done(args: &[&str], seed: u64) -> (String, u32) {
    let mut dice = seed;
    for kills in 0.. {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Short at first, so that the fastest machine is killed, and longer with each kill, so that the slowest comes to an end.
        let longer = u64::from(kills) * 20;
        let leash = Duration::from_millis(20 + longer + (dice >> 33) % (30 + 2 * longer));
        if let Some(printed) = run_on_leash(command(args).spawn().unwrap(), leash) {
            return (printed, kills);
        }
    }
    unreachable!()
}

#[test]
fn a_replay_killed_again_and_again_ends_with_the_same_output_on_every_store() {
    let log = Log::month(10_000);
    for (seed, store) in [(1, "sled"), (2, "sled"), (1, "redb"), (2, "redb")] {
        let data = log.data(&format!("{store}-{seed}"));
        let place = ["--data", text(&data), "--store", store];
        let (output, kills) = killed_until_done(&[&["replay", text(&log.path)], &place[..]].concat(), seed);
        assert_eq!(output, log.expected.by_count, "{store}, seed {seed}, killed {kills} times");
        assert!(kills >= 3, "{store}, seed {seed}: killed {kills} times");
        assert_eq!(printed(&run(&[&["items"], &place[..]].concat())), log.expected.items, "{store}, seed {seed}");
    }
}
