//! What identifies a run.

use std::fs;
use std::io::Write;
use std::num::NonZeroU64;

use flate2::Compression;
use flate2::write::GzEncoder;
use shop::generate::Month;
use shop::log::{HEADER, Source};
use shop::run::{RunId, RunMismatch};
use shop::score::Scoring;
use tempfile::TempDir;

use crate::replayed::{by_count, by_value};

#[test]
fn a_run_is_known_by_its_text_whatever_the_file_is_called_and_however_compressed() {
    let folder = TempDir::new().unwrap();
    let text = format!("{HEADER}\n1,1,view,1,,,\n2,1,view,1,,,");
    let (plain, packed) = (folder.path().join("a.csv"), folder.path().join("b.csv.gz"));
    fs::write(&plain, &text).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    fs::write(&packed, encoder.finish().unwrap()).unwrap();
    let stored = RunId::new(&Source::File(plain), &by_count()).unwrap();
    let asked = RunId::new(&Source::File(packed), &by_count()).unwrap();
    assert_eq!(stored.admits(&asked), Ok(()));
    assert_eq!((stored.content().lines, stored.content().bytes), (3, text.len() as u64));
}

#[test]
fn another_log_or_other_weights_are_refused_in_words() {
    let folder = TempDir::new().unwrap();
    let run = |name: &str, lines: &str, scoring: &Scoring| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{HEADER}\n{lines}\n")).unwrap();
        RunId::new(&Source::File(path), scoring).unwrap()
    };
    let stored = run("a.csv", "1,1,view,1,,,", &by_count());

    let other = stored.admits(&run("b.csv", "1,1,view,2,,,", &by_count())).unwrap_err();
    assert!(matches!(other, RunMismatch::Log { .. }));
    let told = other.to_string();
    assert!(told.contains("a.csv (2 lines, hash ") && told.contains("b.csv (2 lines, hash "), "{told}");

    let other = stored.admits(&run("a.csv", "1,1,view,1,,,", &by_value())).unwrap_err();
    assert_eq!(
        other.to_string(),
        "the data was scored by view=0.1,like=0.2,addtocart=0.2,purchase=0.7, \
         not by view=0.1,like=0.2,addtocart=0.2,purchase=0.7 * ln(1 + price * qty): \
         use another directory or the same weights"
    );
    let weights = Scoring { weights: "view=0.2".parse().unwrap(), purchase_value: false };
    let other = stored.admits(&run("a.csv", "1,1,view,1,,,", &weights)).unwrap_err();
    assert!(matches!(other, RunMismatch::Scoring { .. }));
}

#[test]
fn a_run_is_the_same_after_it_was_stored() {
    let month = Month { lines: NonZeroU64::new(100).unwrap(), ..Month::default() };
    let run = RunId::new(&Source::Generated(month), &by_value()).unwrap();
    let stored: RunId = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(stored.admits(&run), Ok(()));
}

#[test]
fn a_generated_month_and_its_file_are_the_same_run() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("month.csv.gz");
    let month = Month { lines: NonZeroU64::new(5_000).unwrap(), ..Month::default() };
    month.write_file(&path, |_| {}).unwrap();
    let stored = RunId::new(&Source::Generated(month), &by_count()).unwrap();
    let asked = RunId::new(&Source::File(path), &by_count()).unwrap();
    assert_eq!(stored.admits(&asked), Ok(()));
    let other = RunId::new(&Source::Generated(Month { seed: 2, ..month }), &by_count()).unwrap();
    assert!(stored.admits(&other).is_err());
}
