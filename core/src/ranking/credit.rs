//! What an event adds to which items, before weights.
//!
//! A source measures events: how many, or how much. Its measure is kept; what that is worth is said by a weight, which may change.
//! A score is the sum of the sources' measures times their weights, rounded once, however many events there were.

use crate::clock::Timestamp;
use crate::error::RankingError;
use crate::ranking::score::{Scale, Score};

/// The decimals of weights.
pub(super) const WEIGHT: Scale = Scale::decimals(6);

/// What one event adds to a source's measures; handed to the function that a source is declared with.
///
/// ```
/// use aftercommit::clock::Timestamp;
/// use aftercommit::ranking::{Credits, ln_1p};
///
/// struct Sold { item: u64, price: f64, units: f64, at: u64 }
///
/// fn sold(event: &Sold, credits: &mut Credits<u64>) {
///     credits.at(Timestamp(event.at)); // else: when it was published
///     credits.points(event.item, ln_1p(event.price * event.units));
/// }
/// ```
#[derive(Debug)]
pub struct Credits<K> {
    scale: Scale,
    at: Timestamp,
    given: Vec<Credit<K>>,
    refused: Option<RankingError>,
}

/// So much for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credit<K> {
    pub(super) item: K,
    pub(super) amount: i64,
    pub(super) at: Timestamp,
}

impl<K> Credits<K> {
    pub(super) fn new(scale: Scale, at: Timestamp) -> Self {
        Self { scale, at, given: Vec::new(), refused: None }
    }

    /// Says when what is added from here on happened: it belongs to the window of that moment. When the event was published,
    /// unless said.
    pub fn at(&mut self, moment: Timestamp) {
        self.at = moment;
    }

    /// Adds one to the measure of `item`.
    pub fn one(&mut self, item: K) {
        self.many(item, 1);
    }

    /// Adds a whole number, which may be negative.
    pub fn many(&mut self, item: K, count: i64) {
        let amount = self.scale.points(count);
        self.exact(item, amount);
    }

    /// Adds a number, rounded once to the ranking's measure, by default to nine decimals; what is no number refuses the event.
    pub fn points(&mut self, item: K, points: f64) {
        let amount = self.scale.of(points);
        self.exact(item, amount);
    }

    fn exact(&mut self, item: K, amount: Result<Score, RankingError>) {
        match amount {
            Ok(amount) => self.given.push(Credit { item, amount: amount.0, at: self.at }),
            Err(error) => drop(self.refused.get_or_insert(error)),
        }
    }

    /// What was given; the first that is no number instead.
    pub(super) fn end(self) -> Result<Vec<Credit<K>>, RankingError> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok(self.given),
        }
    }
}
