//! Rankings: boards in memory, windows of time, and boards that durable listeners keep.

mod kept;
#[cfg(unix)]
mod kills;
mod rk;
mod windows;

use std::collections::BTreeMap;

use aftercommit::clock::Timestamp;
use aftercommit::event::Stored;
use aftercommit::prelude::*;
use aftercommit::ranking::{Credits, Ranking, Score};
use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400_000;

/// Somebody looked at an item, at a moment of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Viewed {
    item: u32,
    at: u64,
}

impl Event for Viewed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("ranking.viewed").logged());
}

impl StoredEvent for Viewed {}

/// Somebody bought for so much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sold {
    item: u32,
    amount: f64,
    at: u64,
}

impl Event for Sold {
    const STORED: Option<Stored<Self>> = Some(Stored::json("ranking.sold").logged());
}

impl StoredEvent for Sold {}

fn viewed(event: &Viewed, credits: &mut Credits<u32>) {
    credits.at(Timestamp(event.at));
    credits.one(event.item);
}

fn sold(event: &Sold, credits: &mut Credits<u32>) {
    credits.at(Timestamp(event.at));
    credits.points(event.item, event.amount);
}

/// Every kept window with its items, best first.
fn all(ranking: &Ranking<u32>) -> BTreeMap<u64, Vec<(u32, i64)>> {
    let read = |begin: Timestamp| {
        ranking.window(begin, |board| board.iter().map(|one| (one.item, one.score.0)).collect()).expect("it is kept")
    };
    ranking.windows().into_iter().map(|begin| (begin.0, read(begin))).collect()
}

fn order(ranking: &Ranking<u32>) -> Vec<u32> {
    ranking.top(usize::MAX).into_iter().map(|one| one.item).collect()
}

fn score(ranking: &Ranking<u32>, item: u32) -> Option<Score> {
    ranking.current(|board| board.score(&item)).flatten()
}

/// What is said of scores, done the plain way: in wide integers, window by window, from all events at once.
///
/// `events` are (window, item, source, nine decimals of measure); weights and the part carried over have six decimals.
fn plainly(events: &[(u64, u32, usize, i64)], weights: &[i64], carry: i64) -> BTreeMap<u64, Vec<(u32, i64)>> {
    fn rounded(value: i128, by: i128) -> i64 {
        let half = if value < 0 { -(by / 2) } else { by / 2 };
        i64::try_from((value + half) / by).expect("it fits")
    }
    let (Some(first), Some(last)) =
        (events.iter().map(|event| event.0).min(), events.iter().map(|event| event.0).max())
    else {
        return BTreeMap::new();
    };
    let mut totals: BTreeMap<u32, i64> = BTreeMap::new();
    let mut windows = BTreeMap::new();
    for window in (first..=last).step_by(usize::try_from(DAY).expect("a day")) {
        let mut measured: BTreeMap<u32, i128> = BTreeMap::new();
        for (_, item, source, amount) in events.iter().filter(|event| event.0 == window) {
            *measured.entry(*item).or_default() += i128::from(*amount) * i128::from(weights[*source]);
        }
        let mut now: BTreeMap<u32, i64> = totals
            .iter()
            .map(|(item, total)| (*item, rounded(i128::from(*total) * i128::from(carry), 1_000_000)))
            .filter(|(_, carried)| *carried != 0)
            .collect();
        for (item, measured) in measured {
            *now.entry(item).or_default() += rounded(measured, 1_000_000_000);
        }
        let mut best: Vec<(u32, i64)> = now.iter().map(|(item, total)| (*item, *total)).collect();
        best.sort_by_key(|(item, total)| (std::cmp::Reverse(*total), *item));
        windows.insert(window, best);
        totals = now;
    }
    windows
}
