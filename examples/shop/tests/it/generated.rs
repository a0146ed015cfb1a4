//! The made-up month: always the same, with everything a shop sees, and its replay equals a plain recomputation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::num::{NonZeroU32, NonZeroU64};

use shop::generate::Month;
use shop::log::Source;

use crate::{plain, replayed};

fn month(seed: u64, days: u32, lines: u64) -> Month {
    Month { seed, days: NonZeroU32::new(days).unwrap(), lines: NonZeroU64::new(lines).unwrap() }
}

fn text(month: Month) -> String {
    let mut text = String::new();
    month.text().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_replay_of_the_default_month_equals_a_plain_recomputation() {
    let source = Source::Generated(Month::default());
    let units = replayed::units(&source);
    let expected = plain::recompute(&text(Month::default()), 20);
    assert_eq!(units.len(), expected.units);
    assert_eq!(replayed::rankings(units.iter(), &replayed::by_count(), 20), expected.by_count);
    assert_eq!(replayed::rankings(units.iter().rev(), &replayed::by_value(), 20), expected.by_value);
    assert_eq!(replayed::items(units.iter()), expected.items);
    assert_eq!(expected.by_count.lines().count(), 30);
}

#[test]
fn other_months_equal_a_plain_recomputation() {
    for (seed, days, lines) in [(2, 1, 500), (3, 400, 5_000), (4, 3, 1), (5, 60, 40), (u64::MAX, 2, 20_000)] {
        let month = month(seed, days, lines);
        let units = replayed::units(&Source::Generated(month));
        let expected = plain::recompute(&text(month), 5);
        assert_eq!(units.len(), expected.units, "{month}");
        assert_eq!(replayed::rankings(units.iter(), &replayed::by_count(), 5), expected.by_count, "{month}");
        assert_eq!(replayed::rankings(units.iter(), &replayed::by_value(), 5), expected.by_value, "{month}");
        assert_eq!(replayed::items(units.iter()), expected.items, "{month}");
        assert_eq!(text(month).lines().count() as u64, lines + 1, "{month}");
    }
}

#[test]
fn the_default_month_never_changes() {
    let content = Source::Generated(Month::default()).content().unwrap();
    assert_eq!((content.lines, content.bytes, content.hash), (200_001, 6_557_559, 6_751_458_760_511_563_347));
}

#[test]
fn a_month_has_everything_a_shop_sees() {
    let units = replayed::units(&Source::Generated(Month::default()));
    let rows: Vec<_> = units.iter().flat_map(|unit| &unit.rows).collect();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut looks: BTreeMap<u64, usize> = BTreeMap::new();
    for row in &rows {
        *kinds.entry(row.kind.name()).or_default() += 1;
        *looks.entry(row.item).or_default() += 1;
    }
    for (kind, least) in
        [("view", 100_000), ("like", 5_000), ("addtocart", 20_000), ("purchase", 10_000), ("cancel", 500)]
    {
        assert!(kinds[kind] >= least, "{kinds:?}");
    }
    let mut looks: Vec<usize> = looks.into_values().collect();
    looks.sort_unstable();
    assert!(looks.len() > 950 && looks[looks.len() - 1] > 20 * looks[looks.len() / 2], "a few items sell most");

    let days: BTreeSet<_> = rows.iter().map(|row| row.day).collect();
    assert_eq!(days.len(), 30);
    let cut_by_midnight = units.iter().filter(|unit| unit.rows.iter().any(|row| row.day != unit.rows[0].day));
    assert_eq!(cut_by_midnight.count(), 29);
    let late = rows.windows(2).filter(|pair| pair[1].day < pair[0].day);
    assert!(late.count() >= 29);
    let mut seen = BTreeSet::new();
    let again = units.iter().filter_map(|unit| unit.order.as_deref()).filter(|order| !seen.insert(*order));
    assert!(again.count() >= 29, "orders come again");
    let twice = units.iter().filter(|unit| unit.rows.windows(2).any(|pair| pair[0] == pair[1]));
    assert!(twice.count() > 20, "lines come twice");
    assert!(rows.iter().any(|row| row.user == 0));
}

#[test]
fn another_seed_is_another_month() {
    assert_ne!(text(month(1, 3, 1_000)), text(month(2, 3, 1_000)));
    assert_eq!(text(month(1, 3, 1_000)), text(month(1, 3, 1_000)));
}
