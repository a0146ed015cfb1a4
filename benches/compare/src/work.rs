//! The unit of work of every comparison: one row, and one event.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of a row.
pub const ROW: usize = 200;
/// The bytes of an event.
pub const EVENT: usize = 300;

/// A unit of work: a row under a random key, and an event.
pub struct Work {
    /// A different one each time, far from the last.
    pub key: [u8; 16],
    /// Letters.
    pub row: Vec<u8>,
    /// Letters.
    pub event: Vec<u8>,
}

impl Work {
    /// The next unit.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { key: key(NEXT.fetch_add(1, Ordering::Relaxed)), row: vec![b'r'; ROW], event: vec![b'e'; EVENT] }
    }
}

/// The key with this number; keys of neighbouring numbers lie far apart.
pub fn key(number: u64) -> [u8; 16] {
    // Odd factors, so that no two numbers meet.
    let high = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&high.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}
