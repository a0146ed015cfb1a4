//! The command as it is called from a shell.

use std::fs;
use std::process::{Command, Output, Stdio};

use shop::generate::Month;
use shop::log::Source;
use tempfile::TempDir;

use crate::replayed;

fn shop(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shop")).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn generate_writes_the_same_month_plain_packed_and_to_standard_output() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (plain, packed) = (path("month.csv"), path("month.csv.gz"));
    let asked = ["generate", "--seed", "7", "--days", "3", "--lines", "1000"];
    for out in [&plain, &packed] {
        let output = shop(&[&asked[..], &["--out", out]].concat());
        assert!(output.status.success());
        assert!(output.stdout.is_empty());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("made-up shop (seed 7, 3 days, 1000 lines): 1001 lines in "), "{told}");
    }
    let output = shop(&asked);
    assert!(output.status.success());
    assert_eq!(output.stdout, fs::read(&plain).unwrap());
    assert!(fs::read(&packed).unwrap().len() < output.stdout.len() / 2);
    assert_eq!(replayed::units(&Source::File(plain.into())), replayed::units(&Source::File(packed.into())));
}

#[test]
fn generate_without_arguments_writes_the_month_that_a_replay_without_a_file_reads() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("month.csv.gz");
    assert!(shop(&["generate", "--out", path.to_str().unwrap()]).status.success());
    let content = |source: Source| source.content().unwrap();
    assert_eq!(content(Source::File(path)), content(Source::Generated(Month::default())));
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let output = shop(&["generate", "--lines", "10", "--out", "no/such/folder/month.csv"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("error: cannot write no/such/folder/month.csv: No such file"), "{told}");
}

#[test]
fn months_that_cannot_be_are_refused() {
    for args in [["--days", "0"], ["--days", "40000"], ["--lines", "0"], ["--seed", "x"], ["--days", "x"]] {
        let output = shop(&[&["generate"][..], &args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8(output.stderr).unwrap().contains(args[0]), "{args:?}");
    }
}
