//! The log: events packed into few rows, each named by the position of its first event.
//!
//! Positions within a pack are neighbours; between packs there may be gaps. A large event lies in pieces of its own.

use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use super::layout::{Chunks, LOG, all_of, chunk_key, damaged, pack_first, pack_key, unframe_inline};
use super::prune::Known;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::{Direction, LogEvent, LogPage, Position};

/// What a pack begins with: flags, when its newest event was published, how many bytes of the log were written before it.
const HEAD: usize = 1 + 8 + 8;
const HAS_LOGGED: u8 = 1;
const INLINE: u8 = 0;
const CHUNKED: u8 = 1;
const ERASED: u8 = 2;
/// What a tombstone holds: the event's id.
const TOMBSTONE: usize = 16;
/// What an entry costs beside the event: its kind and length.
const PER_ENTRY: usize = 5;

/// Packs a group's events, in order.
#[derive(Debug)]
pub(super) struct Packer {
    max_bytes: usize,
    first: Position,
    next: Position,
    body: Vec<u8>,
    newest: Timestamp,
    /// How many bytes of the log were written before this pack.
    before: u64,
    /// How many bytes its large events take.
    large: u64,
    done: Vec<Packed>,
}

/// A pack to be written.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) first: Position,
    pub(super) body: Vec<u8>,
    /// What is to be known of it, unless it holds large events.
    pub(super) known: Option<Known>,
}

impl Packer {
    /// Packs of about `max_bytes`, the first event at `first`, behind `before` bytes that were ever written.
    pub(super) fn new(first: Position, max_bytes: usize, before: u64) -> Self {
        let (body, newest) = (vec![0; HEAD], Timestamp(0));
        Self { max_bytes, first, next: first, body, newest, before, large: 0, done: Vec::new() }
    }

    /// Appends an event that lies in the pack itself.
    pub(super) fn inline(&mut self, encoded: &[u8], stay: Stay) -> Position {
        let len = u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.entry(&[&[INLINE], &len, encoded], stay)
    }

    /// Appends an event that lies in pieces.
    pub(super) fn chunked(&mut self, chunks: Chunks, stay: Stay) -> Position {
        let at = self.entry(&[&[CHUNKED], &chunks.encode()], stay);
        self.large += chunks.len;
        at
    }

    /// Appends the tombstone of an event that had this id.
    pub(super) fn erased(&mut self, id: Uuid) -> Position {
        self.entry(&[&[ERASED], id.as_bytes()], Stay::default())
    }

    /// How many bytes of the log were written once all of this is.
    pub(super) fn written(&self) -> u64 {
        self.before
    }

    fn entry(&mut self, parts: &[&[u8]], stay: Stay) -> Position {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.next > self.first && self.body.len() + len > self.max_bytes {
            self.finish_pack();
        }
        if stay.logged {
            self.body[0] |= HAS_LOGGED;
        }
        self.newest = self.newest.max(stay.time);
        for part in parts {
            self.body.extend_from_slice(part);
        }
        let at = self.next;
        self.next = at.next();
        at
    }

    fn finish_pack(&mut self) {
        let mut body = std::mem::replace(&mut self.body, vec![0; HEAD]);
        let (first, end) = (self.first, self.next);
        let (newest, before) = (std::mem::take(&mut self.newest), self.before);
        body[1..9].copy_from_slice(&newest.0.to_be_bytes());
        body[9..HEAD].copy_from_slice(&before.to_be_bytes());
        let known = Known { first, end, has_logged: body[0] & HAS_LOGGED != 0, bytes: body.len(), newest, before };
        self.before += body.len() as u64 + self.large;
        let known = (std::mem::take(&mut self.large) == 0).then_some(known);
        self.done.push(Packed { first, body, known });
        self.first = end;
    }

    /// The packs by first position; further events begin a new one.
    pub(super) fn finish(&mut self) -> Vec<Packed> {
        if self.next > self.first {
            self.finish_pack();
        }
        std::mem::take(&mut self.done)
    }
}

/// What decides how long an event stays in the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stay {
    /// Kept for later listeners.
    pub(super) logged: bool,
    /// When it was published.
    pub(super) time: Timestamp,
}

impl Stay {
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self { logged: envelope.header.logged, time: envelope.header.metadata.time }
    }
}

/// Whether an event of this encoded size lies in the pack itself.
pub(super) fn fits_inline(encoded: usize, max_bytes: usize) -> bool {
    encoded + PER_ENTRY < max_bytes
}

/// A pack as read.
#[derive(Debug)]
pub(super) struct Pack {
    key: Vec<u8>,
    pub(super) first: Position,
    has_logged: bool,
    newest: Timestamp,
    before: u64,
    body: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where an event lies.
#[derive(Debug)]
enum Entry {
    Inline(Range<usize>),
    Chunked(Chunks),
    Erased(Uuid),
}

impl Pack {
    /// Reads a pack's row.
    pub(super) fn decode(key: Vec<u8>, value: Vec<u8>) -> Result<Self, StoreError> {
        let first = pack_first(&key)?;
        let body = unframe_inline(&key, value)?;
        let ends_early = || damaged(&key, "it ends early");
        let (flags, rest) = body.split_first().ok_or_else(ends_early)?;
        let (newest, rest) = rest.split_first_chunk().ok_or_else(ends_early)?;
        let before = u64::from_be_bytes(*rest.first_chunk().ok_or_else(ends_early)?);
        let (has_logged, newest) = (flags & HAS_LOGGED != 0, Timestamp(u64::from_be_bytes(*newest)));
        let mut entries = Vec::new();
        let mut at = HEAD;
        while at < body.len() {
            let rest = body.get(at + 1..).unwrap_or_default();
            let entry = match body[at] {
                INLINE => rest.split_first_chunk().and_then(|(len, rest)| {
                    let len = u32::from_be_bytes(*len) as usize;
                    (len <= rest.len()).then(|| Entry::Inline(at + PER_ENTRY..at + PER_ENTRY + len))
                }),
                CHUNKED => rest.get(..Chunks::BYTES).and_then(Chunks::decode).map(Entry::Chunked),
                ERASED => rest.first_chunk::<TOMBSTONE>().map(|id| Entry::Erased(Uuid::from_bytes(*id))),
                _ => None,
            };
            let entry = entry.ok_or_else(|| damaged(&key, "an entry of it is cut off"))?;
            at = match &entry {
                Entry::Inline(range) => range.end,
                Entry::Chunked(_) => at + 1 + Chunks::BYTES,
                Entry::Erased(_) => at + 1 + TOMBSTONE,
            };
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(damaged(&key, "it holds no event"));
        }
        Ok(Self { key, first, has_logged, newest, before, body, entries })
    }

    /// What pruning has to know of it.
    pub(super) fn known(&self) -> Known {
        let (first, end, bytes) = (self.first, self.end(), self.body.len());
        Known { first, end, has_logged: self.has_logged, bytes, newest: self.newest, before: self.before }
    }

    /// How many bytes of the log were written up to its end.
    fn written(&self) -> u64 {
        self.before + self.body.len() as u64 + self.chunks().map(|chunks| chunks.len).sum::<u64>()
    }

    /// The position after its last event.
    pub(super) fn end(&self) -> Position {
        Position(self.first.0 + self.entries.len() as u64)
    }

    /// Where its large events are.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunks> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Chunked(chunks) => Some(*chunks),
            Entry::Inline(_) | Entry::Erased(_) => None,
        })
    }

    /// Whether its row still is what was read: it may be pruned, or an event of it erased.
    fn stands(&self, shared: &Shared) -> Result<bool, StoreError> {
        let now = shared.get_raw(&self.key)?.map(|value| unframe_inline(&self.key, value)).transpose()?;
        Ok(now.is_some_and(|now| now == self.body))
    }

    /// Where its row stands.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// How many places it has.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The id of the event that was erased at `index`.
    pub(super) fn erased(&self, index: usize) -> Option<Uuid> {
        match self.entries.get(index) {
            Some(Entry::Erased(id)) => Some(*id),
            _ => None,
        }
    }

    /// The id of the event at `index`; `None` if the pack was pruned meanwhile.
    fn id(&self, index: usize, shared: &Shared) -> Result<Option<Uuid>, StoreError> {
        let named = |encoded: &[u8]| Envelope::id_of(encoded).ok_or_else(|| damaged(&self.key, "an event ends early"));
        match &self.entries[index] {
            Entry::Erased(id) => Ok(Some(*id)),
            Entry::Inline(range) => named(&self.body[range.clone()]).map(Some),
            // Its header begins the first piece.
            Entry::Chunked(chunks) => {
                let key = chunk_key(chunks.id, 0);
                let piece = shared.get_raw(&key)?.map(|value| unframe_inline(&key, value)).transpose()?;
                piece.map(|encoded| named(&encoded)).transpose()
            }
        }
    }

    /// Its row's body with a tombstone at `index`, and where the pieces of what stood there are.
    pub(super) fn without(&self, index: usize, shared: &Shared) -> Result<(Vec<u8>, Option<Chunks>), StoreError> {
        let id = self.id(index, shared)?.ok_or_else(|| damaged(&self.key, "a piece of an event is missing"))?;
        let mut body = self.body[..HEAD].to_vec();
        let mut pieces = None;
        for (at, entry) in self.entries.iter().enumerate() {
            match entry {
                _ if at == index => {
                    body.push(ERASED);
                    body.extend_from_slice(id.as_bytes());
                    pieces = match entry {
                        Entry::Chunked(chunks) => Some(*chunks),
                        _ => None,
                    };
                }
                Entry::Inline(range) => body.extend_from_slice(&self.body[range.start - PER_ENTRY..range.end]),
                Entry::Chunked(chunks) => {
                    body.push(CHUNKED);
                    body.extend_from_slice(&chunks.encode());
                }
                Entry::Erased(id) => {
                    body.push(ERASED);
                    body.extend_from_slice(id.as_bytes());
                }
            }
        }
        let all_erased = (0..self.entries.len()).all(|at| at == index || self.erased(at).is_some());
        if all_erased {
            // Nothing is left that later listeners could want.
            body[0] &= !HAS_LOGGED;
        }
        Ok((body, pieces))
    }

    fn event_len(&self, index: usize) -> usize {
        match &self.entries[index] {
            Entry::Erased(_) => 0,
            Entry::Inline(range) => range.len(),
            Entry::Chunked(chunks) => usize::try_from(chunks.len).unwrap_or(usize::MAX),
        }
    }

    /// Whether the event at `index` may be stored under one of `names`: known of those that lie in the pack itself.
    fn may_be_of(&self, index: usize, names: &[String]) -> bool {
        let Entry::Inline(range) = &self.entries[index] else { return true };
        // One that ends early is damaged, and said to be where it is read.
        let name = Envelope::name_in(&self.body[range.clone()]);
        name.is_none_or(|name| names.iter().any(|one| one.as_bytes() == name))
    }

    /// The event at `index`; `None` if it was erased, or the pack was pruned meanwhile.
    pub(super) fn event(&self, index: usize, shared: &Shared) -> Result<Option<LogEvent>, StoreError> {
        let envelope = match &self.entries[index] {
            Entry::Erased(_) => return Ok(None),
            Entry::Inline(range) => Envelope::decode(&self.body[range.clone()])?,
            Entry::Chunked(chunks) => match shared.pieces(*chunks) {
                Ok(encoded) => Envelope::decode(&encoded)?,
                Err(StoreError::Damaged { .. }) if !self.stands(shared)? => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(LogEvent { position: Position(self.first.0 + index as u64), envelope: Arc::new(envelope) }))
    }
}

/// What the log has at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// An event.
    Event { pack: Pack, index: usize },
    /// An event was erased there, which had this id.
    Erased(Uuid),
    /// Nothing: pruned, or never given out.
    Nothing,
}

/// What stands at `position`.
pub(super) fn find_at(shared: &Shared, position: Position) -> Result<Found, StoreError> {
    let Some(pack) = pack_around(shared, position)? else { return Ok(Found::Nothing) };
    let index = usize::try_from(position.0 - pack.first.0).unwrap_or(usize::MAX);
    Ok(match pack.erased(index) {
        Some(id) => Found::Erased(id),
        None => Found::Event { pack, index },
    })
}

/// The position of the event with the given id, erased ones included, if the log still holds it. Looks through all of it.
pub(super) fn find_id(shared: &Shared, id: Uuid) -> Result<Option<Position>, StoreError> {
    let mut from = Position(0);
    loop {
        let packs = scan_packs(shared, from, Position(u64::MAX), READ_AHEAD)?;
        let Some(last) = packs.last() else { return Ok(None) };
        from = last.end();
        for pack in &packs {
            for index in 0..pack.len() {
                if pack.id(index, shared)? == Some(id) {
                    return Ok(Some(Position(pack.first.0 + index as u64)));
                }
            }
        }
    }
}

/// The pack that holds `position`, or would if it were not pruned: the last that begins at or before it.
fn pack_around(shared: &Shared, position: Position) -> Result<Option<Pack>, StoreError> {
    let range = pack_key(Position(0))..pack_key(position.next());
    let found = shared.scan_raw(&range, Direction::Backward, 1)?.pop();
    let pack = found.map(|(key, value)| Pack::decode(key, value)).transpose()?;
    Ok(pack.filter(|pack| pack.end() > position))
}

/// How many packs are read at once.
const READ_AHEAD: usize = 16;

/// Events from `from` to `upto`, both included, within the limits; at least one if there is one.
pub(super) fn read(
    shared: &Shared,
    from: Position,
    upto: Position,
    max_events: usize,
    max_bytes: usize,
) -> Result<Vec<LogEvent>, StoreError> {
    read_of(shared, None, from, upto, max_events, max_bytes).map(|page| page.events)
}

/// As [`read`], of those stored under one of `names` if they are given; what is passed over counts for the bytes too.
pub(super) fn read_of(
    shared: &Shared,
    names: Option<&[String]>,
    from: Position,
    upto: Position,
    max_events: usize,
    max_bytes: usize,
) -> Result<LogPage, StoreError> {
    let mut out: Vec<LogEvent> = Vec::new();
    if from > upto || max_events == 0 {
        return Ok(LogPage { events: out, next: from });
    }
    let mut bytes = 0usize;
    let mut packs: Vec<Pack> = pack_around(shared, from)?.into_iter().collect();
    let mut next = packs.first().map_or(from, Pack::end);
    let mut in_a_pack = 0;
    loop {
        for pack in packs {
            in_a_pack = pack.len();
            let skip = usize::try_from(from.0.saturating_sub(pack.first.0)).unwrap_or(usize::MAX);
            for index in skip..pack.entries.len() {
                let at = Position(pack.first.0 + index as u64);
                let is_first = out.is_empty() && (names.is_none() || at == from);
                bytes = bytes.saturating_add(pack.event_len(index));
                if at > upto || out.len() == max_events || (bytes > max_bytes && !is_first) {
                    return Ok(LogPage { events: out, next: at });
                }
                if names.is_none_or(|names| pack.may_be_of(index, names)) {
                    let is_of =
                        |event: &LogEvent| names.is_none_or(|names| names.contains(&event.envelope.header.name));
                    out.extend(pack.event(index, shared)?.filter(is_of));
                }
            }
            next = pack.end();
        }
        if next > upto || out.len() == max_events {
            return Ok(LogPage { events: out, next });
        }
        // As many as are likely to hold what is missing, by those that were read.
        let missing = (max_events - out.len()).div_ceil(in_a_pack.max(1));
        packs = scan_packs(shared, next, upto.next(), missing.clamp(1, READ_AHEAD))?;
        if packs.is_empty() {
            // Nothing is left between here and the end.
            return Ok(LogPage { events: out, next: upto.next() });
        }
    }
}

/// The event at `position`, if the log still holds it.
pub(super) fn read_one(shared: &Shared, position: Position) -> Result<Option<LogEvent>, StoreError> {
    match pack_around(shared, position)? {
        Some(pack) => {
            let index = usize::try_from(position.0 - pack.first.0).unwrap_or(usize::MAX);
            pack.event(index, shared)
        }
        None => Ok(None),
    }
}

/// At most `limit` packs that begin in `from..before`, ascending.
pub(super) fn scan_packs(
    shared: &Shared,
    from: Position,
    before: Position,
    limit: usize,
) -> Result<Vec<Pack>, StoreError> {
    let rows = shared.scan_raw(&(pack_key(from)..pack_key(before)), Direction::Forward, limit)?;
    rows.into_iter().map(|(key, value)| Pack::decode(key, value)).collect()
}

/// As [`scan_packs`], with the pack that begins before `from` and holds it.
pub(super) fn packs_from(
    shared: &Shared,
    from: Position,
    before: Position,
    limit: usize,
) -> Result<Vec<Pack>, StoreError> {
    let mut packs: Vec<Pack> = pack_around(shared, from)?.into_iter().collect();
    let next = packs.first().map_or(from, Pack::end);
    packs.extend(scan_packs(shared, next, before, limit)?);
    Ok(packs)
}

/// The position after the last stored event, or the first there is if there is none; and how many bytes of the log were written.
pub(super) fn end_of_log(shared: &Shared) -> Result<(Position, u64), StoreError> {
    let last = shared.scan_raw(&all_of(LOG), Direction::Backward, 1)?.pop();
    let last = last.map(|(key, value)| Pack::decode(key, value)).transpose()?;
    Ok(last.map_or((Position(1), 0), |pack| (pack.end(), pack.written())))
}
