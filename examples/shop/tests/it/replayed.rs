//! What the shop's own code makes of a log, with its sums in memory.

use std::collections::BTreeMap;
use std::io;

use shop::day::Day;
use shop::log::{Kind, Source, Unit};
use shop::money::Money;
use shop::report::{self, ItemSales};
use shop::score::{Score, Scoring};

/// The units of a log without a bad line.
pub(crate) fn units(source: &Source) -> Vec<Unit> {
    source.units().unwrap().collect::<Result<_, _>>().unwrap()
}

/// The rankings of units, in whatever order they are given.
pub(crate) fn rankings<'a>(units: impl Iterator<Item = &'a Unit>, scoring: &Scoring, top: usize) -> String {
    let mut sums: BTreeMap<(Day, u64), Score> = BTreeMap::new();
    for row in units.flat_map(|unit| &unit.rows) {
        if let Some(score) = scoring.score(row) {
            let sum = sums.entry((row.day, row.item)).or_default();
            *sum = sum.checked_add(score).unwrap();
        }
    }
    let mut out = Vec::new();
    let sums = sums.into_iter().map(|((day, item), score)| Ok::<_, io::Error>((day, item, score)));
    report::rankings(sums, top, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The sales of each item.
pub(crate) fn items<'a>(units: impl Iterator<Item = &'a Unit>) -> String {
    let mut items: BTreeMap<u64, ItemSales> = BTreeMap::new();
    for row in units.flat_map(|unit| &unit.rows) {
        let quantity = row.quantity.map_or(0, |quantity| i64::from(quantity.get()));
        match row.kind {
            Kind::Purchase => {
                let sales = items.entry(row.item).or_default();
                sales.units_sold += quantity;
                sales.revenue = sales.revenue.checked_add(row.amount().unwrap_or(Money::ZERO)).unwrap();
            }
            Kind::Cancel => items.entry(row.item).or_default().units_cancelled += quantity,
            _ => {}
        }
    }
    let mut out = Vec::new();
    report::items(items.into_iter().map(Ok::<_, io::Error>), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Default weights, purchases counted.
pub(crate) fn by_count() -> Scoring {
    Scoring::default()
}

/// Default weights, purchases by their value.
pub(crate) fn by_value() -> Scoring {
    Scoring { purchase_value: true, ..Scoring::default() }
}
