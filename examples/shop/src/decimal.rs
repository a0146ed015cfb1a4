//! Decimal text to integers and back, without a float in between.
//!
//! A decimal with up to `places` places is the integer `value * 10^places`.
//! Which places a quantity has, and its bounds, belong to [`crate::money`] and [`crate::score`].

use std::fmt;

/// Why a text is not the decimal that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecimalError {
    /// Something else than digits with at most one point between them.
    #[error("not a decimal number")]
    Malformed,
    /// A number below zero where none can be.
    #[error("negative")]
    Negative,
    /// More places than can be kept exactly.
    #[error("more than {places} decimals")]
    TooManyPlaces {
        /// How many are kept.
        places: u32,
    },
    /// Above the largest legal value.
    #[error("larger than {max}")]
    TooLarge {
        /// The largest legal whole number.
        max: u64,
    },
}

/// Reads `text` as a multiple of `10^-places`, from zero to `max` (in whole units) inclusive.
pub(crate) fn parse(text: &str, places: u32, max: u64) -> Result<u64, DecimalError> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(DecimalError::Malformed),
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = whole.strip_prefix('-')
        && !rest.is_empty()
        && digits(rest)
        && digits(fraction)
    {
        return Err(DecimalError::Negative);
    }
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(DecimalError::Malformed);
    }
    if fraction.len() > places as usize {
        return Err(DecimalError::TooManyPlaces { places });
    }
    let padding = std::iter::repeat_n(b'0', places as usize - fraction.len());
    let limit = max * 10u64.pow(places);
    let mut value = 0u64;
    for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| *value <= limit)
            .ok_or(DecimalError::TooLarge { max })?;
    }
    Ok(value)
}

/// Writes `value * 10^-places` with at least `least` places and no zeros beyond those.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, value: i64, places: u32, least: usize) -> fmt::Result {
    let one = 10u64.pow(places);
    let magnitude = value.unsigned_abs();
    let mut text = String::new();
    if value < 0 {
        text.push('-');
    }
    text.push_str(&(magnitude / one).to_string());
    let fraction = format!("{:0width$}", magnitude % one, width = places as usize);
    let kept = fraction.trim_end_matches('0').len().max(least.min(fraction.len()));
    if kept > 0 {
        text.push('.');
        text.push_str(&fraction[..kept]);
    }
    f.write_str(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        let check = |text, expected| assert_eq!(parse(text, 4, 1_000), expected, "{text:?}");
        check("0", Ok(0));
        check("2.55", Ok(25_500));
        check("2.5500", Ok(25_500));
        check("1000", Ok(10_000_000));
        check("0007", Ok(70_000));
        check("1000.0001", Err(DecimalError::TooLarge { max: 1_000 }));
        check("99999999999999999999999", Err(DecimalError::TooLarge { max: 1_000 }));
        check("2.55000", Err(DecimalError::TooManyPlaces { places: 4 }));
        check("-2.5", Err(DecimalError::Negative));
        check("-0", Err(DecimalError::Negative));
        for text in ["", ".", "-", ".5", "5.", "+5", "1e3", " 1", "1 ", "1.2.3", "1,5", "NaN", "--1", "1.-5", "٣"] {
            check(text, Err(DecimalError::Malformed));
        }
    }

    #[test]
    fn decimals_are_written_without_noise() {
        struct Text(i64, usize);
        impl fmt::Display for Text {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, self.0, 4, self.1)
            }
        }
        let check = |value, least, expected: &str| assert_eq!(Text(value, least).to_string(), expected);
        check(0, 0, "0");
        check(0, 2, "0.00");
        check(25_500, 0, "2.55");
        check(25_000, 2, "2.50");
        check(25_501, 2, "2.5501");
        check(1, 0, "0.0001");
        check(-15_000, 0, "-1.5");
        check(i64::MIN, 0, "-922337203685477.5808");
    }
}
