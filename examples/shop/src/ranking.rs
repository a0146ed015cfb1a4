//! Each day's weighted ranking of items.
//!
//! The ranking is one of `aftercommit`'s: it listens to views, likes, carts and orders, durably; a cancel takes nothing back.
//! An item is ranked from the first event on that ranks it, even one that weighs nothing.
//! What an event weighs is said by [`Scoring`]; scores have six decimals, rounded once, and what differs by less is a tie.

use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::ranking::{Credits, Ranking, RankingBuilder, Scale, Windows, ln_1p};

use crate::catalog::events::{ItemAddedToCart, ItemLiked, ItemViewed};
use crate::day::{DAY_MS, Day};
use crate::orders::events::OrderPlaced;
use crate::report;
use crate::score::Scoring;

/// The shop's ranking, to be built; by day, all days kept.
///
/// Logarithms are measured to 10^-12: in real data true sums come within 2 * 10^-10 of the middle between two millionths.
pub fn declare(scoring: Scoring) -> RankingBuilder<u64> {
    let Scoring { weights, purchase_value } = scoring;
    Ranking::declare("shop.ranking")
        .measure(Scale::decimals(12))
        .windows(Windows::every(Duration::from_millis(DAY_MS as u64)))
        // A log may be of any year.
        .ahead(Duration::MAX)
        .source("view", weights.view.to_string(), |event: &ItemViewed, credits| one(credits, event.day, event.item))
        .source("like", weights.like.to_string(), |event: &ItemLiked, credits| one(credits, event.day, event.item))
        .source("cart", weights.addtocart.to_string(), |event: &ItemAddedToCart, credits| {
            one(credits, event.day, event.item);
        })
        .source("purchase", weights.purchase.to_string(), move |event: &OrderPlaced, credits| {
            for line in &event.lines {
                match (purchase_value, line.amount()) {
                    (false, _) => one(credits, line.day, line.item),
                    (true, amount) => {
                        credits.at(moment(line.day));
                        credits.points(line.item, amount.map_or(0.0, |amount| ln_1p(amount.to_f64())));
                    }
                }
            }
        })
}

fn one(credits: &mut Credits<u64>, day: Day, item: u64) {
    credits.at(moment(day));
    credits.one(item);
}

/// The day as the ranking tells time: counted from the first day there is, as a log may be older than 1970.
pub fn moment(day: Day) -> Timestamp {
    let since = i64::from(day.number()) - i64::from(Day::FIRST);
    Timestamp(u64::try_from(since * DAY_MS).unwrap_or(0))
}

fn day(moment: Timestamp) -> Option<Day> {
    let since = i64::try_from(moment.0).ok()? / DAY_MS;
    Day::from_number(i32::try_from(since + i64::from(Day::FIRST)).ok()?)
}

/// Each day's best `top`, by day; days on which no item was ranked are left out.
pub fn days(ranking: &Ranking<u64>, top: usize) -> impl Iterator<Item = report::Ranking> {
    ranking.windows().into_iter().filter_map(move |begin| {
        let (ranked_items, best) = ranking.window(begin, |board| (board.len() as u64, board.top(top)))?;
        let top =
            (1..).zip(best).map(|(rank, one)| report::Ranked { rank, item: one.item, score: one.score }).collect();
        Some(report::Ranking { day: day(begin)?, ranked_items, top }).filter(|_| ranked_items > 0)
    })
}
