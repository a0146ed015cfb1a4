//! The mutex that the table stands on; a place of its own, so that another can stand in for it where orders are tried.

pub(crate) use parking_lot::Mutex;
