//! A bounded replay of power cuts, for every run of the tests; and that the replay sees loss where there is some.
#![cfg(target_os = "linux")]

use std::path::PathBuf;

use aftercommit_powercut::{Ignored, Plan, Subject, Summary, Syncs, Violation, WORKLOADS, Workload, run};

/// Runs so many states of each workload; the folder goes with the test.
fn replay(subject: Subject, syncs: Syncs, workloads: &[&str], states: usize) -> Vec<Summary> {
    let memory = PathBuf::from("/dev/shm");
    let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let path = home.path().canonicalize().expect("its path");
    let plan = Plan {
        subject,
        workloads: workloads.iter().map(|name| Workload::named(name).expect("a workload")).collect(),
        states,
        seed: 1,
        syncs,
        threads: 2,
        program: PathBuf::from(env!("CARGO_BIN_EXE_aftercommit-powercut")),
        work: path.join("work"),
        keep: path.join("keep"),
    };
    let summaries = run(&plan, |_| {}).expect("the replay itself works");
    for summary in &summaries {
        assert!(summary.states * 2 >= states, "{}: only {} states were found", summary.workload, summary.states);
    }
    summaries
}

fn seen(summaries: &[Summary], violation: Violation) -> usize {
    summaries.iter().filter_map(|summary| summary.violations.get(&violation)).sum()
}

fn keeps_every_promise(subject: Subject) {
    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name()).collect();
    let summaries = replay(subject, Syncs::Honoured, &names, 10);
    for summary in &summaries {
        assert_eq!(summary.violated, 0, "{}: {:#?}", summary.workload, summary.failing);
        assert!(summary.after_second_cut > 0, "{}: no second cut was tried", summary.workload);
    }
}

#[test]
fn after_a_power_cut_at_any_drawn_moment_the_store_on_sled_keeps_every_promise() {
    keeps_every_promise(Subject::Sled);
}

#[test]
fn after_a_power_cut_at_any_drawn_moment_the_store_on_redb_keeps_every_promise() {
    keeps_every_promise(Subject::Redb);
}

#[test]
fn a_store_none_of_whose_syncs_reach_the_disk_is_seen_to_be_damaged() {
    let summaries = replay(Subject::Sled, Syncs::Ignored(Ignored::Files), &["single"], 40);
    // Its marker and its engine are hardly ever whole, and where they are the units are not.
    assert!(seen(&summaries, Violation::Refused) > 0, "{summaries:#?}");
    assert!(summaries[0].violated * 3 > summaries[0].states, "{summaries:#?}");
}

#[test]
fn a_store_whose_journal_alone_is_not_synced_is_seen_to_be_damaged() {
    let summaries = replay(Subject::Sled, Syncs::Ignored(Ignored::Named("journal".to_owned())), &["single"], 40);
    assert!(summaries[0].violated * 4 > summaries[0].states, "{summaries:#?}");
}

#[test]
fn a_store_whose_folders_are_not_synced_is_seen_to_lose_everything() {
    let summaries = replay(Subject::Sled, Syncs::Ignored(Ignored::Folders), &["single"], 48);
    assert!(seen(&summaries, Violation::Wiped) > 0, "{summaries:#?}");
}

#[test]
fn sled_alone_that_only_flushes_is_seen_to_lose_what_it_acknowledged() {
    let summaries = replay(Subject::BareSledFlush, Syncs::Honoured, &["crowd"], 24);
    assert!(seen(&summaries, Violation::Lost) > 0, "{summaries:#?}");
}
