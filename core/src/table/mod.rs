//! Typed tables of embedded stores.
//!
//! A [`Table`] keeps serde values under ordered keys; [`Counters`] keep integers that many units of work add to at once.
//! Both are declared as constants beside the code that uses them, hold nothing themselves,
//! and reach their rows through what they are given: a unit of work ([`Write`]) or a [`Reader`] ([`Read`]).
//!
//! A table promises that keys come in the order of their type, that a range holds what its bounds say,
//! that a walk over any number of rows holds no more than two pages of them in memory, and that an error names the table.
//! Isolation, durability and when a table comes into being belong to the [`store`](crate::store);
//! an application that keeps its data in SQL has no tables, and gets
//! [`StoreError::NoTables`](crate::error::StoreError::NoTables) from all of them.

mod access;
mod counters;
mod rows;
mod scan;
mod shape;

#[cfg(test)]
mod double;

pub use access::{Read, Reader, Write};
pub use counters::Counters;
pub use rows::Table;
pub use scan::Scan;
