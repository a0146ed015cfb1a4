//! The lines of a log: numbered, split, and each with the order it belongs to.

use std::io::{self, BufRead, Read};

use super::HEADER;
use super::error::{BadLine, LogError, excerpt};
use super::row::Row;

/// Where a log's text comes from.
pub(super) type Text = Box<dyn BufRead + Send>;

/// The longest line that can be a row, in bytes, with its end.
const LONGEST_LINE: usize = 4096;

/// The longest order number, in bytes: short enough for any store's keys.
const LONGEST_ORDER: usize = 64;

/// Which order a line belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// None: it stands alone.
    Nobody,
    /// The order of this number.
    Order(String),
    /// The line is too broken to tell.
    Unknown,
}

/// One line behind the header.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1; the header is line 1.
    pub(super) number: u64,
    pub(super) owner: Owner,
    pub(super) row: Result<Row, BadLine>,
}

/// Reads a log line by line.
pub(super) struct Lines {
    text: Text,
    name: String,
    read: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// Reads and checks the header.
    pub(super) fn new(name: String, text: Text) -> Result<Self, LogError> {
        let mut lines = Self { text, name, read: 0, buffer: Vec::new() };
        match lines.advance()? {
            None => Err(LogError::Empty { file: lines.name }),
            Some(line) => {
                let line = line.unwrap_or(b"(an overlong line)");
                if line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) == HEADER.as_bytes() {
                    return Ok(lines);
                }
                Err(LogError::Header { found: excerpt(line), file: lines.name })
            }
        }
    }

    /// The name errors are told under.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next line that is not empty; an error here is the end.
    pub(super) fn next(&mut self) -> Result<Option<Line>, LogError> {
        loop {
            let Some(line) = self.advance()? else { return Ok(None) };
            let (owner, row) = match line {
                Ok([]) => continue,
                Ok(line) => split(line),
                Err(cause) => (Owner::Unknown, Err(cause)),
            };
            return Ok(Some(Line { number: self.read, owner, row }));
        }
    }

    /// The next line without its end, or why it cannot be one.
    fn advance(&mut self) -> Result<Option<Result<&[u8], BadLine>>, LogError> {
        self.buffer.clear();
        let fits = read_line(&mut self.text, &mut self.buffer)
            .map_err(|cause| LogError::reading(self.name.clone(), self.read + 1, cause))?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        self.read += 1;
        if !fits {
            return Ok(Some(Err(BadLine::TooLong { max: LONGEST_LINE })));
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some(Ok(line.strip_suffix(b"\r").unwrap_or(line))))
    }
}

/// Reads to the end of the line and answers whether all of it is in `buffer`.
fn read_line(text: &mut Text, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let read = text.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', buffer)?;
    if read < LONGEST_LINE || buffer.ends_with(b"\n") {
        return Ok(true);
    }
    Ok(text.skip_until(b'\n')? == 0)
}

fn split(line: &[u8]) -> (Owner, Result<Row, BadLine>) {
    let mut columns = [&[][..]; 7];
    let mut found = 0;
    for column in line.split(|byte| *byte == b',') {
        if let Some(slot) = columns.get_mut(found) {
            *slot = column;
        }
        found += 1;
    }
    if found != columns.len() {
        return (Owner::Unknown, Err(BadLine::Columns { found }));
    }
    let [ts_ms, user, event, item, qty, price, order] = columns;
    match owner(order) {
        Ok(owner) => (owner, Row::parse([ts_ms, user, event, item, qty, price])),
        Err(cause) => (Owner::Unknown, Err(cause)),
    }
}

fn owner(order: &[u8]) -> Result<Owner, BadLine> {
    if order.is_empty() {
        return Ok(Owner::Nobody);
    }
    if order.len() > LONGEST_ORDER {
        return Err(BadLine::OrderTooLong { found: excerpt(order), max: LONGEST_ORDER });
    }
    let order = std::str::from_utf8(order).map_err(|_| BadLine::NotText { column: "order" })?;
    Ok(Owner::Order(order.to_owned()))
}
