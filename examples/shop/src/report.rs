//! What the shop prints: one ranking per day as lines of JSON, sales figures per item as CSV.
//!
//! A report is written from sums that are already made, in the order they come in; nothing but the report is written.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, Write};

use aftercommit::ranking;
use serde::{Deserialize, Serialize};

use crate::day::Day;
use crate::money::Money;
use crate::score::Score;

/// The ranking of one day.
///
/// Displayed as JSON: `{"day":"2010-12-01","ranked_items":1336,"top":[{"rank":1,"item":1507,"score":13.3}]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The day in UTC.
    pub day: Day,
    /// How many items had anything but cancels on that day.
    pub ranked_items: u64,
    /// The best of them, in order.
    pub top: Vec<Ranked>,
}

/// One place of a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Counted from 1; no two items share one.
    pub rank: u64,
    /// The item.
    pub item: u64,
    /// Its score, in millionths.
    pub score: ranking::Score,
}

impl Ranking {
    /// The best `top` of a day's items, each of which comes once.
    ///
    /// # Order
    /// By score in millionths, the highest first, then by the lower item.
    pub fn new(day: Day, items: impl IntoIterator<Item = (u64, Score)>, top: usize) -> Self {
        // The worst of the best is on top of the heap.
        let mut best = BinaryHeap::new();
        let mut ranked_items = 0;
        for (item, score) in items {
            ranked_items += 1;
            best.push((Reverse(score.millionths()), item, score));
            if best.len() > top {
                best.pop();
            }
        }
        let top = (1..)
            .zip(best.into_sorted_vec())
            .map(|(rank, (_, item, score))| Ranked { rank, item, score: ranking::Score(score.millionths()) })
            .collect();
        Self { day, ranked_items, top }
    }
}

/// Written by hand: nothing in it needs escaping, and a serialiser's floats would bring exponents (`1e-6`).
impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, ranked_items, top } = self;
        write!(f, r#"{{"day":"{day}","ranked_items":{ranked_items},"top":["#)?;
        for (place, Ranked { rank, item, score }) in top.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let score = ranking::Scale::decimals(6).show(*score);
            write!(f, r#"{comma}{{"rank":{rank},"item":{item},"score":{score}}}"#)?;
        }
        f.write_str("]}")
    }
}

/// Writes the ranking of each day as one JSON object a line.
///
/// `sums` holds each day's items and scores, by day ascending; an item comes once a day.
///
/// # Errors
/// The first error of `sums`, or of `out`.
pub fn rankings<E: From<io::Error>>(
    sums: impl IntoIterator<Item = Result<(Day, u64, Score), E>>,
    top: usize,
    out: &mut impl Write,
) -> Result<(), E> {
    let mut current: Option<(Day, Vec<(u64, Score)>)> = None;
    for sum in sums {
        let (day, item, score) = sum?;
        match &mut current {
            Some((open, items)) if *open == day => items.push((item, score)),
            _ => {
                if let Some((done, items)) = current.replace((day, vec![(item, score)])) {
                    writeln!(out, "{}", Ranking::new(done, items, top))?;
                }
            }
        }
    }
    if let Some((done, items)) = current {
        writeln!(out, "{}", Ranking::new(done, items, top))?;
    }
    Ok(())
}

/// What was sold of one item over the whole log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSales {
    /// Units in purchase rows.
    pub units_sold: i64,
    /// Units in cancel rows.
    pub units_cancelled: i64,
    /// Price times quantity over purchase rows; cancels take nothing off.
    pub revenue: Money,
}

/// Writes the sales of each item as CSV, in the order they come in.
///
/// # Errors
/// The first error of `sales`, or of `out`.
pub fn items<E: From<io::Error>>(
    sales: impl IntoIterator<Item = Result<(u64, ItemSales), E>>,
    out: &mut impl Write,
) -> Result<(), E> {
    out.write_all(b"item,units_sold,units_cancelled,revenue\n")?;
    for entry in sales {
        let (item, ItemSales { units_sold, units_cancelled, revenue }) = entry?;
        writeln!(out, "{item},{units_sold},{units_cancelled},{revenue}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(sums: &[(i32, u64, i64)], top: usize) -> String {
        let mut out = Vec::new();
        let sums = sums.iter().map(|&(day, item, units)| {
            Ok::<_, io::Error>((Day::from_number(day).unwrap(), item, Score::from_units(units)))
        });
        rankings(sums, top, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_day_is_one_line_with_its_best_items() {
        let sums = [
            (14_944, 7, 700_000_000_000),
            (14_944, 1507, 13_300_000_000_000),
            (14_944, 9, 1_400_000_000_000),
            (14_945, 3, 2_000_000_000_000),
        ];
        assert_eq!(
            printed(&sums, 2),
            "{\"day\":\"2010-12-01\",\"ranked_items\":3,\"top\":[\
             {\"rank\":1,\"item\":1507,\"score\":13.3},{\"rank\":2,\"item\":9,\"score\":1.4}]}\n\
             {\"day\":\"2010-12-02\",\"ranked_items\":1,\"top\":[{\"rank\":1,\"item\":3,\"score\":2}]}\n"
        );
        assert_eq!(printed(&[], 2), "");
    }

    #[test]
    fn ties_in_millionths_go_to_the_lower_item() {
        let sums = [(0, 30, 1_000_000_400_000), (0, 20, 1_000_000_000_000), (0, 10, 999_999_600_000), (0, 5, 1)];
        let ranking = Ranking::new(
            Day::from_number(0).unwrap(),
            sums.map(|(_, item, units)| (item, Score::from_units(units))),
            3,
        );
        assert_eq!(ranking.top.iter().map(|ranked| ranked.item).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(ranking.ranked_items, 4);
    }

    #[test]
    fn the_smallest_scores_have_no_exponent() {
        assert!(printed(&[(0, 1, 1_000_000)], 1).ends_with("\"score\":0.000001}]}\n"));
    }

    #[test]
    fn an_error_among_the_sums_ends_the_report() {
        let sums = [Err(io::Error::other("store is gone"))];
        assert_eq!(rankings(sums, 1, &mut Vec::new()).unwrap_err().to_string(), "store is gone");
    }

    #[test]
    fn items_are_lines_of_csv() {
        let sales = ItemSales { units_sold: 860, units_cancelled: 2, revenue: Money::from_ten_thousandths(7_598_900) };
        let mut out = Vec::new();
        items([Ok::<_, io::Error>((1, sales)), Ok((2, ItemSales::default()))], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "item,units_sold,units_cancelled,revenue\n1,860,2,759.89\n2,0,0,0.00\n"
        );
    }
}
