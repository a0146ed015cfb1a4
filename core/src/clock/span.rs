//! A span of time in a file, as one writes it: `"250ms"`, `"1.5s"`, `"2m"`, `"1h"`, `"7d"`.
//!
//! For serde: `#[serde(with = "aftercommit::clock::span")]` on a `Duration`; [`optional`] on an `Option` of one.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// The units, the longest name first, and their nanoseconds.
const UNITS: [(&str, f64); 7] =
    [("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("s", 1e9), ("m", 60e9), ("h", 3_600e9), ("d", 86_400e9)];

/// Reads a span, such as `"250ms"`.
///
/// # Errors
/// The legal forms, if it is none of them.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no span of time: write one such as \"250ms\", \"1.5s\", \"2m\", \"1h\" or \"7d\"");
    let text_of = |unit: &str| text.strip_suffix(unit).map(str::trim_end);
    let (count, nanos) = UNITS.iter().find_map(|(unit, nanos)| Some((text_of(unit)?, nanos))).ok_or_else(wrong)?;
    if let Ok(whole) = count.parse::<u64>() {
        let nanos = whole.checked_mul(*nanos as u64).ok_or_else(wrong)?;
        return Ok(Duration::from_nanos(nanos));
    }
    let count: f64 = count.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(count * nanos / 1e9).map_err(|_| wrong())
}

/// Writes a span so that [`parse`] reads the same, in the largest unit that divides it.
pub fn write(span: Duration) -> String {
    let nanos = span.as_nanos();
    let units = [(86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s")];
    let units = units.into_iter().chain([(1_000_000, "ms"), (1_000, "us")]);
    let unit = units.into_iter().find(|(unit, _)| nanos > 0 && nanos.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or(if nanos == 0 { (1, "s") } else { (1, "ns") });
    format!("{}{name}", nanos / unit)
}

/// For serde.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&write(*span))
}

/// For serde.
///
/// # Errors
/// As for [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same for a span that may be left out.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// For serde.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// For serde.
    ///
    /// # Errors
    /// As for [`parse`](super::parse).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_as_one_writes_it_and_written_so_that_it_reads_the_same() {
        let read = |text| parse(text).expect("legal").as_nanos();
        assert_eq!(read("250ms"), 250_000_000);
        assert_eq!(read("1.5s"), 1_500_000_000);
        assert_eq!(
            [read("2m"), read("1h"), read("7d")],
            [120, 3_600, 604_800].map(|seconds: u128| seconds * 1_000_000_000)
        );
        for nanos in [0, 1, 1_500, 2_000_000, 1_001_000_000, 120_000_000_000, 90_000_000_000, u64::MAX] {
            let span = Duration::from_nanos(nanos);
            assert_eq!(parse(&write(span)), Ok(span), "{}", write(span));
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_the_legal_forms() {
        for wrong in ["", "5", "ms", "-1s", "5 parsecs", "1e400s", "NaNs"] {
            assert!(parse(wrong).is_err_and(|error| error.contains("\"250ms\"")), "{wrong}");
        }
    }
}
