//! What the state machines share between threads; a test that decides every schedule puts its own in the place of it.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use parking_lot::Mutex;
