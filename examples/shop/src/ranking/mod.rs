//! Each day's weighted ranking of items.
//!
//! A cell holds an item's score of a day; it exists from the first event on that ranks the item, even one that weighs nothing.
//! What an event weighs is said by [`Scoring`](crate::score::Scoring); who is on top, by [`report`](crate::report).

mod listeners;

use aftercommit::prelude::*;
use aftercommit::table::Read;

use crate::day::Day;
use crate::score::Score;

/// Scores in units of 10^-12, by day and item.
const SCORES: Counters<(Day, u64)> = Counters::new("shop.scores");

/// The score of each ranked item of each day, by day, then by item.
///
/// # Errors
/// A score that cannot be read stands in its place.
pub fn scores(rows: &mut impl Read) -> impl Iterator<Item = Result<(Day, u64, Score), Error>> {
    SCORES.iter(rows).map(|row| {
        let ((day, item), units) = row?;
        Ok((day, item, Score::from_units(units)))
    })
}
