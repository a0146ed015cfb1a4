//! Real shops, where their data is at hand: every day's ranking and every item's sales equal the answer keys.
//!
//! The data is in `../shared/data` beside the workspace; without it these tests say so and prove nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aftercommit::adapters::memory::MemoryStore;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use shop::log::Source;
use shop::score::Scoring;

use crate::{plain, replayed, shop as running};

/// The folder of a data set, if `shared/data` is beside the workspace or further up.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut beside = workspace.ancestors().skip(1).map(|folder| folder.join("shared/data").join(name));
    let found = beside.find(|folder| folder.join("events.csv.gz").is_file());
    if found.is_none() {
        // Straight to standard error: a passing test's `eprintln!` is not shown.
        let _ = writeln!(io::stderr(), "not tested: {name} is not in ../shared/data beside {}", workspace.display());
    }
    found
}

fn key(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("answer_key.json")).unwrap()).unwrap()
}

/// Compares printed rankings with a key's `list`, whose scores are multiples of `1 / per_point` under `field`.
fn check(printed: &str, key: &Value, list: &str, field: &str, per_point: f64) {
    let days = key["days"].as_object().unwrap();
    assert_eq!(printed.lines().count(), days.len());
    for (line, (day, expected)) in printed.lines().zip(days) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["day"], day.as_str());
        assert_eq!(line["ranked_items"], expected["ranked_items"], "{day}");
        let top = line["top"].as_array().unwrap();
        let expected = expected[list].as_array().unwrap();
        assert_eq!(top.len(), expected.len(), "{day}");
        for (place, expected) in top.iter().zip(expected) {
            assert_eq!((&place["rank"], &place["item"]), (&expected["rank"], &expected["item"]), "{day}");
            let score = place["score"].as_f64().unwrap();
            assert_eq!(score, expected[field].as_f64().unwrap() / per_point, "{day}: {place}");
        }
    }
}

#[test]
fn online_retail_equals_its_answer_key_under_both_weightings() {
    let Some(folder) = folder("online_retail") else { return };
    let key = key(&folder);
    let source = Source::File(folder.join("events.csv.gz"));
    let units = replayed::units(&source);
    assert_eq!(units.len(), 23_196);
    assert_eq!(units.iter().map(|unit| unit.rows.len()).sum::<usize>(), 536_429);
    assert_eq!(units.iter().map(|unit| unit.order.as_deref().unwrap()).collect::<BTreeSet<_>>().len(), 23_195);

    let by_count = replayed::rankings(units.iter(), &replayed::by_count(), 20);
    assert_eq!(by_count.lines().count(), 305);
    check(&by_count, &key, "top_v1", "tenths", 10.0);
    let by_value = replayed::rankings(units.iter(), &replayed::by_value(), 20);
    check(&by_value, &key, "top_v2", "micro", 1e6);

    assert_eq!(replayed::rankings(units.iter().rev(), &replayed::by_count(), 20), by_count);
    assert_eq!(replayed::rankings(units.iter().rev(), &replayed::by_value(), 20), by_value);

    let mut text = String::new();
    let file = fs::File::open(folder.join("events.csv.gz")).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    let plain = plain::recompute(&text, 20);
    assert_eq!(plain.by_count, by_count);
    assert_eq!(plain.by_value, by_value);
    assert_eq!(plain.units, units.len());
}

#[test]
fn online_retail_sales_equal_the_item_totals() {
    let Some(folder) = folder("online_retail") else { return };
    let units = replayed::units(&Source::File(folder.join("events.csv.gz")));
    let printed = replayed::items(units.iter());
    let totals = fs::read_to_string(folder.join("item_totals.csv")).unwrap();
    assert_eq!(printed.lines().count(), 3_806);
    assert_eq!(printed.lines().count(), totals.lines().count());
    for (line, expected) in printed.lines().zip(totals.lines()).skip(1) {
        let [item, sold, cancelled, revenue] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let [item_key, _rows, sold_key, cancelled_key, revenue_key] = expected.split(',').collect::<Vec<_>>()[..]
        else {
            panic!("{expected}")
        };
        assert_eq!((item, sold, cancelled), (item_key, sold_key, cancelled_key));
        assert_eq!(hundredths(revenue), hundredths(revenue_key), "item {item}");
    }
}

/// A decimal with at most two places, whose number of places is not told.
fn hundredths(decimal: &str) -> u64 {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    format!("{whole}{fraction:0<2}").parse().unwrap()
}

#[test]
fn otto_sample_equals_its_answer_key() {
    let Some(folder) = folder("otto_sample") else { return };
    let units = replayed::units(&Source::File(folder.join("events.csv.gz")));
    assert_eq!(units.len(), 862);
    let printed = replayed::rankings(units.iter(), &Scoring::default(), 20);
    assert_eq!(printed.lines().count(), 29);
    check(&printed, &key(&folder), "top_v1", "tenths", 10.0);
}

#[test]
fn online_retail_on_the_bus_equals_its_answer_key_and_item_totals() {
    let Some(folder) = folder("online_retail") else { return };
    let log = folder.join("events.csv.gz");
    let store = MemoryStore::new();
    let printed = running::replay(&[running::text(&log)], || Ok(store.clone())).unwrap();
    check(&printed, &key(&folder), "top_v1", "tenths", 10.0);
    let units = replayed::units(&Source::File(log));
    assert_eq!(running::items(&folder, || store.reopen()).unwrap(), replayed::items(units.iter()));
}

#[test]
fn online_retail_on_the_bus_by_value_equals_its_answer_key() {
    let Some(folder) = folder("online_retail") else { return };
    let log = folder.join("events.csv.gz");
    let printed = running::replay(&[running::text(&log), "--purchase-value"], || Ok(MemoryStore::new())).unwrap();
    check(&printed, &key(&folder), "top_v2", "micro", 1e6);
}

#[test]
fn otto_sample_on_the_bus_equals_its_answer_key_on_every_store() {
    let Some(folder) = folder("otto_sample") else { return };
    let log = folder.join("events.csv.gz");
    let printed = running::replay(&[running::text(&log)], || Ok(MemoryStore::new())).unwrap();
    check(&printed, &key(&folder), "top_v1", "tenths", 10.0);
    for store in running::STORES {
        let data = tempfile::TempDir::new().unwrap();
        let stored = running::replay_on(store, &[running::text(&log)], &data.path().join("data")).unwrap();
        assert_eq!(stored, printed, "{store:?}");
    }
}
