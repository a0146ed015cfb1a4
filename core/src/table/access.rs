//! How tables reach rows.

use crate::error::Error;
use crate::store::{ReadRows, Rows};

/// Something rows can be read from: a unit of work, or a [`Reader`].
#[diagnostic::on_unimplemented(
    message = "rows cannot be read from `{Self}`",
    label = "neither a unit of work nor a reader",
    note = "pass a unit of work (`&mut Tx`), or a `Reader` for reading outside of one"
)]
pub trait Read {
    /// The rows.
    ///
    /// # Errors
    /// If there are none to read: the store has no tables, or the unit of work is over.
    fn read_rows(&mut self) -> Result<&mut dyn ReadRows, Error>;
}

/// Something rows can be written to: a unit of work.
#[diagnostic::on_unimplemented(
    message = "rows cannot be written to `{Self}`",
    label = "not a unit of work",
    note = "rows are written within a unit of work: pass a `&mut Tx`"
)]
pub trait Write: Read {
    /// The rows.
    ///
    /// # Errors
    /// If there are none to write: the store has no tables, or the unit of work is over.
    fn rows(&mut self) -> Result<&mut dyn Rows, Error>;
}

impl<T: Read + ?Sized> Read for &mut T {
    fn read_rows(&mut self) -> Result<&mut dyn ReadRows, Error> {
        T::read_rows(self)
    }
}

impl<T: Write + ?Sized> Write for &mut T {
    fn rows(&mut self) -> Result<&mut dyn Rows, Error> {
        T::rows(self)
    }
}

/// Reads committed rows outside a unit of work.
///
/// What it sees may not be on the disk yet, and two reads may see different commits;
/// where that matters, read in a unit of work.
pub struct Reader(Box<dyn ReadRows>);

impl Reader {
    /// A reader of `rows`.
    pub fn new(rows: Box<dyn ReadRows>) -> Self {
        Self(rows)
    }
}

impl Read for Reader {
    fn read_rows(&mut self) -> Result<&mut dyn ReadRows, Error> {
        Ok(&mut *self.0)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reader").finish_non_exhaustive()
    }
}
