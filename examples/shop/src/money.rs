//! Prices, quantities and amounts of money, exact.
//!
//! A log's prices are decimal text of one currency that is not named.
//! They are kept in ten-thousandths, the scale of SQL's `money`: enough for every currency's smallest coin.
//! The bounds of [`Price`] and [`Quantity`] are such that their product always fits; sums of products are checked.

use std::fmt;
use std::ops::Mul;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decimal::{self, DecimalError};

const PLACES: u32 = 4;

/// The price of one unit: zero to 100,000,000, at most four decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(i64);

/// How many units of an item: zero to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(u32);

/// An amount of money in ten-thousandths of the currency's unit.
///
/// Displayed as a decimal with two to four places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Price {
    const MAX: u64 = 100_000_000;
}

impl FromStr for Price {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        decimal::parse(text, PLACES, Self::MAX).map(|value| Self(value as i64))
    }
}

impl Quantity {
    const MAX: u64 = 1_000_000;

    /// The number of units.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Quantity {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        decimal::parse(text, 0, Self::MAX).map(|value| Self(value as u32))
    }
}

impl Mul<Quantity> for Price {
    type Output = Money;

    fn mul(self, quantity: Quantity) -> Money {
        Money(self.0 * i64::from(quantity.0))
    }
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount of so many ten-thousandths, as a store keeps it.
    pub fn from_ten_thousandths(value: i64) -> Self {
        Self(value)
    }

    /// The amount in ten-thousandths.
    pub fn ten_thousandths(self) -> i64 {
        self.0
    }

    /// The sum, or nothing where it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The float nearest to the amount (of amounts up to 900 thousand million units; beyond, the one next to it).
    ///
    /// The same on every machine: one conversion and one division, both correctly rounded.
    pub(crate) fn to_f64(self) -> f64 {
        self.0 as f64 / 10_000.0
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write(f, self.0, PLACES, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(price: &str, quantity: &str) -> Money {
        price.parse::<Price>().unwrap() * quantity.parse::<Quantity>().unwrap()
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount("2.55", "6").to_string(), "15.30");
        assert_eq!(amount("0.0001", "3").to_string(), "0.0003");
        assert_eq!(amount("0.1", "0").to_string(), "0.00");
        assert_eq!(amount("649.5", "80995").ten_thousandths(), 526_062_525_000);
        assert_eq!(amount("15.3", "1").to_f64(), 15.3);
    }

    #[test]
    fn the_largest_price_of_the_largest_quantity_fits() {
        assert_eq!(amount("100000000", "1000000").to_string(), "100000000000000.00");
        assert_eq!("100000000.01".parse::<Price>(), Err(DecimalError::TooLarge { max: 100_000_000 }));
        assert_eq!("1000001".parse::<Quantity>(), Err(DecimalError::TooLarge { max: 1_000_000 }));
    }

    #[test]
    fn sums_that_do_not_fit_are_told() {
        assert_eq!(Money(i64::MAX).checked_add(Money(1)), None);
        assert_eq!(Money(1).checked_add(Money(2)), Some(Money(3)));
    }

    #[test]
    fn a_quantity_is_a_whole_number() {
        assert_eq!("1.5".parse::<Quantity>(), Err(DecimalError::TooManyPlaces { places: 0 }));
        assert_eq!("-3".parse::<Quantity>(), Err(DecimalError::Negative));
    }
}
