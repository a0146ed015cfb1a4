//! Views, likes and purchases with weights of their own, half of each day carried over, many of them days late: the ranking on the
//! bus equals a plain recomputation that shares no code with it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use aftercommit::adapters::memory::MemoryStore;
use aftercommit::prelude::*;
use aftercommit::ranking::Ranking;
use shop::catalog::events::{ItemLiked, ItemViewed};
use shop::day::Day;
use shop::generate::Month;
use shop::log::{Kind, Source};
use shop::orders::events::OrderPlaced;
use shop::orders::{Line, OrderId};
use shop::ranking;
use shop::score::Scoring;
use tokio::runtime::Runtime;

use crate::{real_data, replayed};

/// What happened on a day, and how many days later it is told.
struct Told {
    line: Line,
    kind: Kind,
    late: u64,
}

/// A random source of the test's own.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// The purchases of a log's first `days` days, and for each of them a few views and likes of other items.
fn stream(source: &Source, days: i32) -> Vec<Told> {
    let mut dice = Dice(7);
    let mut told = Vec::new();
    let rows = replayed::units(source).into_iter().flat_map(|unit| unit.rows).filter(|row| row.kind == Kind::Purchase);
    let rows: Vec<_> = rows.collect();
    let first = rows.iter().map(|row| row.day).min().expect("purchases");
    for row in rows.iter().filter(|row| row.day.number() < first.number() + days) {
        let late = |dice: &mut Dice| if dice.below(10) == 0 { dice.below(4) } else { 0 };
        let line = Line { day: row.day, item: row.item, quantity: row.quantity, price: row.price };
        told.push(Told { line, kind: Kind::Purchase, late: late(&mut dice) });
        for _ in 0..dice.below(3) {
            let kind = if dice.below(4) == 0 { Kind::Like } else { Kind::View };
            let item = rows[dice.below(rows.len() as u64) as usize].item;
            let line = Line { day: row.day, item, quantity: None, price: None };
            told.push(Told { line, kind, late: late(&mut dice) });
        }
    }
    told.sort_by_key(|one| i64::from(one.line.day.number()) + one.late as i64);
    told
}

/// Each day's items with their scores in millionths, best first: 0.1 a view, 0.2 a like, 0.7 * ln(1 + value) a purchase, and half of
/// the day before.
fn plainly(told: &[Told]) -> BTreeMap<i32, Vec<(u64, i64)>> {
    let mut earned: BTreeMap<i32, BTreeMap<u64, f64>> = BTreeMap::new();
    // Largest last, so that the sum of floats loses least.
    let mut points: Vec<(i32, u64, f64)> = told
        .iter()
        .map(|Told { line, kind, .. }| {
            let points = match kind {
                Kind::View => 0.1,
                Kind::Like => 0.2,
                _ => {
                    let amount = line.amount().map_or(0, |amount| amount.ten_thousandths());
                    0.7 * (amount as f64 / 1e4).ln_1p()
                }
            };
            (line.day.number(), line.item, points)
        })
        .collect();
    points.sort_by(|left, right| left.2.total_cmp(&right.2));
    for (day, item, points) in points {
        *earned.entry(day).or_default().entry(item).or_default() += points;
    }
    let (first, last) = (*earned.keys().next().expect("a day"), *earned.keys().next_back().expect("a day"));
    let mut before: BTreeMap<u64, i64> = BTreeMap::new();
    let mut days = BTreeMap::new();
    for day in first..=last {
        before =
            before.into_iter().map(|(item, total)| (item, (total + 1) / 2)).filter(|(_, half)| *half > 0).collect();
        for (item, points) in earned.remove(&day).unwrap_or_default() {
            *before.entry(item).or_default() += (points * 1e6).round() as i64;
        }
        let mut best: Vec<(u64, i64)> = before.iter().map(|(item, total)| (*item, *total)).collect();
        best.sort_by_key(|(item, total)| (Reverse(*total), *item));
        days.insert(day, best);
    }
    days
}

fn ranking() -> Ranking<u64> {
    let scoring = Scoring { purchase_value: true, ..Scoring::default() };
    ranking::declare(scoring).carry("0.5").build().unwrap()
}

fn read(ranking: &Ranking<u64>, days: impl Iterator<Item = i32>) -> BTreeMap<i32, Vec<(u64, i64)>> {
    days.map(|number| {
        let day = ranking::moment(Day::from_number(number).unwrap());
        let board = ranking.window(day, |board| board.iter().map(|one| (one.item, one.score.0)).collect());
        (number, board.unwrap_or_default())
    })
    .collect()
}

fn check(source: &Source, days: i32) {
    let told = stream(source, days);
    assert!(told.iter().filter(|one| one.late > 0).count() > told.len() / 20, "many are late");
    let expected = plainly(&told);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let (store, first) = (MemoryStore::new(), ranking());
        let bus = Bus::builder().store(store.clone()).ranking(&first).start().await.unwrap();
        for (number, some) in told.chunks(50).enumerate() {
            let publish = async |tx: &mut Tx| {
                some.iter().try_for_each(|Told { line, kind, .. }| match kind {
                    Kind::View => tx.publish(ItemViewed { item: line.item, day: line.day }),
                    Kind::Like => tx.publish(ItemLiked { item: line.item, day: line.day }),
                    _ => tx.publish(OrderPlaced { order: OrderId::alone(number as u64), lines: vec![*line] }),
                })
            };
            bus.transaction(publish).await.unwrap();
        }
        bus.idle().await;
        assert_eq!(read(&first, expected.keys().copied()), expected);
        bus.shutdown(std::time::Duration::from_secs(30)).await.unwrap();
        let again = ranking();
        let bus = Bus::builder().store(store.reopen().unwrap()).ranking(&again).start().await.unwrap();
        assert_eq!(read(&again, expected.keys().copied()), expected, "after a restart");
        drop(bus);
    });
}

#[test]
fn a_made_up_month_with_mixed_weights_carry_over_and_late_events_equals_a_plain_recomputation() {
    let month = Month { seed: 3, days: NonZeroU32::new(12).unwrap(), lines: NonZeroU64::new(8_000).unwrap() };
    check(&Source::Generated(month), 12);
}

#[test]
fn online_retail_with_views_and_likes_carry_over_and_late_events_equals_a_plain_recomputation() {
    let Some(folder) = real_data::folder("online_retail") else { return };
    check(&Source::File(folder.join("events.csv.gz")), 8);
}
