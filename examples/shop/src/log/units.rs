//! Consecutive lines of one order, gathered into units of work.

use super::error::{BadLine, LogError};
use super::lines::{Line, Lines, Owner, Text};
use super::row::Row;

/// The rows that are one unit of work: consecutive lines of one order, or one line without an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its place in the log, counted from 0 over good and bad units alike.
    pub number: u64,
    /// The line of its first row, counted from 1; the header is line 1.
    pub line: u64,
    /// The order number; several units of a log may have the same.
    pub order: Option<String>,
    /// At least one row, in the order of the log.
    pub rows: Vec<Row>,
}

/// The units of a log, in its order.
///
/// # Errors
/// A [`LogError::BadUnit`] stands in the place of its unit, and the next call goes on behind it.
/// Any other error is the last item.
pub struct Units {
    lines: Lines,
    ahead: Option<Line>,
    units: u64,
    ended: bool,
}

impl Units {
    /// The units of a log's text, with errors told under `name`.
    ///
    /// # Errors
    /// If the text cannot be read, is empty or has another header.
    pub fn new(name: String, text: Text) -> Result<Self, LogError> {
        Ok(Self { lines: Lines::new(name, text)?, ahead: None, units: 0, ended: false })
    }

    /// The name that errors tell the log by.
    pub fn name(&self) -> &str {
        self.lines.name()
    }

    fn gather(&mut self) -> Result<Option<Unit>, LogError> {
        let Some(first) = self.take_line()? else { return Ok(None) };
        let mut gathered = Gathered::new(self.units, first);
        while gathered.goes_on() {
            match self.take_line()? {
                Some(line) if gathered.takes(&line.owner) => gathered.push(line),
                after => {
                    self.ahead = after;
                    break;
                }
            }
        }
        self.units += 1;
        gathered.finish(self.lines.name()).map(Some)
    }

    fn take_line(&mut self) -> Result<Option<Line>, LogError> {
        match self.ahead.take() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }
}

impl Iterator for Units {
    type Item = Result<Unit, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let unit = self.gather().transpose();
        self.ended = match &unit {
            Some(Ok(_)) => false,
            Some(Err(error)) => !error.is_skippable(),
            None => true,
        };
        unit
    }
}

/// A unit as far as it has been read.
struct Gathered {
    unit: Unit,
    /// One order number at most, unless a line of unknown owner joins more.
    orders: Vec<String>,
    lines: u64,
    /// The owner of the last line.
    owner: Owner,
    spoiled: Option<(u64, BadLine)>,
}

impl Gathered {
    fn new(number: u64, first: Line) -> Self {
        let unit = Unit { number, line: first.number, order: None, rows: Vec::new() };
        let mut gathered = Self { unit, orders: Vec::new(), lines: 0, owner: Owner::Nobody, spoiled: None };
        gathered.push(first);
        gathered
    }

    fn goes_on(&self) -> bool {
        self.owner != Owner::Nobody
    }

    /// Whether a line of this owner, or one that may be, continues the unit.
    fn takes(&self, next: &Owner) -> bool {
        match (&self.owner, next) {
            (Owner::Nobody, _) | (_, Owner::Nobody) => false,
            (Owner::Unknown, _) | (_, Owner::Unknown) => true,
            (Owner::Order(this), Owner::Order(next)) => this == next,
        }
    }

    fn push(&mut self, line: Line) {
        self.lines += 1;
        if let Owner::Order(order) = &line.owner
            && self.orders.last() != Some(order)
        {
            self.orders.push(order.clone());
        }
        self.owner = line.owner;
        match line.row {
            Ok(row) if self.spoiled.is_none() => self.unit.rows.push(row),
            Ok(_) => {}
            Err(cause) => {
                self.unit.rows = Vec::new();
                self.spoiled.get_or_insert((line.number, cause));
            }
        }
    }

    fn finish(mut self, file: &str) -> Result<Unit, LogError> {
        match self.spoiled {
            None => Ok(Unit { order: self.orders.pop(), ..self.unit }),
            Some((line, cause)) => Err(LogError::BadUnit {
                file: file.to_owned(),
                line,
                unit: self.unit.number,
                orders: self.orders,
                lines: self.lines,
                cause: Box::new(cause),
            }),
        }
    }
}
