//! What a row of the log is worth in its day's ranking.
//!
//! Scores are integers in units of 10^-12, so that sums are exact: no order of summation and no machine changes them.
//! Weights have at most six decimals, which are kept exactly.
//! The one irrational number, the logarithm of a purchase's value, is computed by the same instructions
//! on every machine (unlike the system's own `ln_1p`) and rounded once to a unit, half a unit off at most.
//! A sum of `n` such rows is therefore within `n / 2` units of the true one: with a thousand rows of one item in a day,
//! 5 * 10^-10, far below the 10^-6 to which [`Score::millionths`] rounds once, at the very end.
//! 10^-9 would not do: in real data true sums come within 2 * 10^-10 of the middle between two millionths.
//! The range is 9.2 million points per item and day, about thirteen million purchases at the default weight; sums are checked.
//!
//! Which rows a ranking is summed from, and where, is left to its listener.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decimal::{self, DecimalError};
use crate::log::{Kind, Row};
use crate::money::Money;

/// Units in one point.
const ONE: i64 = 1_000_000_000_000;

/// Units in a millionth of a point.
const MILLIONTH: i64 = ONE / 1_000_000;

/// An exact score, or a sum of scores.
///
/// Displayed rounded to millionths, as a decimal without noise.
/// Two scores compare by their exact value; a ranking compares [`Score::millionths`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(i64);

impl Score {
    /// No points.
    pub const ZERO: Self = Self(0);

    /// The score of so many units of 10^-12, as a store keeps it.
    pub fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// The score in units of 10^-12.
    pub fn units(self) -> i64 {
        self.0
    }

    /// The sum, or nothing where it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The score in millionths, rounded to the nearest (the middle upwards): what rankings compare and print.
    pub fn millionths(self) -> i64 {
        let (whole, rest) = (self.0.div_euclid(MILLIONTH), self.0.rem_euclid(MILLIONTH));
        whole + i64::from(rest >= MILLIONTH / 2)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write(f, self.millionths(), Weight::PLACES, 0)
    }
}

/// What one event weighs: zero to 1,000 points, at most six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    const PLACES: u32 = 6;
    const MAX: u64 = 1_000;

    fn score(self) -> Score {
        Score(i64::from(self.0) * MILLIONTH)
    }

    /// This weight times the natural logarithm of one plus the amount.
    fn of_value(self, amount: Money) -> Score {
        let weight = f64::from(self.0) / 1_000_000.0;
        let points = weight * aftercommit::ranking::ln_1p(amount.to_f64());
        // At most 1,000 * ln(1 + 10^14), which is far inside the range.
        Score((points * ONE as f64).round() as i64)
    }
}

impl FromStr for Weight {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        decimal::parse(text, Self::PLACES, Self::MAX).map(|value| Self(value as u32))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write(f, i64::from(self.0), Self::PLACES, 0)
    }
}

/// What each kind of event weighs; a cancel weighs nothing.
///
/// Read from and displayed as `view=0.1,like=0.2,addtocart=0.2,purchase=0.7`.
/// A kind that the text does not name keeps its default.
///
/// # Default
/// 0.1 for a view, 0.2 for a like or an added item, 0.7 for a purchase row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// Of a view.
    pub view: Weight,
    /// Of a like.
    pub like: Weight,
    /// Of an item added to a cart.
    pub addtocart: Weight,
    /// Of a purchase row, whatever its quantity.
    pub purchase: Weight,
}

impl Default for Weights {
    fn default() -> Self {
        Self { view: Weight(100_000), like: Weight(200_000), addtocart: Weight(200_000), purchase: Weight(700_000) }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, like, addtocart, purchase } = self;
        write!(f, "view={view},like={like},addtocart={addtocart},purchase={purchase}")
    }
}

/// Why a text says no weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A part that is no `name=number`.
    #[error("expected name=number, found `{found}`")]
    Malformed {
        /// What stands there.
        found: String,
    },
    /// A name that nothing weighable has.
    #[error("unknown weight `{name}`; expected one of: view, like, addtocart, purchase")]
    Unknown {
        /// What stands there.
        name: String,
    },
    /// A name that comes twice.
    #[error("weight `{name}` is given twice")]
    Twice {
        /// Which one.
        name: String,
    },
    /// A number that cannot be a weight.
    // The command line prints one line and no sources.
    #[error("weight `{name}` cannot be `{found}`: {cause}")]
    Number {
        /// Which weight.
        name: String,
        /// What stands there.
        found: String,
        /// Why not.
        cause: DecimalError,
    },
}

impl FromStr for Weights {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        let mut weights = Self::default();
        let mut given = Vec::new();
        for part in text.split(',') {
            let Some((name, number)) = part.split_once('=') else {
                return Err(WeightsError::Malformed { found: part.to_owned() });
            };
            let weight = match name {
                "view" => &mut weights.view,
                "like" => &mut weights.like,
                "addtocart" => &mut weights.addtocart,
                "purchase" => &mut weights.purchase,
                _ => return Err(WeightsError::Unknown { name: name.to_owned() }),
            };
            if given.contains(&name) {
                return Err(WeightsError::Twice { name: name.to_owned() });
            }
            given.push(name);
            *weight = number.parse().map_err(|cause| WeightsError::Number {
                name: name.to_owned(),
                found: number.to_owned(),
                cause,
            })?;
        }
        Ok(weights)
    }
}

/// How rows are scored: by weights alone, or purchases by their value too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scoring {
    /// What each kind weighs.
    pub weights: Weights,
    /// Whether a purchase row's weight is multiplied by `ln(1 + price * qty)`.
    pub purchase_value: bool,
}

impl Scoring {
    /// What a row adds to its item on its day.
    ///
    /// Nothing for a cancel, which also does not make its item ranked;
    /// [`Score::ZERO`] for a row that is ranked but weighs nothing,
    /// such as a purchase without a price where the value counts.
    pub fn score(&self, row: &Row) -> Option<Score> {
        match row.kind {
            Kind::View => Some(self.view()),
            Kind::Like => Some(self.like()),
            Kind::AddToCart => Some(self.addtocart()),
            Kind::Purchase => Some(self.purchase(row.amount())),
            Kind::Cancel => None,
        }
    }

    /// What a view adds.
    pub fn view(&self) -> Score {
        self.weights.view.score()
    }

    /// What a like adds.
    pub fn like(&self) -> Score {
        self.weights.like.score()
    }

    /// What an item put into a cart adds.
    pub fn addtocart(&self) -> Score {
        self.weights.addtocart.score()
    }

    /// What a purchase of `amount` adds, where the source knows one.
    pub fn purchase(&self, amount: Option<Money>) -> Score {
        match (self.purchase_value, amount) {
            (false, _) => self.weights.purchase.score(),
            (true, Some(amount)) => self.weights.purchase.of_value(amount),
            (true, None) => Score::ZERO,
        }
    }
}

impl fmt::Display for Scoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.weights.fmt(f)?;
        if self.purchase_value {
            f.write_str(" * ln(1 + price * qty)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(price: &str, quantity: &str) -> Score {
        let amount = price.parse::<crate::money::Price>().unwrap() * quantity.parse().unwrap();
        Weights::default().purchase.of_value(amount)
    }

    #[test]
    fn scores_print_as_decimals_without_noise() {
        let check = |units, expected: &str| assert_eq!(Score(units).to_string(), expected);
        check(0, "0");
        check(13_300_000_000_000, "13.3");
        check(13 * ONE, "13");
        check(42_492_061_406_000, "42.492061");
        check(100_000_000_000 * 3, "0.3");
        check(499_999, "0");
        check(500_000, "0.000001");
        check(1_499_999, "0.000001");
        check(i64::MAX, "9223372.036855");
    }

    #[test]
    fn tenths_add_up_exactly() {
        let view = Weights::default().view.score();
        let sum = (0..1_000_000).fold(Score::ZERO, |sum, _| sum.checked_add(view).unwrap());
        assert_eq!(sum, Score(100_000 * ONE));
    }

    #[test]
    fn a_sum_that_does_not_fit_is_told() {
        assert_eq!(Score(i64::MAX).checked_add(Score(1)), None);
    }

    #[test]
    fn values_are_the_logarithm_to_twelve_places() {
        // 0.7 * ln(1 + 15.3), ln(2), ln(10^14 + 1): computed to 50 digits and rounded.
        assert_eq!(value_of("2.55", "6").units(), 1_953_815_575_469);
        assert_eq!(value_of("1", "1").units(), 485_203_026_392);
        assert_eq!(value_of("0", "7"), Score::ZERO);
        assert_eq!(value_of("100000000", "1000000").units(), 22_565_333_911_342);
    }

    #[test]
    fn the_largest_weight_of_the_largest_value_fits() {
        let weights: Weights = "purchase=1000".parse().unwrap();
        let amount = "100000000".parse::<crate::money::Price>().unwrap() * "1000000".parse().unwrap();
        assert!(weights.purchase.of_value(amount).units() < i64::MAX / 100);
    }

    #[test]
    fn weights_are_read_as_they_are_displayed() {
        let defaults = "view=0.1,like=0.2,addtocart=0.2,purchase=0.7";
        assert_eq!(Weights::default().to_string(), defaults);
        assert_eq!(defaults.parse(), Ok(Weights::default()));
        assert_eq!(
            "purchase=3,view=0".parse::<Weights>().unwrap().to_string(),
            "view=0,like=0.2,addtocart=0.2,purchase=3"
        );
    }

    #[test]
    fn mistakes_in_weights_are_told() {
        let check = |text: &str, expected: &str| assert_eq!(text.parse::<Weights>().unwrap_err().to_string(), expected);
        check("", "expected name=number, found ``");
        check("view=0.1,", "expected name=number, found ``");
        check("view", "expected name=number, found `view`");
        check("cancel=1", "unknown weight `cancel`; expected one of: view, like, addtocart, purchase");
        check("view=1,view=2", "weight `view` is given twice");
        check("like=-1", "weight `like` cannot be `-1`: negative");
        check("like=0.1234567", "weight `like` cannot be `0.1234567`: more than 6 decimals");
        check("like=1001", "weight `like` cannot be `1001`: larger than 1000");
        check("like=much", "weight `like` cannot be `much`: not a decimal number");
    }
}
