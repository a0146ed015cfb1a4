//! One file of an archive: events of neighbouring positions, compressed in blocks, each with its checksum.
//!
//! Numbers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 20 | `aftercommit archive` and a line feed |
//! | 4 | version, now 1 |
//! | 8, 8 | the first position, and the one behind the last: everything between is here, or is a gap |
//! | 8 | how many events |
//! | 8, 8 | when the oldest and the newest were published |
//! | 8 | how many bytes of blocks follow |
//! | 4 | CRC-32 of all before |
//! | rest | blocks |
//!
//! A block is the position of its first event (8), how many there are (4), their length (4), their compressed length (4), the CRC-32
//! of these four and what follows (4), and the events as a zlib stream: position (8), length (4), envelope.

use std::ops::Range;
use std::sync::Arc;

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::{LogEvent, Position};

const MAGIC: &[u8; 20] = b"aftercommit archive\n";
const VERSION: u32 = 1;
const HEAD: usize = 20 + 4 + 6 * 8 + 4;
const BLOCK_HEAD: usize = 8 + 4 + 4 + 4 + 4;
/// About how many bytes of events are compressed together.
const BLOCK: usize = 64 * 1024;
/// How hard it is tried to make them smaller, of 10.
const LEVEL: u8 = 6;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: Position,
    pub(super) end: Position,
    pub(super) events: u64,
    pub(super) oldest: Timestamp,
    pub(super) newest: Timestamp,
    /// How many bytes of blocks follow.
    pub(super) bytes: u64,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = [&MAGIC[..], &VERSION.to_be_bytes()].concat();
        for number in [self.first.0, self.end.0, self.events, self.oldest.0, self.newest.0, self.bytes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((head, sum)) = bytes.get(..HEAD).and_then(|head| head.split_last_chunk()) else {
            return Err("it ends early");
        };
        if head[..20] != MAGIC[..] {
            return Err("it is no segment of an archive");
        }
        if crc32fast::hash(head) != u32::from_be_bytes(*sum) {
            return Err("the checksum of its head is wrong");
        }
        if head[20..24] != VERSION.to_be_bytes() {
            return Err("this aftercommit does not know its version");
        }
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[24 + at * 8 + byte]));
        Ok(Self {
            first: Position(number(0)),
            end: Position(number(1)),
            events: number(2),
            oldest: Timestamp(number(3)),
            newest: Timestamp(number(4)),
            bytes: number(5),
        })
    }
}

/// A segment as it stands in its file.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// For messages.
    name: Arc<str>,
    pub(super) head: Head,
    bytes: Arc<[u8]>,
}

/// A block within a segment.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// Where it begins, for messages.
    at: usize,
    count: u32,
    len: u32,
    data: Range<usize>,
}

impl Segment {
    /// Events that all lie in `range`, as a segment.
    pub(super) fn of(name: &str, range: Range<Position>, events: &[LogEvent]) -> Result<Self, StoreError> {
        let mut blocks = Vec::new();
        let mut raw = Vec::new();
        let mut from = 0;
        for (index, LogEvent { position, envelope }) in events.iter().enumerate() {
            raw.extend_from_slice(&position.0.to_be_bytes());
            let length = raw.len();
            raw.extend_from_slice(&[0; 4]);
            envelope.encode(&mut raw);
            let len = u32::try_from(raw.len() - length - 4).map_err(too_large)?;
            raw[length..length + 4].copy_from_slice(&len.to_be_bytes());
            if raw.len() >= BLOCK || index + 1 == events.len() {
                let count = index + 1 - from;
                put_block(&mut blocks, events[from].position, count, &raw)?;
                raw.clear();
                from = index + 1;
            }
        }
        let times = events.iter().map(|event| event.envelope.header.metadata.time);
        let head = Head {
            first: range.start,
            end: range.end,
            events: events.len() as u64,
            oldest: times.clone().min().unwrap_or_default(),
            newest: times.max().unwrap_or_default(),
            bytes: blocks.len() as u64,
        };
        Ok(Self::new(name, head, &blocks))
    }

    fn new(name: &str, head: Head, blocks: &[u8]) -> Self {
        Self { name: name.into(), head, bytes: [&head.encode()[..], blocks].concat().into() }
    }

    /// This one and the one behind it as one.
    pub(super) fn followed_by(&self, name: &str, next: &Segment) -> Self {
        let blocks = [&self.bytes[HEAD..], &next.bytes[HEAD..]].concat();
        // One without events says nothing of times.
        let (mine, its) = (&self.head, &next.head);
        let (oldest, newest) = match (mine.events, its.events) {
            (0, _) => (its.oldest, its.newest),
            (_, 0) => (mine.oldest, mine.newest),
            _ => (mine.oldest.min(its.oldest), mine.newest.max(its.newest)),
        };
        let (first, end, events) = (mine.first, its.end, mine.events + its.events);
        Self::new(name, Head { first, end, events, oldest, newest, bytes: blocks.len() as u64 }, &blocks)
    }

    /// Reads what a file holds.
    pub(super) fn decode(name: &str, bytes: Vec<u8>) -> Result<Self, StoreError> {
        let head = Head::decode(&bytes).map_err(|reason| damaged(name, 0, reason))?;
        if head.bytes != (bytes.len() - HEAD) as u64 {
            return Err(damaged(name, HEAD, "it is not as long as its head says"));
        }
        Ok(Self { name: name.into(), head, bytes: bytes.into() })
    }

    /// What stands in its file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its blocks that may hold something from `from` on; their checksums are not compared yet.
    pub(super) fn blocks(&self, from: Position) -> Result<Vec<Block>, StoreError> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut at = HEAD;
        while at < self.bytes.len() {
            let cut = || damaged(&self.name, at, "a block is cut off");
            let head = self.bytes.get(at..at + BLOCK_HEAD).ok_or_else(cut)?;
            let first = Position(u64::from_be_bytes(std::array::from_fn(|byte| head[byte])));
            let number = |from: usize| u32::from_be_bytes(std::array::from_fn(|byte| head[from + byte]));
            let data = at + BLOCK_HEAD..at + BLOCK_HEAD + number(16) as usize;
            if data.end > self.bytes.len() {
                return Err(cut());
            }
            if first <= from {
                blocks.clear();
            }
            blocks.push(Block { at, count: number(8), len: number(12), data: data.clone() });
            at = data.end;
        }
        Ok(blocks)
    }

    /// The events of one of its blocks.
    pub(super) fn events(&self, block: &Block) -> Result<Vec<LogEvent>, StoreError> {
        let wrong = |reason| damaged(&self.name, block.at, reason);
        let data = &self.bytes[block.data.clone()];
        let sum = u32::from_be_bytes(std::array::from_fn(|byte| self.bytes[block.data.start - 4 + byte]));
        if checksum(&self.bytes[block.at..block.data.start - 4], data) != sum {
            return Err(wrong("the checksum of a block is wrong"));
        }
        let raw = decompress_to_vec_zlib_with_limit(data, block.len as usize)
            .map_err(|_| wrong("a block cannot be decompressed"))?;
        let mut rest = &raw[..];
        let mut events = Vec::with_capacity(block.count as usize);
        while let Some((position, tail)) = rest.split_first_chunk() {
            let taken = tail
                .split_first_chunk()
                .and_then(|(len, tail)| tail.split_at_checked(u32::from_be_bytes(*len) as usize));
            let (encoded, tail) = taken.ok_or_else(|| wrong("an event of a block is cut off"))?;
            let envelope = Envelope::decode(encoded)?;
            events.push(LogEvent { position: Position(u64::from_be_bytes(*position)), envelope: Arc::new(envelope) });
            rest = tail;
        }
        if !rest.is_empty() || events.len() != block.count as usize {
            return Err(wrong("a block holds other events than it says"));
        }
        Ok(events)
    }

    /// All its events.
    pub(super) fn all(&self) -> Result<Vec<LogEvent>, StoreError> {
        let mut all = Vec::new();
        for block in self.blocks(Position(0))? {
            all.extend(self.events(&block)?);
        }
        if all.len() as u64 != self.head.events {
            return Err(damaged(&self.name, HEAD, "it holds other events than its head says"));
        }
        Ok(all)
    }
}

impl Block {
    /// Where it stands in its segment.
    pub(super) fn at(&self) -> usize {
        self.at
    }
}

fn put_block(out: &mut Vec<u8>, first: Position, count: usize, raw: &[u8]) -> Result<(), StoreError> {
    let number = |number: usize| u32::try_from(number).map_err(too_large);
    let data = compress_to_vec_zlib(raw, LEVEL);
    let mut head = first.0.to_be_bytes().to_vec();
    for number in [number(count)?, number(raw.len())?, number(data.len())?] {
        head.extend_from_slice(&number.to_be_bytes());
    }
    let sum = checksum(&head, &data);
    out.extend_from_slice(&head);
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(&data);
    Ok(())
}

fn checksum(head: &[u8], data: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(head);
    sum.update(data);
    sum.finalize()
}

fn too_large(cause: std::num::TryFromIntError) -> StoreError {
    StoreError::backend("archive an event of 4 GiB", cause)
}

/// The error for a segment that is not what was written, from byte `at` on.
fn damaged(name: &str, at: usize, reason: &str) -> StoreError {
    StoreError::Damaged { what: format!("the archive's segment {name:?}, at byte {at},"), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::{EventHeader, Metadata};

    fn event(position: u64, bytes: usize) -> LogEvent {
        let metadata = Metadata::new(Uuid::from_u128(u128::from(position)), Timestamp(position), None);
        let header = EventHeader::new(metadata, "test.happened", 1);
        let body = (0..bytes).map(|byte| (byte as u8).wrapping_mul(position as u8)).collect();
        LogEvent { position: Position(position), envelope: Arc::new(Envelope { header, body }) }
    }

    fn positions(events: &[LogEvent]) -> Vec<u64> {
        events.iter().map(|event| event.position.0).collect()
    }

    #[test]
    fn a_segment_reads_back_and_two_are_one() {
        let events: Vec<_> = (10..60).map(|position| event(position, 5_000)).collect();
        let first = Segment::of("a", Position(9)..Position(60), &events).expect("fits");
        assert!(first.bytes().len() < 50 * 5_000, "it is compressed");
        let second = Segment::of("b", Position(60)..Position(80), &[event(70, 200_000)]).expect("fits");
        let both = first.followed_by("c", &second);
        let read = Segment::decode("c", both.bytes().to_vec()).expect("whole");
        let all = read.all().expect("whole");
        assert_eq!(positions(&all), (10..60).chain([70]).collect::<Vec<_>>());
        assert!(all.iter().zip(&events).all(|(read, written)| read.envelope == written.envelope));
        assert_eq!(
            read.head,
            Head {
                first: Position(9),
                end: Position(80),
                events: 51,
                oldest: Timestamp(10),
                newest: Timestamp(70),
                bytes: (both.bytes().len() - HEAD) as u64,
            }
        );
        let blocks = read.blocks(Position(33)).expect("whole");
        let from = read.events(&blocks[0]).expect("whole");
        assert!(positions(&from).contains(&33) && !positions(&from).contains(&10), "only what may hold it");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_named() {
        let segment = Segment::of("a", Position(1)..Position(4), &[event(1, 40), event(3, 9)]).expect("fits");
        let read = |bytes: Vec<u8>| Segment::decode("a", bytes).and_then(|segment| segment.all());
        assert!(read(segment.bytes().to_vec()).is_ok());
        for bit in 0..segment.bytes().len() * 8 {
            let mut flipped = segment.bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(flipped), Err(StoreError::Damaged { .. })), "bit {bit}");
        }
        for cut in 0..segment.bytes().len() {
            assert!(matches!(read(segment.bytes()[..cut].to_vec()), Err(StoreError::Damaged { .. })), "cut at {cut}");
        }
    }
}
