//! Calendar days in UTC, counted from 1970-01-01.
//!
//! Proleptic Gregorian, as ISO 8601 has it; leap seconds do not exist, as in Unix time.

use std::fmt;

use aftercommit::Key;
use serde::{Deserialize, Serialize};

/// Milliseconds in a day.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A calendar day in UTC, in the years 0001 to 9999.
///
/// Ordered by time and displayed as `2010-12-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Key)]
#[serde(transparent)]
pub struct Day(i32);

impl Day {
    /// The number of the first one.
    pub(crate) const FIRST: i32 = -719_162;
    const LAST: i32 = 2_932_896;

    /// The day of a moment in milliseconds since 1970-01-01 UTC; nothing outside the years 0001 to 9999.
    pub fn of_millis(ts_ms: i64) -> Option<Self> {
        i32::try_from(ts_ms.div_euclid(DAY_MS)).ok().and_then(Self::from_number)
    }

    /// The day so many days after 1970-01-01; nothing outside the years 0001 to 9999.
    pub fn from_number(number: i32) -> Option<Self> {
        (Self::FIRST..=Self::LAST).contains(&number).then_some(Self(number))
    }

    /// How many days after 1970-01-01; negative before.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Year, month and day of the month.
    ///
    /// Years are taken to begin in March, so that the leap day is the last of its year;
    /// the calendar then repeats every 400 years, which are 146,097 days.
    fn civil(self) -> (i32, i32, i32) {
        let shifted = self.0 + 719_468; // days since 0000-03-01
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + i32::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_fall_on_their_utc_day() {
        let check = |ts_ms, expected: &str| assert_eq!(Day::of_millis(ts_ms).unwrap().to_string(), expected);
        check(0, "1970-01-01");
        check(-1, "1969-12-31");
        check(DAY_MS - 1, "1970-01-01");
        check(DAY_MS, "1970-01-02");
        check(1_291_191_960_000, "2010-12-01");
        check(1_659_304_800_025, "2022-07-31");
        check(951_782_400_000, "2000-02-29");
        check(951_868_800_000, "2000-03-01");
        check(4_107_542_399_999, "2100-02-28");
        check(4_107_542_400_000, "2100-03-01");
        check(253_402_300_799_999, "9999-12-31");
        check(-62_135_596_800_000, "0001-01-01");
    }

    #[test]
    fn moments_outside_four_digit_years_have_no_day() {
        for ts_ms in [253_402_300_800_000, -62_135_596_800_001, i64::MAX, i64::MIN] {
            assert_eq!(Day::of_millis(ts_ms), None);
        }
    }

    #[test]
    fn every_day_follows_the_one_before_it() {
        let month_days = |year: i32, month| match month {
            4 | 6 | 9 | 11 => 30,
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            _ => 31,
        };
        let mut expected = (1, 1, 1);
        for number in Day::FIRST..=Day::LAST {
            assert_eq!(Day(number).civil(), expected);
            let (year, month, day) = expected;
            expected = if day < month_days(year, month) {
                (year, month, day + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }
}
