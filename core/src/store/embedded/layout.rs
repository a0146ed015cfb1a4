//! Where things stand in the one ordered key space of an embedded store, and how each value is framed.
//!
//! The first byte of a key says what it holds. Numbers in keys are big-endian, so that they sort.
//! Every value carries a checksum over its key and itself: a flipped bit, or a value under another's key, is named and never served.

use std::ops::Range;

use crate::error::StoreError;
use crate::key::readable;
use crate::store::Position;

/// Single values of the store itself.
pub(super) const META: u8 = b'm';
/// Tables by name: their ids and shapes.
pub(super) const TABLE: u8 = b't';
/// Rows of the application: table id, key.
pub(super) const ROW: u8 = b'r';
/// Packs of events by the position of their first.
pub(super) const LOG: u8 = b'l';
/// Pieces of large values: id, number.
pub(super) const CHUNK: u8 = b'k';
/// Large values whose pieces nobody refers to, or not yet: they are swept.
pub(super) const FREE: u8 = b'f';
/// Cursors by listener.
pub(super) const CURSOR: u8 = b'c';
/// Deliveries to be called again: listener, position.
pub(super) const REDELIVERY: u8 = b'd';
/// Parked events: listener, position.
pub(super) const PARKED: u8 = b'p';
/// Deliveries that may take the process with them: listener, position.
pub(super) const SUSPECT: u8 = b's';

/// Whether the store was closed in good order.
pub(super) const CLEAN: &[u8] = b"mclean";
/// The log's next position, and how far it was pruned.
pub(super) const LOG_ENDS: &[u8] = b"mlog";

/// Where the store moved to: whoever opens it is to open that instead.
pub(super) const MOVED: &[u8] = b"mmoved";
/// The number of the journal's last record that the engine has.
pub(super) const ABSORBED: &[u8] = b"mjournal";

/// No UTF-8 text holds this byte, so it ends a listener's id within a key.
const END_OF_ID: u8 = 0xff;

/// The key of a row.
pub(super) fn row_key(table: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + key.len());
    out.push(ROW);
    out.extend_from_slice(&table.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The table and the application's own key of a row's key.
pub(super) fn split_row_key(key: &[u8]) -> Option<(u32, &[u8])> {
    let (&kind, rest) = key.split_first()?;
    let (table, key) = rest.split_first_chunk()?;
    (kind == ROW).then_some((u32::from_be_bytes(*table), key))
}

/// All rows of a table.
pub(super) fn rows_of(table: u32) -> Range<Vec<u8>> {
    let end = match table.checked_add(1) {
        Some(next) => row_key(next, &[]),
        None => vec![ROW + 1],
    };
    row_key(table, &[])..end
}

/// Everything of one kind.
pub(super) fn all_of(kind: u8) -> Range<Vec<u8>> {
    vec![kind]..vec![kind + 1]
}

/// The key right after `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// A key of one kind that is named by text.
pub(super) fn named(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], name.as_bytes()].concat()
}

/// The text of a key that [`named`] made.
pub(super) fn name_of(key: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(key.get(1..).unwrap_or_default().to_vec()).map_err(|_| damaged(key, "its key is not text"))
}

/// The key of the pack that begins at `first`.
pub(super) fn pack_key(first: Position) -> Vec<u8> {
    [&[LOG][..], &first.0.to_be_bytes()].concat()
}

/// The first position of a pack's key.
pub(super) fn pack_first(key: &[u8]) -> Result<Position, StoreError> {
    match key.get(1..).and_then(|rest| rest.try_into().ok()) {
        Some(first) => Ok(Position(u64::from_be_bytes(first))),
        None => Err(damaged(key, "its key is no position")),
    }
}

/// The key of a piece of a large value.
pub(super) fn chunk_key(id: u64, number: u32) -> Vec<u8> {
    [&[CHUNK][..], &id.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// The id in the key of a piece, or of a large value to be swept.
pub(super) fn chunk_id(key: &[u8]) -> Option<u64> {
    key.get(1..9).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes)
}

/// The key that says that the pieces of a large value are to be swept.
pub(super) fn free_key(id: u64) -> Vec<u8> {
    [&[FREE][..], &id.to_be_bytes()].concat()
}

/// The key of what is kept for one delivery.
pub(super) fn delivery_key(kind: u8, listener: &str, position: Position) -> Vec<u8> {
    [&[kind], listener.as_bytes(), &[END_OF_ID], &position.0.to_be_bytes()].concat()
}

/// Everything of one kind that is kept for deliveries of `listener`.
pub(super) fn deliveries_of(kind: u8, listener: &str) -> Range<Vec<u8>> {
    let start = [&[kind], listener.as_bytes(), &[END_OF_ID]].concat();
    let mut end = start.clone();
    end.extend_from_slice(&[0xff; 9]);
    start..end
}

/// The listener and position of a key that [`delivery_key`] made.
pub(super) fn delivery_of(key: &[u8]) -> Result<(String, Position), StoreError> {
    let split = || {
        let (rest, position) = key.get(1..)?.split_last_chunk::<8>()?;
        let (&end, listener) = rest.split_last()?;
        let listener = String::from_utf8(listener.to_vec()).ok()?;
        (end == END_OF_ID).then_some((listener, Position(u64::from_be_bytes(*position))))
    };
    split().ok_or_else(|| damaged(key, "its key is no delivery"))
}

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

/// A stored value: its bytes, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framed {
    /// The value itself.
    Inline(Vec<u8>),
    /// In pieces of their own.
    Chunked(Chunks),
}

/// Where a large value's pieces are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Given out once.
    pub(super) id: u64,
    /// How many pieces.
    pub(super) count: u32,
    /// How many bytes in all.
    pub(super) len: u64,
}

impl Chunks {
    /// How many bytes [`encode`](Self::encode) writes.
    pub(super) const BYTES: usize = 20;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.id.to_be_bytes());
        out[8..12].copy_from_slice(&self.count.to_be_bytes());
        out[12..].copy_from_slice(&self.len.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        Some(Self {
            id: u64::from_be_bytes(*id),
            count: u32::from_be_bytes(*count),
            len: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }

    /// The keys of the pieces.
    pub(super) fn keys(self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.count).map(move |number| chunk_key(self.id, number))
    }
}

/// Frames a value that stands under `key` itself.
pub(super) fn frame(key: &[u8], body: &[u8]) -> Vec<u8> {
    framed(key, INLINE, body)
}

/// Frames where a large value of `key` is.
pub(super) fn frame_chunks(key: &[u8], chunks: Chunks) -> Vec<u8> {
    framed(key, CHUNKED, &chunks.encode())
}

fn framed(key: &[u8], tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(tag);
    out.extend_from_slice(&checksum(key, tag, body).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Checks the frame of `key`'s value and opens it.
pub(super) fn unframe(key: &[u8], mut value: Vec<u8>) -> Result<Framed, StoreError> {
    let Some((&tag, rest)) = value.split_first() else { return Err(damaged(key, "it is empty")) };
    let Some((sum, body)) = rest.split_first_chunk() else { return Err(damaged(key, "it ends early")) };
    if u32::from_be_bytes(*sum) != checksum(key, tag, body) {
        return Err(damaged(key, "its checksum is wrong"));
    }
    match tag {
        INLINE => {
            value.drain(..5);
            Ok(Framed::Inline(value))
        }
        CHUNKED => Chunks::decode(body).map(Framed::Chunked).ok_or_else(|| damaged(key, "it points nowhere")),
        _ => Err(damaged(key, "it is of an unknown kind")),
    }
}

/// Opens a value that is never chunked.
pub(super) fn unframe_inline(key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    match unframe(key, value)? {
        Framed::Inline(body) => Ok(body),
        Framed::Chunked(_) => Err(damaged(key, "it is in pieces where it never is")),
    }
}

fn checksum(key: &[u8], tag: u8, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(&[tag]);
    sum.update(body);
    sum.finalize()
}

/// The error for a stored record that is not what was written.
pub(super) fn damaged(key: &[u8], reason: &str) -> StoreError {
    StoreError::Damaged { what: describe(key), reason: reason.to_owned() }
}

/// What an entry is, in words, with its key.
pub(super) fn describe(key: &[u8]) -> String {
    let kind = match key.first() {
        Some(&META) => "a value of the store",
        Some(&TABLE) => "a table's record",
        Some(&ROW) => "a row",
        Some(&LOG) => "a pack of events",
        Some(&CHUNK) => "a piece of a large value",
        Some(&FREE) => "a large value to be swept",
        Some(&CURSOR) => "a listener's cursor",
        Some(&REDELIVERY) => "a delivery that waits",
        Some(&PARKED) => "a parked event",
        Some(&SUSPECT) => "a suspected delivery",
        _ => "a record",
    };
    format!("{kind} (key {})", readable(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_any_flipped_bit_or_under_another_key_is_damaged() {
        let key = row_key(7, b"k");
        for whole in [frame(&key, b"value"), frame_chunks(&key, Chunks { id: 1, count: 2, len: 3 })] {
            assert!(unframe(&key, whole.clone()).is_ok());
            assert!(unframe(&row_key(7, b"l"), whole.clone()).is_err());
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(unframe(&key, flipped), Err(StoreError::Damaged { .. })), "bit {bit}");
            }
        }
    }

    #[test]
    fn deliveries_of_one_listener_never_mix_with_those_of_a_longer_name() {
        let range = deliveries_of(PARKED, "a");
        assert!(range.contains(&delivery_key(PARKED, "a", Position(u64::MAX))));
        assert!(range.contains(&delivery_key(PARKED, "a", Position(0))));
        assert!(!range.contains(&delivery_key(PARKED, "ab", Position(1))));
        assert!(!range.contains(&delivery_key(PARKED, "a\u{0}", Position(1))));
        assert_eq!(delivery_of(&delivery_key(PARKED, "a", Position(9))).expect("whole"), ("a".to_owned(), Position(9)));
    }

    #[test]
    fn rows_of_one_table_end_where_the_next_begins() {
        assert!(rows_of(3).contains(&row_key(3, &[0xff; 40])));
        assert!(!rows_of(3).contains(&row_key(4, &[])));
        assert!(rows_of(u32::MAX).contains(&row_key(u32::MAX, &[0xff; 9])));
        assert_eq!(split_row_key(&row_key(3, b"xy")), Some((3, &b"xy"[..])));
    }
}
