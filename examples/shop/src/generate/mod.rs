//! A made-up, seeded month of a shop, as the text of a log.
//!
//! The same seed, days and lines give the same bytes on every machine: whole numbers only, and a random source of its own.
//! The shop sees what real ones see: a few items sell most (Zipf), visitors look, like, fill carts and buy, some orders
//! are taken back in part, some get another line later, some lines come twice.
//! At each midnight an order is cut in two by the day's end, and events of the day before come in late.
//!
//! What a log's text means is left to [`crate::log`].

mod chance;
mod shop;
mod text;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

pub use text::MonthText;

/// What to generate: which dice, how many days, how many lines behind the header.
///
/// # Default
/// Seed 1, 30 days, 200,000 lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month {
    /// Another seed is another month.
    pub seed: u64,
    /// Days from 2024-01-01 on, at most [`Month::MOST_DAYS`] of which are taken.
    pub days: NonZeroU32,
    /// Lines behind the header.
    pub lines: NonZeroU64,
}

impl Month {
    /// The longest month there is: a hundred years.
    pub const MOST_DAYS: u32 = 36_525;

    /// The month's log.
    pub fn text(self) -> MonthText {
        MonthText::new(self)
    }

    /// Writes the month's log to a file, compressed if the file's name ends in `.gz`.
    ///
    /// `advance` is told how many lines were written since it was last called.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_file(self, path: &Path, advance: impl FnMut(u64)) -> io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut file = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz")) {
            let mut encoder = GzEncoder::new(file, Compression::default());
            self.write(&mut encoder, advance)?;
            encoder.finish()?
        } else {
            let mut file = file;
            self.write(&mut file, advance)?;
            file
        };
        file.flush()
    }

    /// Writes the month's log.
    ///
    /// `advance` is told how many lines were written since it was last called.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(self, out: &mut impl Write, mut advance: impl FnMut(u64)) -> io::Result<()> {
        let mut text = self.text();
        loop {
            let part = text.fill_buf()?;
            if part.is_empty() {
                return Ok(());
            }
            out.write_all(part)?;
            advance(part.iter().filter(|byte| **byte == b'\n').count() as u64);
            let length = part.len();
            text.consume(length);
        }
    }
}

impl Default for Month {
    fn default() -> Self {
        Self { seed: 1, days: NonZeroU32::MIN.saturating_add(29), lines: NonZeroU64::MIN.saturating_add(199_999) }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, days, lines } = self;
        write!(f, "made-up shop (seed {seed}, {days} days, {lines} lines)")
    }
}
