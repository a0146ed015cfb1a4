//! A shop's log, read as units of work.
//!
//! A log is CSV text, plain or gzip (told by its first bytes, not by its name), with the header [`HEADER`].
//! One line is one row: no column can hold a comma or a line break, so quotes have no meaning.
//! `qty`, `price` and `order` are empty where the source has no value; lines end in LF or CRLF; empty lines are passed over.
//!
//! Consecutive lines with the same order number are one [`Unit`], a line without one is a unit of its own.
//! An order number that comes again later is another unit of the same order.
//! Equal lines count as they stand. One unit at a time is in memory.
//!
//! # Bad lines
//! A bad line spoils its unit: [`Units`] answers with one [`LogError::BadUnit`] in its place, and none of its rows.
//! A line so bad that its order cannot be told may belong to the order before it or to the one after it: both go with it.
//! The caller stops there, or counts the unit and reads on; units are numbered the same either way.
//! Units of the same order elsewhere in the file are not touched.
//! A file that cannot be read on (an error of the disk, a truncated gzip) takes the unit being read with it and ends the reading.

mod error;
mod lines;
mod row;
mod source;
mod units;

pub use error::{BadLine, LogError};
pub use row::{Kind, Row};
pub use source::{Content, Source};
pub use units::{Unit, Units};

/// The first line of every log.
pub const HEADER: &str = "ts_ms,user,event,item,qty,price,order";
