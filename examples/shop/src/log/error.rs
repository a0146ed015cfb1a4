//! What can be wrong with a log, with file and line.

use std::io;

use super::HEADER;
use super::row::Kind;
use crate::DecimalError;

/// Why a log, or a unit of it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be opened.
    #[error("{file}: cannot open")]
    Open {
        /// The log's name.
        file: String,
        /// What the system answered.
        #[source]
        cause: io::Error,
    },
    /// There is nothing in the file, not even a header.
    #[error("{file}: empty; expected the header `{HEADER}`")]
    Empty {
        /// The log's name.
        file: String,
    },
    /// The first line is not the header.
    #[error("{file}: line 1: expected the header `{HEADER}`, found `{found}`")]
    Header {
        /// The log's name.
        file: String,
        /// The beginning of what stands there.
        found: String,
    },
    /// The file cannot be read on; rows of the unit being read are dropped.
    #[error("{file}: line {line}: cannot read on")]
    Read {
        /// The log's name.
        file: String,
        /// The line that could not be read, counted from 1.
        line: u64,
        /// What the system or the decompressor answered.
        #[source]
        cause: io::Error,
    },
    /// The file's gzip data ends before its end mark; rows of the unit being read are dropped.
    #[error("{file}: line {line}: the gzip data is truncated")]
    Truncated {
        /// The log's name.
        file: String,
        /// The line that could not be read, counted from 1.
        line: u64,
        /// What the decompressor answered.
        #[source]
        cause: io::Error,
    },
    /// A unit with a bad line; none of its rows is given out.
    #[error("{file}: line {line}: {} refused", refused(.orders, *.lines))]
    BadUnit {
        /// The log's name.
        file: String,
        /// The first bad line, counted from 1.
        line: u64,
        /// The unit's number, as in [`Unit::number`](super::Unit::number).
        unit: u64,
        /// The unit's order number, if it can be told; more than one if a bad line joins orders.
        orders: Vec<String>,
        /// How many lines go with it.
        lines: u64,
        /// What is wrong with the line.
        #[source]
        cause: Box<BadLine>,
    },
}

impl LogError {
    /// Whether the reading can go on behind this error, with one unit left out.
    pub fn is_skippable(&self) -> bool {
        matches!(self, Self::BadUnit { .. })
    }

    /// An error of the disk or the decompressor at a line.
    pub(super) fn reading(file: String, line: u64, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated { file, line, cause },
            _ => Self::Read { file, line, cause },
        }
    }
}

fn refused(orders: &[String], lines: u64) -> String {
    let count = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
    match orders {
        [] => count,
        [order] => format!("order {} ({count})", excerpt(order.as_bytes())),
        [first, .., last] => {
            format!("orders {} to {} ({count})", excerpt(first.as_bytes()), excerpt(last.as_bytes()))
        }
    }
}

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadLine {
    /// More or fewer columns than the header has.
    #[error("{found} columns instead of 7")]
    Columns {
        /// How many there are.
        found: usize,
    },
    /// Longer than any row can be.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The longest legal line.
        max: usize,
    },
    /// A column that holds something else than text.
    #[error("{column} is not UTF-8")]
    NotText {
        /// The column's name.
        column: &'static str,
    },
    /// An empty column where every row has a value.
    #[error("{column} is missing")]
    Missing {
        /// The column's name.
        column: &'static str,
    },
    /// A column that should hold a whole number in range.
    #[error("{column} `{found}` is not a number in range")]
    Number {
        /// The column's name.
        column: &'static str,
        /// What stands there.
        found: String,
    },
    /// A quantity or a price that is none.
    #[error("{column} `{found}` cannot be used")]
    Decimal {
        /// The column's name.
        column: &'static str,
        /// What stands there.
        found: String,
        /// Why not.
        #[source]
        cause: DecimalError,
    },
    /// A moment outside the years 0001 to 9999.
    #[error("ts_ms `{found}` is outside the years 0001 to 9999")]
    Time {
        /// What stands there, in milliseconds since 1970-01-01 UTC.
        found: i64,
    },
    /// An event type that a shop does not have.
    #[error("unknown event `{found}`; expected one of: {}", Kind::NAMES)]
    UnknownEvent {
        /// What stands there.
        found: String,
    },
    /// An order number that could not be a key of a store.
    #[error("order number `{found}` is longer than {max} bytes")]
    OrderTooLong {
        /// What stands there.
        found: String,
        /// The longest legal order number.
        max: usize,
    },
    /// A purchase whose revenue cannot be told.
    #[error("a purchase with a price but no quantity")]
    NoQuantity,
}

/// The beginning of what stands in a file, fit for a terminal.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
