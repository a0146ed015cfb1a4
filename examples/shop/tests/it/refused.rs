//! What cannot be right is told in words with an exit code, and nothing of it is applied.

use std::fs;

use aftercommit::adapters::memory::MemoryStore;
use aftercommit::store::Store;
use aftercommit::table::Reader;
use shop::error::ShopError;
use shop::orders::OrderId;
use shop::orders::service::ORDERS;

use crate::plain;
use crate::replay::Log;
use crate::shop::{printed, refused, replay, run, text, told};

#[test]
fn another_log_or_other_weights_on_the_same_data_are_refused() {
    let (log, other) = (Log::month(300), Log::month(301));
    let data = log.data("data");
    let replay =
        |file: &Log, more: &[&str]| run(&[&["replay", text(&file.path), "--data", text(&data)][..], more].concat());
    assert_eq!(printed(&replay(&log, &[])), log.expected.by_count);
    let told = refused(&replay(&other, &[]));
    assert!(told.starts_with("error: the data is from another log, "), "{told}");
    assert!(told.contains(text(&log.path)) && told.contains(text(&other.path)), "{told}");
    for (weights, named) in [(&["--purchase-value"][..], "ln(1 + price * qty)"), (&["--weights", "view=3"], "view=3,")]
    {
        let told = refused(&replay(&log, weights));
        assert!(told.starts_with("error: the data was scored by view=0.1,") && told.contains(named), "{told}");
    }
    assert_eq!(printed(&replay(&log, &["--top", "1"])).lines().count(), log.expected.by_count.lines().count());
}

/// Order B has a bad line; A stands before it, C behind it.
const WITH_BAD: [&str; 6] = [
    "1,7,purchase,1,1,2.5,A",
    "2,7,purchase,1,1,2.5,B",
    "3,7,purchase,2,-1,2.5,B",
    "4,7,purchase,3,1,2.5,B",
    "5,7,purchase,1,1,2.5,C",
    "6,7,view,1,,,",
];

fn has_order(store: &MemoryStore, number: &str) -> bool {
    let mut reader = Reader::new(store.reader().unwrap());
    ORDERS.prefix(&mut reader, &OrderId::numbered(number.to_owned())).next().is_some()
}

#[test]
fn a_bad_line_is_told_with_file_and_line_and_nothing_of_its_order_is_applied() {
    let log = Log::of(&["1,7,view,1,,,"]);
    fs::write(&log.path, format!("{}\n{}\n", shop::log::HEADER, WITH_BAD.join("\n"))).unwrap();
    let store = MemoryStore::new();
    let error = replay(&[text(&log.path)], || Ok(store.clone())).unwrap_err();
    assert!(matches!(error, ShopError::Log(_)), "{error}");
    let store = store.reopen().unwrap();
    assert!(!has_order(&store, "B"));

    // Skipped on the same data, the rest is applied.
    let good = [WITH_BAD[0], WITH_BAD[4], WITH_BAD[5]].join("\n");
    let expected = plain::recompute(&format!("{}\n{good}\n", shop::log::HEADER), 20);
    assert_eq!(replay(&[text(&log.path), "--skip-bad"], || Ok(store.clone())).unwrap(), expected.by_count);
    let store = store.reopen().unwrap();
    assert!(has_order(&store, "A") && !has_order(&store, "B") && has_order(&store, "C"));
}

#[test]
fn the_command_tells_a_bad_line_and_counts_it_when_told_to_skip() {
    let log = Log::of(&["1,7,view,1,,,"]);
    fs::write(&log.path, format!("{}\n{}\n", shop::log::HEADER, WITH_BAD.join("\n"))).unwrap();
    let data = log.data("data");
    let args = ["replay", text(&log.path), "--data", text(&data)];
    let expected = format!(
        "error: {}: line 4: order B (3 lines) refused: qty `-1` cannot be used: negative\n",
        log.path.display()
    );
    assert_eq!(refused(&run(&args)), expected);
    assert_eq!(refused(&run(&args)), expected, "told again until the log is mended or the line skipped");
    let unfinished = run(&["items", "--data", text(&data)]);
    assert!(
        told(&unfinished).contains("log.csv has not come to its end: these are the sums so far"),
        "{}",
        told(&unfinished)
    );
    assert_eq!(printed(&unfinished), "item,units_sold,units_cancelled,revenue\n1,1,0,2.50\n");
    let skipped = run(&[&args[..], &["--skip-bad"]].concat());
    assert!(told(&skipped).contains("1 bad unit left out"), "{}", told(&skipped));
    assert_eq!(printed(&skipped).lines().count(), 1);
    let finished = run(&["items", "--data", text(&data)]);
    assert_eq!(
        (printed(&finished).as_str(), told(&finished).as_str()),
        ("item,units_sold,units_cancelled,revenue\n1,2,0,5.00\n", "")
    );
}

#[test]
fn a_log_that_cannot_be_read_leaves_no_data_behind() {
    let log = Log::of(&[]);
    let data = log.data("data");
    let told = refused(&run(&["replay", "no/such/log.csv", "--data", text(&data)]));
    assert!(told.starts_with("error: no/such/log.csv: cannot open: "), "{told}");
    fs::write(&log.path, "a,b,c\n").unwrap();
    let told = refused(&run(&["replay", text(&log.path), "--data", text(&data)]));
    assert!(told.contains("log.csv: line 1: expected the header "), "{told}");
    assert!(!data.exists());
}

#[test]
fn items_without_a_replay_are_refused() {
    let log = Log::of(&[]);
    let data = log.data("data");
    let told = refused(&run(&["items", "--data", text(&data)]));
    assert!(told.contains("holds no replayed log: run `shop replay`"), "{told}");
    assert!(!data.exists());
}

#[test]
fn a_folder_that_is_no_store_is_not_touched() {
    let log = Log::month(10);
    let folder = log.data("pictures");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cat.txt"), "meow").unwrap();
    for args in [vec!["items"], vec!["replay", text(&log.path)]] {
        let told = refused(&run(&[&args[..], &["--data", text(&folder)]].concat()));
        assert!(told.starts_with("error: cannot open the data in ") && told.contains("was not touched"), "{told}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn data_of_another_store_is_refused_by_its_name_and_not_touched() {
    let log = Log::month(10);
    for (made, other) in [("sled", "redb"), ("redb", "sled")] {
        let data = log.data(made);
        let replay = |store| run(&["replay", text(&log.path), "--data", text(&data), "--store", store]);
        assert_eq!(printed(&replay(made)), log.expected.by_count);
        let items = run(&["items", "--data", text(&data), "--store", other]);
        for told in [refused(&replay(other)), refused(&items)] {
            let reason = format!(" is a store on {made}, not on {other}: ");
            assert!(told.starts_with("error: cannot open the data in ") && told.contains(&reason), "{told}");
            assert!(told.contains("was not touched"), "{told}");
        }
        assert_eq!(printed(&replay(made)), log.expected.by_count);
    }
}

#[test]
fn a_sum_that_leaves_its_range_is_an_error_with_its_cause_and_prints_no_report() {
    // A hundred million million a line: nine such sums fit.
    let lines = vec!["1,7,purchase,5,1000000,100000000,"; 12];
    let log = Log::of(&lines);
    let args = [text(&log.path)];
    let store = MemoryStore::new();
    for _ in 0..2 {
        let error = replay(&args, || store.reopen()).unwrap_err();
        let ShopError::Parked { listener, events, cause } = &error else { panic!("{error}") };
        assert_eq!((listener.as_str(), events.0), ("shop.revenue", 3));
        assert!(cause.contains("of table `shop.revenue` would overflow"), "{cause}");
    }
}

#[test]
fn an_order_too_large_for_one_unit_of_work_is_told_with_its_line_and_not_applied() {
    let lines: Vec<String> = (0..30_000).map(|item| format!("1,7,purchase,{item},2,2.5,B")).collect();
    let lines: Vec<&str> = ["1,7,purchase,1,1,2.5,A"].into_iter().chain(lines.iter().map(String::as_str)).collect();
    let log = Log::of(&lines);
    let store = MemoryStore::new();
    let error = replay(&[text(&log.path)], || Ok(store.clone())).unwrap_err();
    assert!(matches!(error, ShopError::Unit { line: 3, .. }), "{error}");
    let told = shop::error::told(&error);
    assert!(told.contains("log.csv: line 3: the unit that begins here cannot be applied: the unit of work "), "{told}");
    let store = store.reopen().unwrap();
    assert!(has_order(&store, "A") && !has_order(&store, "B"));
}
