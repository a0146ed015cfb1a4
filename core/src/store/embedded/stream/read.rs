//! Making a store of a stream.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use uuid::Uuid;

use super::{
    CURSOR, END, ERASED, EVENT, GIVEN_UP, LISTENER, LOG_END, MAGIC, MARK, PARKED, REDELIVERY, REMEMBERED, ROW,
    SCHEDULED, SUSPECT, Streamed, TABLE, VERSION, checksum, damaged,
};
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::embedded::Limits;
use crate::store::embedded::catalogue::Record;
use crate::store::embedded::engine::{Batch, Engine};
use crate::store::embedded::layout::{
    self, CLEAN, Chunks, LOG_ENDS, LogEnds, NEXT_SCHEDULED, chunk_key, decode_due, delivery_key, expiry_key, frame,
    frame_chunks, named, pack_key, remembered_key, row_key, scheduled_id_key, scheduled_key,
};
use crate::store::embedded::log::{Packer, Stay, fits_inline};
use crate::store::embedded::waiting::{decode_remembered, encode_place};
use crate::store::{Cursor, Durability, Position};

/// Reads the stream into `engine`, which is empty, and syncs it. After an error it holds a part, and must not be used.
pub(in super::super) fn import(input: &mut dyn Read, engine: &dyn Engine) -> Result<Streamed, StoreError> {
    let mut reader = Reader { input, at: 0 };
    let head: [u8; MAGIC.len() + 4] = reader.array()?;
    let Some(version) = head.strip_prefix(MAGIC) else { return Err(damaged(0, "it is no export of a store")) };
    if version != VERSION.to_be_bytes() {
        let version = u32::from_be_bytes([version[0], version[1], version[2], version[3]]);
        return Err(damaged(19, format!("it has version {version}, and this aftercommit knows {VERSION}")));
    }
    let mut building = Building::new(engine);
    let mut done = Streamed { bytes: head.len() as u64, ..Streamed::default() };
    loop {
        let at = reader.at;
        let (kind, rest) = reader.record()?;
        let records = done.records;
        done.count(kind, usize::try_from(reader.at - at).unwrap_or(usize::MAX));
        if kind == END {
            if rest != records.to_be_bytes() {
                return Err(damaged(at, format!("{records} records came before its end, and it speaks of others")));
            }
            break;
        }
        match building.take(kind, &rest)? {
            Some(()) => {}
            None => {
                return Err(damaged(at, format!("its record `{}` has not the form it should", kind.escape_ascii())));
            }
        }
    }
    if reader.input.read(&mut [0]).map_err(failed)? != 0 {
        return Err(damaged(reader.at, "something follows its end"));
    }
    building
        .end()
        .and_then(|whole| whole.ok_or_else(|| damaged(reader.at, "it does not say how the store was closed")))?;
    Ok(done)
}

fn failed(cause: std::io::Error) -> StoreError {
    StoreError::backend("read the export", cause)
}

struct Reader<'a> {
    input: &'a mut dyn Read,
    at: u64,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|cause| match cause.kind() {
            ErrorKind::UnexpectedEof => damaged(self.at, "it is cut off"),
            _ => failed(cause),
        })?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn record(&mut self) -> Result<(u8, Vec<u8>), StoreError> {
        let begin = self.at;
        let [kind] = self.array()?;
        let len = u64::from_be_bytes(self.array()?);
        let sum = u32::from_be_bytes(self.array()?);
        let mut rest = Vec::new();
        // Not reserved ahead: a length that is damaged takes no more memory than there are bytes.
        (&mut *self.input).take(len).read_to_end(&mut rest).map_err(failed)?;
        if (rest.len() as u64) < len {
            return Err(damaged(begin, "it is cut off, or the length of a record is wrong"));
        }
        self.at += len;
        if checksum(kind, &rest) != sum {
            return Err(damaged(begin, "the checksum of a record is wrong"));
        }
        Ok((kind, rest))
    }
}

/// A store in the making.
struct Building<'a> {
    engine: &'a dyn Engine,
    limits: Limits,
    batch: Batch,
    bytes: usize,
    tables: BTreeMap<u32, Record>,
    next_chunk: u64,
    next_scheduled: u64,
    packer: Packer,
    /// The position after the last event, and how many bytes of events are in the packer.
    next: Position,
    packed: usize,
    ends: Option<Position>,
    clean: Option<u8>,
}

impl<'a> Building<'a> {
    fn new(engine: &'a dyn Engine) -> Self {
        let limits = Limits::default();
        Self {
            engine,
            limits,
            batch: Batch::new(),
            bytes: 0,
            tables: BTreeMap::new(),
            next_chunk: 1,
            next_scheduled: 0,
            packer: Packer::new(Position(1), limits.pack_bytes, 0),
            next: Position(1),
            packed: 0,
            ends: None,
            clean: None,
        }
    }

    /// Takes a record in; `None` if it has not the form it should.
    fn take(&mut self, kind: u8, rest: &[u8]) -> Result<Option<()>, StoreError> {
        match kind {
            TABLE => return Ok(self.table(rest)),
            ROW => return self.row(rest),
            EVENT | ERASED => return self.event(kind, rest),
            LOG_END => self.ends = rest.try_into().ok().map(u64::from_be_bytes).map(Position),
            MARK => self.clean = <[u8; 1]>::try_from(rest).ok().map(|[clean]| clean).filter(|clean| *clean < 2),
            CURSOR => {
                let Some((listener, body)) = text(rest) else { return Ok(None) };
                if Cursor::decode(body).is_err() {
                    return Ok(None);
                }
                let key = named(layout::CURSOR, listener);
                let value = frame(&key, body);
                self.put(key, value)?;
            }
            LISTENER => {
                let Some((listener, body)) = text(rest) else { return Ok(None) };
                self.value(named(layout::LISTENER, listener), body)?;
            }
            SCHEDULED => return self.scheduled(rest),
            REMEMBERED => return self.remembered(rest),
            REDELIVERY | PARKED | SUSPECT | GIVEN_UP => {
                let Some((listener, rest)) = text(rest) else { return Ok(None) };
                let Some((position, body)) = rest.split_first_chunk() else { return Ok(None) };
                let kind = match kind {
                    REDELIVERY => layout::REDELIVERY,
                    PARKED => layout::PARKED,
                    GIVEN_UP => layout::GIVEN_UP,
                    _ => layout::SUSPECT,
                };
                self.value(delivery_key(kind, listener, Position(u64::from_be_bytes(*position))), body)?;
            }
            _ => return Ok(None),
        }
        let known = (kind != LOG_END || self.ends.is_some()) && (kind != MARK || self.clean.is_some());
        Ok(known.then_some(()))
    }

    fn table(&mut self, rest: &[u8]) -> Option<()> {
        let (id, rest) = rest.split_first_chunk()?;
        let (name, shape) = text(rest)?;
        let (id, shape) = (u32::from_be_bytes(*id), std::str::from_utf8(shape).ok()?);
        let record = Record { id, name: name.to_owned(), shape: shape.to_owned(), large: false };
        self.tables.insert(id, record).is_none().then_some(())
    }

    fn row(&mut self, rest: &[u8]) -> Result<Option<()>, StoreError> {
        let Some((table, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let Some((key, value)) = sized(rest) else { return Ok(None) };
        let Some(table) = self.tables.get_mut(&u32::from_be_bytes(*table)) else { return Ok(None) };
        table.large |= value.len() > self.limits.chunk_bytes;
        let key = row_key(table.id, key);
        self.value(key, value).map(Some)
    }

    fn event(&mut self, kind: u8, rest: &[u8]) -> Result<Option<()>, StoreError> {
        let Some((position, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let position = Position(u64::from_be_bytes(*position));
        if position < self.next {
            return Ok(None);
        }
        if position > self.next || self.packed >= self.limits.group_bytes / 4 {
            self.end_packs(position)?;
        }
        if kind == ERASED {
            let Ok(id) = rest.try_into() else { return Ok(None) };
            self.packer.erased(Uuid::from_bytes(id));
        } else {
            let Ok(envelope) = Envelope::decode(rest) else { return Ok(None) };
            if fits_inline(rest.len(), self.limits.chunk_bytes) {
                self.packer.inline(rest, Stay::of(&envelope));
            } else {
                let chunks = self.cut(rest)?;
                self.packer.chunked(chunks, Stay::of(&envelope));
            }
        }
        self.packed += rest.len();
        self.next = position.next();
        Ok(Some(()))
    }

    fn scheduled(&mut self, rest: &[u8]) -> Result<Option<()>, StoreError> {
        let Some((due, body)) = rest.split_at_checked(16) else { return Ok(None) };
        let (Some(due), Ok(envelope)) = (decode_due(due), Envelope::decode(body)) else { return Ok(None) };
        let id_key = scheduled_id_key(envelope.header.metadata.id);
        let place = frame(&id_key, &encode_place(due));
        self.put(id_key, place)?;
        self.next_scheduled = self.next_scheduled.max(due.order.saturating_add(1));
        self.value(scheduled_key(due), body).map(Some)
    }

    fn remembered(&mut self, rest: &[u8]) -> Result<Option<()>, StoreError> {
        let Some((scope, rest)) = text(rest) else { return Ok(None) };
        let Some((id, body)) = sized(rest) else { return Ok(None) };
        let key = remembered_key(scope, id);
        let Ok(one) = decode_remembered(&key, body) else { return Ok(None) };
        let expiry = expiry_key(one.until, &key);
        let empty = frame(&expiry, &[]);
        self.put(expiry, empty)?;
        self.value(key, body).map(Some)
    }

    /// Writes the packs so far; the next event will stand at `next`.
    fn end_packs(&mut self, next: Position) -> Result<(), StoreError> {
        for pack in self.packer.finish() {
            let key = pack_key(pack.first);
            let value = frame(&key, &pack.body);
            self.put(key, value)?;
        }
        self.packer = Packer::new(next, self.limits.pack_bytes, self.packer.written());
        self.packed = 0;
        self.next = next;
        Ok(())
    }

    /// Writes a value, in pieces if it is large.
    fn value(&mut self, key: Vec<u8>, body: &[u8]) -> Result<(), StoreError> {
        let value =
            if body.len() > self.limits.chunk_bytes { frame_chunks(&key, self.cut(body)?) } else { frame(&key, body) };
        self.put(key, value)
    }

    fn cut(&mut self, body: &[u8]) -> Result<Chunks, StoreError> {
        let id = self.next_chunk;
        self.next_chunk += 1;
        let mut count = 0;
        for piece in body.chunks(self.limits.chunk_bytes) {
            let key = chunk_key(id, count);
            let value = frame(&key, piece);
            self.put(key, value)?;
            count += 1;
        }
        Ok(Chunks { id, count, len: body.len() as u64 })
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += self.limits.cost(key.len() + value.len());
        self.batch.insert(key, Some(value));
        if self.bytes >= self.limits.group_bytes { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.engine.apply(std::mem::take(&mut self.batch))
    }

    /// Writes what is left; `None` if something that every store has did not come.
    fn end(mut self) -> Result<Option<()>, StoreError> {
        let (Some(clean), Some(ends)) = (self.clean, self.ends) else { return Ok(None) };
        self.end_packs(self.next)?;
        for record in std::mem::take(&mut self.tables).into_values() {
            let (key, value) = record.encode();
            self.put(key, value)?;
        }
        if self.next_scheduled > 0 {
            self.put(NEXT_SCHEDULED.to_vec(), frame(NEXT_SCHEDULED, &self.next_scheduled.to_be_bytes()))?;
        }
        let ends = LogEnds { next: ends.max(self.next), ..LogEnds::default() };
        self.put(LOG_ENDS.to_vec(), frame(LOG_ENDS, &ends.encode()))?;
        self.put(CLEAN.to_vec(), frame(CLEAN, &[clean]))?;
        self.write()?;
        self.engine.sync(Durability::Sync)?;
        Ok(Some(()))
    }
}

/// Bytes behind their length, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = sized(bytes)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}
