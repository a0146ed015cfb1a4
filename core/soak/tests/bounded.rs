//! A bounded soak, for every run of the tests.

use std::process::Command;

fn soak(store: &str) {
    let program = env!("CARGO_BIN_EXE_aftercommit-soak");
    let run = Command::new(program).args(["--seconds", "6", "--store", store]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("nothing is violated"), "{said}");
}

#[test]
fn every_event_is_accounted_for_once_by_each_listener_on_sled() {
    soak("sled");
}

#[test]
fn every_event_is_accounted_for_once_by_each_listener_on_redb() {
    soak("redb");
}

#[test]
fn what_it_does_not_know_is_refused() {
    let run = Command::new(env!("CARGO_BIN_EXE_aftercommit-soak")).arg("--forever").output().expect("the program runs");
    assert_eq!(run.status.code(), Some(2));
}
