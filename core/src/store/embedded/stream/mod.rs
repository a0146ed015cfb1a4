//! A store as a stream that depends on no engine: to keep, to read elsewhere, to bring into a store on another engine.
//!
//! Numbers are big-endian. It begins with `aftercommit export` and a line feed (19 bytes) and the version (4, now 1); then records:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | kind |
//! | 8 | length of the rest |
//! | 4 | CRC-32 of kind, length and rest |
//! | rest | by kind |
//!
//! | kind | rest |
//! |---|---|
//! | `T` a table | id (4), length of the name (4), name, shape |
//! | `R` a row | table's id (4), length of the key (4), key, value |
//! | `E` an event | position (8), envelope |
//! | `X` an erased event | position (8), id (16) |
//! | `L` the end of the log | the next position (8) |
//! | `C` a cursor | length of the listener's id (4), id, cursor |
//! | `D` a delivery that waits | the same, then position (8), JSON |
//! | `P` a parked event | the same; order (8), length of the head (4), head as JSON, envelope |
//! | `S` a suspected delivery | the same; count (4) |
//! | `N` what is known of a listener | length of the id (4), id, JSON |
//! | `G` a delivery that was given up | as `D`, then length of the head (4), head as JSON, envelope without a body |
//! | `W` a scheduled event | due time (8), order (8), envelope |
//! | `O` a remembered id | length of the scope (4), scope, length of the id (4), id, the event's id or zeros (16), until (8), what was noted |
//! | `M` closed in good order or not | 1 or 0 (1) |
//! | `Z` the end | how many records came before (8) |
//!
//! Tables come before their rows, and nothing comes behind the end. Large values are whole.

mod read;
mod write;

pub(super) use read::import;
pub(super) use write::export;

use crate::error::StoreError;

const MAGIC: &[u8; 19] = b"aftercommit export\n";
const VERSION: u32 = 1;

const TABLE: u8 = b'T';
const ROW: u8 = b'R';
const EVENT: u8 = b'E';
const ERASED: u8 = b'X';
const LOG_END: u8 = b'L';
const CURSOR: u8 = b'C';
const REDELIVERY: u8 = b'D';
const PARKED: u8 = b'P';
const SUSPECT: u8 = b'S';
const LISTENER: u8 = b'N';
const GIVEN_UP: u8 = b'G';
const SCHEDULED: u8 = b'W';
const REMEMBERED: u8 = b'O';
const MARK: u8 = b'M';
const END: u8 = b'Z';

/// What went through a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Streamed {
    /// How many records.
    pub records: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many rows and counters.
    pub rows: u64,
    /// How many events.
    pub events: u64,
}

impl Streamed {
    fn count(&mut self, kind: u8, bytes: usize) {
        self.bytes += bytes as u64;
        self.records += 1;
        self.rows += u64::from(kind == ROW);
        self.events += u64::from(kind == EVENT);
    }
}

/// The checksum of a record.
fn checksum(kind: u8, rest: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[kind]);
    sum.update(&(rest.len() as u64).to_be_bytes());
    sum.update(rest);
    sum.finalize()
}

/// The error for a stream that is not what was written, from byte `at` on.
fn damaged(at: u64, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged { what: format!("the export, at byte {at},"), reason: reason.into() }
}
