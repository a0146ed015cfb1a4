//! Writing a store as a stream.

use std::io::Write;

use super::{
    CURSOR, END, ERASED, EVENT, GIVEN_UP, LISTENER, LOG_END, MAGIC, MARK, PARKED, REDELIVERY, REMEMBERED, ROW,
    SCHEDULED, SUSPECT, Streamed, TABLE, VERSION, checksum,
};
use crate::error::StoreError;
use crate::store::embedded::catalogue::Record;
use crate::store::embedded::layout::{
    self, CLEAN, Framed, after, all_of, damaged, delivery_of, name_of, remembered_of, scheduled_at, split_row_key,
    unframe, unframe_inline,
};
use crate::store::embedded::log::Pack;
use crate::store::embedded::shared::Shared;
use crate::store::embedded::verify::horizon_of;
use crate::store::embedded::waiting::encode_place;
use crate::store::{Direction, Row};

/// What is written, in this order. What belongs to a scheduled event or a remembered id is made anew when it is read.
const KINDS: [u8; 10] = [
    layout::LOG,
    layout::ROW,
    layout::CURSOR,
    layout::REDELIVERY,
    layout::PARKED,
    layout::SUSPECT,
    layout::LISTENER,
    layout::GIVEN_UP,
    layout::SCHEDULED,
    layout::REMEMBERED,
];
/// How many entries are read at once.
const ENTRIES: usize = 64;

/// Writes everything; what is damaged is an error that names it.
pub(in super::super) fn export(shared: &Shared, out: &mut dyn Write) -> Result<Streamed, StoreError> {
    let mut writer = Writer { out, done: Streamed::default() };
    let head = [&MAGIC[..], &VERSION.to_be_bytes()].concat();
    writer.put(&head)?;
    writer.done.bytes = head.len() as u64;
    for (key, value) in shared.scan_raw(&all_of(layout::TABLE), Direction::Forward, usize::MAX)? {
        let Record { id, name, shape, .. } = Record::decode(&key, value)?;
        writer.record(TABLE, &[&id.to_be_bytes(), &sized(name.as_bytes()), shape.as_bytes()])?;
    }
    let next = horizon_of(shared)?.position;
    writer.record(LOG_END, &[&next.0.to_be_bytes()])?;
    for kind in KINDS {
        let range = all_of(kind);
        let mut from = range.start;
        loop {
            let rows = shared.scan_raw(&(from..range.end.clone()), Direction::Forward, ENTRIES)?;
            let Some((last, _)) = rows.last() else { break };
            from = after(last);
            for row in rows {
                writer.entry(shared, kind, row)?;
            }
        }
    }
    let clean = shared.get(CLEAN)?.ok_or_else(|| damaged(CLEAN, "it is missing"))?;
    writer.record(MARK, &[&clean])?;
    let records = writer.done.records;
    writer.record(END, &[&records.to_be_bytes()])?;
    writer.out.flush().map_err(failed)?;
    Ok(writer.done)
}

fn failed(cause: std::io::Error) -> StoreError {
    StoreError::backend("write the export", cause)
}

/// Bytes behind their length.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()[..], bytes].concat()
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    done: Streamed,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.write_all(bytes).map_err(failed)
    }

    fn record(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), StoreError> {
        let rest = parts.concat();
        let head = [&[kind][..], &(rest.len() as u64).to_be_bytes(), &checksum(kind, &rest).to_be_bytes()].concat();
        self.put(&head)?;
        self.put(&rest)?;
        self.done.count(kind, head.len() + rest.len());
        Ok(())
    }

    fn entry(&mut self, shared: &Shared, kind: u8, (key, value): Row) -> Result<(), StoreError> {
        match kind {
            layout::LOG => self.pack(shared, &Pack::decode(key, value)?),
            layout::ROW => {
                let value = whole(shared, &key, value)?;
                let (table, own) = split_row_key(&key).ok_or_else(|| damaged(&key, "its key is no row's"))?;
                self.record(ROW, &[&table.to_be_bytes(), &sized(own), &value])
            }
            layout::CURSOR => {
                let body = unframe_inline(&key, value)?;
                self.record(CURSOR, &[&sized(name_of(&key)?.as_bytes()), &body])
            }
            layout::LISTENER => {
                let body = whole(shared, &key, value)?;
                self.record(LISTENER, &[&sized(name_of(&key)?.as_bytes()), &body])
            }
            layout::SCHEDULED => {
                let body = whole(shared, &key, value)?;
                self.record(SCHEDULED, &[&encode_place(scheduled_at(&key)?), &body])
            }
            layout::REMEMBERED => {
                let body = whole(shared, &key, value)?;
                let (scope, id) = remembered_of(&key)?;
                self.record(REMEMBERED, &[&sized(scope.as_bytes()), &sized(&id), &body])
            }
            _ => {
                let (listener, position) = delivery_of(&key)?;
                let body = whole(shared, &key, value)?;
                let kind = match kind {
                    layout::REDELIVERY => REDELIVERY,
                    layout::PARKED => PARKED,
                    layout::GIVEN_UP => GIVEN_UP,
                    _ => SUSPECT,
                };
                self.record(kind, &[&sized(listener.as_bytes()), &position.0.to_be_bytes(), &body])
            }
        }
    }

    fn pack(&mut self, shared: &Shared, pack: &Pack) -> Result<(), StoreError> {
        for index in 0..pack.len() {
            let position = (pack.first.0 + index as u64).to_be_bytes();
            if let Some(id) = pack.erased(index) {
                self.record(ERASED, &[&position, id.as_bytes()])?;
            } else if let Some(event) = pack.event(index, shared)? {
                let mut encoded = Vec::new();
                event.envelope.encode(&mut encoded);
                self.record(EVENT, &[&position, &encoded])?;
            }
        }
        Ok(())
    }
}

/// A value, put together.
fn whole(shared: &Shared, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    match unframe(key, value)? {
        Framed::Inline(body) => Ok(body),
        Framed::Chunked(chunks) => shared.pieces(chunks),
    }
}
