//! Where things stand in the one ordered key space of an embedded store, and how each value is framed.
//!
//! The first byte of a key says what it holds. Numbers in keys are big-endian, so that they sort.
//! Every value carries a checksum over its key and itself: a flipped bit, or a value under another's key, is named and never served.

use std::ops::Range;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::readable;
use crate::store::{Due, Position};

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
/// What is known of listeners beside their cursors, by listener.
pub(super) const LISTENER: u8 = b'n';
/// Deliveries given up for good: listener, position.
pub(super) const GIVEN_UP: u8 = b'g';
/// Events that were published for later: due time, order.
pub(super) const SCHEDULED: u8 = b'w';
/// Where a scheduled event stands, by its id.
pub(super) const SCHEDULED_ID: u8 = b'i';
/// Ids that are remembered: scope, id.
pub(super) const REMEMBERED: u8 = b'o';
/// When a remembered id is free again: time, scope, id.
pub(super) const EXPIRY: u8 = b'e';

/// Whether the store was closed in good order.
pub(super) const CLEAN: &[u8] = b"mclean";
/// The log's next position, and how far it was pruned: [`LogEnds`].
pub(super) const LOG_ENDS: &[u8] = b"mlog";
/// The order of the next scheduled event.
pub(super) const NEXT_SCHEDULED: &[u8] = b"mscheduled";

/// Where the store moved to: whoever opens it is to open that instead.
pub(super) const MOVED: &[u8] = b"mmoved";
/// The number of the journal's last record that the engine has.
pub(super) const ABSORBED: &[u8] = b"mjournal";

/// No UTF-8 text holds this byte, so it ends a listener's id, or a scope, within a key.
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

/// The ends of the log, as they stand under [`LOG_ENDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LogEnds {
    /// The next position.
    pub(super) next: Position,
    /// Up to where it was pruned of what is not kept for later listeners; and of what is.
    pub(super) pruned: Position,
    pub(super) pruned_logged: Position,
}

impl LogEnds {
    pub(super) fn encode(self) -> Vec<u8> {
        [self.next, self.pruned, self.pruned_logged].map(|position| position.0.to_be_bytes()).concat()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, StoreError> {
        let numbers: Vec<Position> =
            body.chunks(8).filter_map(|number| Some(Position(u64::from_be_bytes(number.try_into().ok()?)))).collect();
        match numbers[..] {
            [next, pruned, pruned_logged] if body.len() == 24 => Ok(Self { next, pruned, pruned_logged }),
            _ => Err(damaged(LOG_ENDS, "it is no three positions")),
        }
    }
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

/// The key of a scheduled event.
pub(super) fn scheduled_key(due: Due) -> Vec<u8> {
    [&[SCHEDULED][..], &encode_due(due)].concat()
}

/// The place of a scheduled event's key.
pub(super) fn scheduled_at(key: &[u8]) -> Result<Due, StoreError> {
    key.get(1..).and_then(decode_due).ok_or_else(|| damaged(key, "its key is no due time"))
}

/// The key that says where the scheduled event with this id stands.
pub(super) fn scheduled_id_key(event: Uuid) -> Vec<u8> {
    [&[SCHEDULED_ID][..], event.as_bytes()].concat()
}

/// A due time in 16 bytes that sort.
pub(super) fn encode_due(due: Due) -> [u8; 16] {
    (u128::from(due.time.0) << 64 | u128::from(due.order)).to_be_bytes()
}

/// Reads what [`encode_due`] wrote.
pub(super) fn decode_due(bytes: &[u8]) -> Option<Due> {
    let both = u128::from_be_bytes(bytes.try_into().ok()?);
    Some(Due { time: Timestamp((both >> 64) as u64), order: both as u64 })
}

/// The key of a remembered id.
pub(super) fn remembered_key(scope: &str, id: &[u8]) -> Vec<u8> {
    [&[REMEMBERED], scope.as_bytes(), &[END_OF_ID], id].concat()
}

/// The scope and id of a remembered id's key.
pub(super) fn remembered_of(key: &[u8]) -> Result<(String, Vec<u8>), StoreError> {
    let split = || {
        let rest = key.get(1..)?;
        let end = rest.iter().position(|byte| *byte == END_OF_ID)?;
        Some((String::from_utf8(rest[..end].to_vec()).ok()?, rest[end + 1..].to_vec()))
    };
    split().ok_or_else(|| damaged(key, "its key is no remembered id"))
}

/// The key that says when a remembered id, which stands under `remembered`, is free again.
pub(super) fn expiry_key(until: Timestamp, remembered: &[u8]) -> Vec<u8> {
    [&[EXPIRY][..], &until.0.to_be_bytes(), remembered.get(1..).unwrap_or_default()].concat()
}

/// The time of an expiry's key, and the key of the remembered id.
pub(super) fn expiry_of(key: &[u8]) -> Result<(Timestamp, Vec<u8>), StoreError> {
    let (until, rest) =
        key.get(1..).and_then(|rest| rest.split_first_chunk()).ok_or_else(|| damaged(key, "its key is no expiry"))?;
    Ok((Timestamp(u64::from_be_bytes(*until)), [&[REMEMBERED], rest].concat()))
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
        Some(&LISTENER) => "what is known of a listener",
        Some(&GIVEN_UP) => "a delivery that was given up",
        Some(&SCHEDULED) => "a scheduled event",
        Some(&SCHEDULED_ID) => "the place of a scheduled event",
        Some(&REMEMBERED) => "a remembered id",
        Some(&EXPIRY) => "the expiry of a remembered id",
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
    fn what_waits_for_a_time_sorts_by_it_and_its_keys_read_back() {
        let due = |time, order| Due { time: Timestamp(time), order };
        assert!(scheduled_key(due(1, u64::MAX)) < scheduled_key(due(2, 0)));
        assert!(scheduled_key(due(2, 1)) < scheduled_key(due(2, 2)));
        assert_eq!(scheduled_at(&scheduled_key(due(7, 9))).expect("whole"), due(7, 9));
        assert_eq!(due(1, u64::MAX).next(), due(2, 0));
        let key = remembered_key("inbox:bank", &[0, 0xff, 1]);
        assert_eq!(remembered_of(&key).expect("whole"), ("inbox:bank".to_owned(), vec![0, 0xff, 1]));
        assert!(expiry_key(Timestamp(1), &key) < expiry_key(Timestamp(2), &remembered_key("a", b"")));
        assert_eq!(expiry_of(&expiry_key(Timestamp(5), &key)).expect("whole"), (Timestamp(5), key));
    }

    #[test]
    fn rows_of_one_table_end_where_the_next_begins() {
        assert!(rows_of(3).contains(&row_key(3, &[0xff; 40])));
        assert!(!rows_of(3).contains(&row_key(4, &[])));
        assert!(rows_of(u32::MAX).contains(&row_key(u32::MAX, &[0xff; 9])));
        assert_eq!(split_row_key(&row_key(3, b"xy")), Some((3, &b"xy"[..])));
    }
}
