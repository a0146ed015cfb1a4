//! Exact scores: integers with declared decimals.
//!
//! A score is a whole number of units; how many decimals a unit stands for is declared once, by a [`Scale`].
//! Scores are added as integers, so that a sum is the same in whatever order, and on whatever machine, it is made.
//!
//! # Rounding
//! Nothing is rounded but a number that has no exact form, and that once:
//! a float is taken for exactly the binary fraction it is, and becomes the nearest unit; the middle between two goes away from zero.
//! It is computed with integers alone, so the processor's and the system's arithmetic have no part in it.
//! [`ln`] and [`ln_1p`] are computed by the same instructions everywhere, unlike those of `std`, which are the system's own.

use std::fmt;

use crate::error::RankingError;

/// An exact score, in units of its [`Scale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Score(pub i64);

impl Score {
    /// No points.
    pub const ZERO: Self = Self(0);

    /// The sum of both.
    ///
    /// # Errors
    /// [`RankingError::Sum`] if it does not fit.
    pub fn plus(self, delta: Score) -> Result<Self, RankingError> {
        self.0.checked_add(delta.0).map(Self).ok_or(RankingError::Sum { score: self.0, delta: delta.0 })
    }
}

/// How many decimals scores have: one unit is `10^-decimals` points.
///
/// # Default
/// 6 decimals: 9.2 million million points at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Scale(u8);

impl Default for Scale {
    fn default() -> Self {
        Self::decimals(6)
    }
}

impl Scale {
    /// The most decimals there can be: then scores end at 9.2 points.
    pub const MOST: u8 = 18;

    /// Scores of so many decimals, 0 to 18.
    ///
    /// # Panics
    /// If there are more; for a constant, when compiled.
    pub const fn decimals(decimals: u8) -> Self {
        assert!(decimals <= Self::MOST, "a score has at most 18 decimals");
        Self(decimals)
    }

    /// How many decimals.
    pub const fn places(self) -> u8 {
        self.0
    }

    /// Units in one point.
    pub const fn one(self) -> i64 {
        10_i64.pow(self.0 as u32)
    }

    /// The score of so many whole points.
    ///
    /// # Errors
    /// [`RankingError::Overflow`].
    pub fn points(self, points: i64) -> Result<Score, RankingError> {
        points.checked_mul(self.one()).map(Score).ok_or_else(|| self.overflow(points.to_string()))
    }

    /// The score nearest to `points`; the middle between two goes away from zero.
    ///
    /// # Errors
    /// [`RankingError::NotFinite`] for what is no number, [`RankingError::Overflow`] for what does not fit.
    pub fn of(self, points: f64) -> Result<Score, RankingError> {
        if !points.is_finite() {
            return Err(RankingError::NotFinite { value: points.to_string() });
        }
        nearest(points, self.one()).map(Score).ok_or_else(|| self.overflow(points.to_string()))
    }

    /// The score that the decimal `text` says, exactly: `0.7`, `-3`, `12.50`.
    ///
    /// # Errors
    /// [`RankingError::NotDecimal`] if it says none, or has more decimals than this scale; [`RankingError::Overflow`].
    pub fn parse(self, text: &str) -> Result<Score, RankingError> {
        let wrong = || RankingError::NotDecimal { text: text.to_owned(), decimals: self.0 };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_decimal = !whole.is_empty() && all_digits(whole) && all_digits(fraction);
        if !is_decimal || fraction.len() > usize::from(self.0) || digits.ends_with('.') {
            return Err(wrong());
        }
        let padded =
            format!("{}{whole}{fraction:0<width$}", if negative { "-" } else { "" }, width = usize::from(self.0));
        padded.parse().map(Score).map_err(|_| self.overflow(text.to_owned()))
    }

    /// The score as points, as near as a float comes; for showing, never for adding.
    pub fn to_f64(self, score: Score) -> f64 {
        score.0 as f64 / self.one() as f64
    }

    /// The score as a decimal without noise: `13.3`, `0.000001`, `-2`.
    pub fn show(self, score: Score) -> impl fmt::Display {
        Shown { units: score.0, places: self.0 }
    }

    fn overflow(self, what: String) -> RankingError {
        RankingError::Overflow { what, decimals: self.0 }
    }
}

struct Shown {
    units: i64,
    places: u8,
}

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u64.pow(u32::from(self.places));
        let (whole, fraction) = (self.units.unsigned_abs() / one, self.units.unsigned_abs() % one);
        if self.units < 0 {
            out.write_str("-")?;
        }
        write!(out, "{whole}")?;
        if fraction == 0 {
            return Ok(());
        }
        let digits = format!("{fraction:0width$}", width = usize::from(self.places));
        write!(out, ".{}", digits.trim_end_matches('0'))
    }
}

/// `value * one` as the nearest integer, the middle away from zero; `None` if it does not fit. `value` is finite.
pub(crate) fn nearest(value: f64, one: i64) -> Option<i64> {
    let bits = value.to_bits();
    let exponent = i32::try_from((bits >> 52) & 0x7ff).ok()?;
    let fraction = bits & ((1 << 52) - 1);
    // A finite float is `mantissa * 2^power`.
    let (mantissa, power) = match exponent {
        0 => (fraction, -1074),
        _ => (fraction | (1 << 52), exponent - 1075),
    };
    // Below 2^53 * 2^60.
    let product = u128::from(mantissa) * u128::from(one.unsigned_abs());
    let magnitude = match u32::try_from(-power) {
        Ok(down) if down > 126 => 0,
        Ok(down) => (product + ((1_u128 << down) >> 1)) >> down,
        Err(_) => {
            let up = power.unsigned_abs();
            (up <= product.leading_zeros()).then(|| product << up)?
        }
    };
    let magnitude = i64::try_from(magnitude).ok()?;
    Some(if value.is_sign_negative() { -magnitude } else { magnitude })
}

/// `numerator / denominator` as the nearest integer, the middle away from zero. `denominator` is above zero.
pub(crate) fn divided(numerator: i128, denominator: i128) -> i128 {
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    if rest.unsigned_abs() * 2 >= denominator.unsigned_abs() { whole + rest.signum() } else { whole }
}

/// The natural logarithm of one plus `value`, the same on every machine. `NaN` below -1, which no score takes.
pub fn ln_1p(value: f64) -> f64 {
    libm::log1p(value)
}

/// The natural logarithm of `value`, the same on every machine. `NaN` below 0, which no score takes.
pub fn ln(value: f64) -> f64 {
    libm::log(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIX: Scale = Scale::decimals(6);

    #[test]
    fn a_float_becomes_the_nearest_unit_and_the_middle_goes_away_from_zero() {
        fn check(points: f64, decimals: u8, units: i64) {
            assert_eq!(Scale::decimals(decimals).of(points), Ok(Score(units)), "{points} at {decimals}");
            assert_eq!(Scale::decimals(decimals).of(-points), Ok(Score(-units)), "-{points} at {decimals}");
        }
        check(0.7, 12, 700_000_000_000);
        check(0.1, 18, 100_000_000_000_000_006); // what the float is, not what was typed
        check(0.5, 0, 1);
        check(1.5, 0, 2);
        check(2.5, 0, 3);
        check(0.25, 1, 3);
        check(0.249_999_999_999_999_97, 1, 2);
        check(0.0, 6, 0);
        check(f64::MIN_POSITIVE, 18, 0);
        check(5e-324, 18, 0);
        check(9.2e18, 0, 9_200_000_000_000_000_000);
        check(1e15, 3, 1_000_000_000_000_000_000);
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused_in_words() {
        assert_eq!(SIX.of(f64::NAN).unwrap_err().to_string(), "NaN is no score: scores are finite numbers");
        assert!(matches!(SIX.of(f64::NEG_INFINITY), Err(RankingError::NotFinite { .. })));
        for large in [1e13, -1e13, 1e300, f64::MAX, 9.3e12] {
            assert!(matches!(SIX.of(large), Err(RankingError::Overflow { decimals: 6, .. })), "{large}");
        }
        assert_eq!(
            Score(i64::MAX).plus(Score(1)).unwrap_err().to_string(),
            "9223372036854775807 and 1 units do not sum to a score"
        );
        assert!(Score(i64::MIN).plus(Score(-1)).is_err());
        assert!(SIX.points(i64::MAX).is_err());
    }

    #[test]
    fn decimals_are_exact_both_ways() {
        fn check(text: &str, units: i64) {
            assert_eq!(SIX.parse(text), Ok(Score(units)), "{text}");
            assert_eq!(SIX.show(Score(units)).to_string(), text);
        }
        check("0.7", 700_000);
        check("-13.3", -13_300_000);
        check("0.000001", 1);
        check("0", 0);
        check("9223372036854.775807", i64::MAX);
        check("-9223372036854.775808", i64::MIN);
        for wrong in ["", ".", "1.", ".5", "+1", "1e3", "0.0000001", "--1", "1.-2", "٣"] {
            assert!(matches!(SIX.parse(wrong), Err(RankingError::NotDecimal { .. })), "{wrong}");
        }
        assert!(matches!(SIX.parse("9223372036855"), Err(RankingError::Overflow { .. })));
    }

    #[test]
    fn the_logarithm_is_pinned_to_the_bit() {
        assert_eq!(ln_1p(1.0).to_bits(), 0x3fe6_2e42_fefa_39ef);
        assert_eq!(ln_1p(15.3).to_bits(), 0x4006_544e_5f3e_55e1);
        assert_eq!(ln(10.0).to_bits(), 0x4002_6bb1_bbb5_5516);
    }

    proptest! {
        #[test]
        fn a_float_below_2_to_53_units_rounds_as_the_decimal_it_prints_as(units in -(1_i64 << 50)..(1_i64 << 50)) {
            let points = units as f64 / 1e6;
            prop_assert_eq!(SIX.of(points), Ok(Score(units)));
        }

        #[test]
        fn whole_floats_are_exact(whole in any::<i32>()) {
            prop_assert_eq!(Scale::decimals(0).of(f64::from(whole)), Ok(Score(i64::from(whole))));
        }

        #[test]
        fn division_is_nearest(numerator in -10_000_i128..10_000, denominator in 1_i128..100) {
            let rounded = divided(numerator, denominator);
            let twice = (numerator - rounded * denominator).abs() * 2;
            prop_assert!(twice <= denominator);
            prop_assert!(twice < denominator || rounded.abs() * denominator > numerator.abs());
        }
    }
}
