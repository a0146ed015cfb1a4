//! A replay on the bus equals a plain recomputation, on every store.

use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;

use aftercommit::adapters::memory::MemoryStore;
use aftercommit::store::Store;
use aftercommit::table::Reader;
use shop::generate::Month;
use shop::log::HEADER;
use shop::orders::service::ORDERS;
use tempfile::TempDir;

use crate::plain::{self, Expected};
use crate::shop::{STORES, items, items_on, printed, replay, replay_on, run, text, told};

/// A log in a folder of its own, with a place for data beside it.
pub(crate) struct Log {
    folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) expected: Expected,
}

impl Log {
    /// A month of so many lines.
    pub(crate) fn month(lines: u64) -> Self {
        Self::new(|path| {
            let month = Month { lines: NonZeroU64::new(lines).unwrap(), ..Month::default() };
            month.write_file(path, |_| {}).unwrap();
        })
    }

    /// A log of these lines.
    pub(crate) fn of(lines: &[&str]) -> Self {
        Self::new(|path| fs::write(path, [&[HEADER], lines].concat().join("\n")).unwrap())
    }

    fn new(write: impl FnOnce(&std::path::Path)) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log.csv");
        write(&path);
        let expected = plain::recompute(&fs::read_to_string(&path).unwrap(), 20);
        Self { folder, path, expected }
    }

    /// A directory for data; not made yet.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn a_generated_month_equals_a_plain_recomputation_in_memory() {
    let log = Log::month(20_000);
    let store = MemoryStore::new();
    let by_count = replay(&[text(&log.path)], || Ok(store.clone())).unwrap();
    assert_eq!(by_count, log.expected.by_count);
    assert_eq!(items(log.path.parent().unwrap(), || store.reopen()).unwrap(), log.expected.items);
    let by_value = replay(&[text(&log.path), "--purchase-value"], || Ok(MemoryStore::new())).unwrap();
    assert_eq!(by_value, log.expected.by_value);
}

#[test]
fn a_generated_month_equals_a_plain_recomputation_on_every_store_in_a_folder() {
    let log = Log::month(6_000);
    for store in STORES {
        let data = log.data(&format!("by-count-{store:?}"));
        let by_count = replay_on(store, &[text(&log.path)], &data).unwrap();
        assert_eq!(by_count, log.expected.by_count, "{store:?}");
        assert_eq!(items_on(store, &data).unwrap(), log.expected.items, "{store:?}");
        let data = log.data(&format!("by-value-{store:?}"));
        let by_value = replay_on(store, &[text(&log.path), "--purchase-value"], &data).unwrap();
        assert_eq!(by_value, log.expected.by_value, "{store:?}");
    }
}

#[test]
fn how_many_units_are_in_flight_makes_no_difference() {
    let log = Log::month(3_000);
    for in_flight in ["1", "2", "500"] {
        let printed = replay(&[text(&log.path), "--in-flight", in_flight], || Ok(MemoryStore::new())).unwrap();
        assert_eq!(printed, log.expected.by_count, "{in_flight}");
    }
}

#[test]
fn a_second_replay_applies_nothing_and_prints_the_same() {
    let log = Log::month(2_000);
    for store in ["sled", "redb"] {
        let data = log.data(store);
        let args = ["replay", text(&log.path), "--data", text(&data), "--store", store];
        let (first, second) = (run(&args), run(&args));
        assert_eq!(printed(&first), log.expected.by_count);
        assert_eq!(printed(&second), log.expected.by_count);
        let units = log.expected.units;
        assert!(told(&first).contains(&format!("\n{units} units, ")), "{}", told(&first));
        assert!(told(&second).contains("\n0 units, "), "{}", told(&second));
        assert!(told(&second).contains(&format!("{units} units had been applied before")), "{}", told(&second));
        assert_eq!(printed(&run(&["items", "--data", text(&data), "--store", store])), log.expected.items);
        assert!(data.join("store").join(if store == "redb" { "data.redb" } else { store }).exists());
    }
}

#[test]
fn the_summary_tells_time_rate_and_memory() {
    let log = Log::month(500);
    let told = told(&run(&["replay", text(&log.path), "--data", text(&log.data("data"))]));
    assert!(told.contains(": 500 lines in "), "{told}");
    assert!(told.contains(" orders/s)") && told.contains("listeners done after "), "{told}");
    assert!(!cfg!(target_os = "linux") || told.contains("peak memory: "), "{told}");
}

#[test]
fn an_order_that_reappears_is_appended_to_and_equal_lines_count_as_they_stand() {
    let a = "1,7,purchase,1,1,2.5,A";
    let log = Log::of(&[a, a, "2,7,view,9,,,A", "3,7,purchase,2,1,2.5,B", "4,8,cancel,1,1,2.5,A", "5,8,purchase,3,,,"]);
    let store = MemoryStore::new();
    assert_eq!(replay(&[text(&log.path)], || Ok(store.clone())).unwrap(), log.expected.by_count);
    let store = store.reopen().unwrap();
    let rows: Vec<_> = ORDERS.iter(&mut Reader::new(store.reader().unwrap())).map(Result::unwrap).collect();
    let shape: Vec<_> =
        rows.iter().map(|((_, unit), part)| (*unit, part.ts_ms, part.bought.len(), part.cancelled.len())).collect();
    assert_eq!(shape, [(3, 5, 1, 0), (0, 1, 2, 0), (2, 4, 0, 1), (1, 3, 1, 0)], "{rows:?}");
    assert_eq!(rows[1].0.0, rows[2].0.0, "both parts are of the same order");
}

#[test]
fn an_order_of_a_thousand_lines_is_one_unit() {
    let lines: Vec<String> = (0..1_000).map(|item| format!("1,7,purchase,{item},2,2.5,A")).collect();
    let log = Log::of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    for store in STORES {
        let data = log.data(&format!("data-{store:?}"));
        assert_eq!(replay_on(store, &[text(&log.path)], &data).unwrap(), log.expected.by_count, "{store:?}");
        assert_eq!(items_on(store, &data).unwrap(), log.expected.items, "{store:?}");
    }
}

#[test]
fn a_log_with_only_a_header_has_no_rankings() {
    let log = Log::of(&[]);
    assert_eq!(replay(&[text(&log.path)], || Ok(MemoryStore::new())).unwrap(), "");
}
