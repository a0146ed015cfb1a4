//! One entry: is it what was written, and does what it refers to stand?

use std::collections::BTreeMap;

use super::report::Problem;
use crate::error::StoreError;
use crate::store::embedded::catalogue::Record;
use crate::store::embedded::commit::Horizon;
use crate::store::embedded::layout::{
    CHUNK, CLEAN, CURSOR, Chunks, EXPIRY, FREE, Framed, GIVEN_UP, LISTENER, LOG, LOG_ENDS, LogEnds, META,
    NEXT_SCHEDULED, PARKED, REDELIVERY, REMEMBERED, ROW, SCHEDULED, SCHEDULED_ID, SUSPECT, TABLE, all_of, delivery_key,
    delivery_of, expiry_key, expiry_of, free_key, name_of, named, pack_key, scheduled_id_key, scheduled_key,
    split_row_key, unframe, unframe_inline,
};
use crate::store::embedded::log::Pack;
use crate::store::embedded::progress::{decode_cursor, decode_suspect};
use crate::store::embedded::record::{decode_given_up, decode_json, decode_parked};
use crate::store::embedded::shared::Shared;
use crate::store::embedded::waiting::{decode_place, decode_remembered, decode_scheduled, encode_place};
use crate::store::{Cursor, Direction, ListenerRecord, Position, Redelivery, Row, Scheduled};

/// What all entries are looked at against.
pub(super) struct Sight<'a> {
    pub(super) shared: &'a Shared,
    pub(super) horizon: Horizon,
    pub(super) tables: BTreeMap<u32, Record>,
}

/// What an entry turned out to be.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) problem: Option<Problem>,
    /// The large values it refers to.
    pub(super) large: Vec<Chunks>,
    /// For a pack: where it ends, and how many of its events were erased.
    pub(super) end: u64,
    pub(super) erased: u64,
    /// The listener it is kept for.
    pub(super) listener: Option<String>,
    pub(super) cursor: Option<Cursor>,
}

impl Seen {
    fn wrong(problem: Problem) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }

    /// The first problem counts.
    fn and(&mut self, problem: Option<Problem>) {
        if self.problem.is_none() {
            self.problem = problem;
        }
    }
}

impl<'a> Sight<'a> {
    pub(super) fn new(shared: &'a Shared, horizon: Horizon) -> Result<Self, StoreError> {
        let mut sight = Self { shared, horizon, tables: BTreeMap::new() };
        sight.look_at_tables()?;
        Ok(sight)
    }

    /// Reads which tables are recorded; of two with one id, the first by name.
    pub(super) fn look_at_tables(&mut self) -> Result<(), StoreError> {
        let rows = self.shared.scan_raw(&all_of(TABLE), Direction::Forward, usize::MAX)?;
        self.tables.clear();
        for record in rows.into_iter().filter_map(|(key, value)| Record::decode(&key, value).ok()) {
            self.tables.entry(record.id).or_insert(record);
        }
        Ok(())
    }

    /// Looks at one entry.
    pub(super) fn look(&mut self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let looked = match key.first() {
            Some(&META) => self.meta(key, value),
            Some(&TABLE) => self.table(key, value),
            Some(&ROW) => self.row(key, value),
            Some(&LOG) => self.pack(key, value),
            Some(&CHUNK) if key.len() == 13 => unframe_inline(key, value).map(|_| Seen::default()),
            Some(&FREE) if key.len() == 9 => unframe_inline(key, value).map(|body| match Chunks::decode(&body) {
                Some(_) => Seen::default(),
                None => Seen::wrong(Problem::Damaged { reason: "it points nowhere".to_owned() }),
            }),
            Some(&CURSOR) => self.cursor(key, value),
            Some(&REDELIVERY | &SUSPECT | &PARKED | &GIVEN_UP) => self.delivery(key, value),
            Some(&LISTENER) => self.listener(key, value),
            Some(&SCHEDULED) => self.scheduled(key, value),
            Some(&SCHEDULED_ID) => self.scheduled_id(key, value),
            Some(&REMEMBERED) => self.remembered(key, value),
            Some(&EXPIRY) => self.expiry(key, value),
            _ => Ok(Seen::wrong(Problem::Unknown)),
        };
        found(looked)
    }

    fn meta(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let body = unframe_inline(key, value)?;
        let wrong = |reason: &str| Ok(Seen::wrong(Problem::Damaged { reason: reason.to_owned() }));
        match key {
            CLEAN if !matches!(body[..], [0 | 1]) => wrong("it is no mark"),
            NEXT_SCHEDULED if body.len() != 8 => wrong("it is no number"),
            LOG_ENDS => {
                let LogEnds { pruned, pruned_logged, .. } = LogEnds::decode(&body)?;
                let (pruned, end) = (pruned.max(pruned_logged).0, self.horizon.position.0);
                let past = (pruned > end).then_some(Problem::PrunedPastEnd { pruned, end });
                Ok(Seen { problem: past, ..Seen::default() })
            }
            _ => Ok(Seen::default()),
        }
    }

    fn table(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let Record { id, name, .. } = Record::decode(key, value)?;
        let other = self.tables.get(&id).filter(|other| other.name != name);
        Ok(other.map_or_else(Seen::default, |other| Seen::wrong(Problem::SharedTable { other: other.name.clone() })))
    }

    fn row(&mut self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let mut seen = self.value(key, value)?.0;
        let Some((table, _)) = split_row_key(key) else { return Ok(Seen::wrong(Problem::Unknown)) };
        if !self.tables.contains_key(&table) {
            // It may have been recorded since they were read.
            self.look_at_tables()?;
        }
        if !self.tables.contains_key(&table) {
            seen.and(Some(Problem::UnknownTable { table }));
        }
        Ok(seen)
    }

    /// A value that may lie in pieces, put together if they are whole.
    fn value(&self, key: &[u8], value: Vec<u8>) -> Result<(Seen, Option<Vec<u8>>), StoreError> {
        match unframe(key, value)? {
            Framed::Inline(body) => Ok((Seen::default(), Some(body))),
            Framed::Chunked(chunks) => {
                let (problem, body) = self.pieces(chunks)?;
                Ok((Seen { problem, large: vec![chunks], ..Seen::default() }, body))
            }
        }
    }

    fn pieces(&self, chunks: Chunks) -> Result<(Option<Problem>, Option<Vec<u8>>), StoreError> {
        let body = match self.shared.pieces(chunks) {
            Ok(body) => body,
            Err(StoreError::Damaged { what, reason }) => {
                return Ok((Some(Problem::Pieces { reason: format!("{what}: {reason}") }), None));
            }
            Err(error) => return Err(error),
        };
        let listed = self.shared.get_raw(&free_key(chunks.id))?.is_some();
        Ok((listed.then_some(Problem::ListedToSweep { id: chunks.id }), Some(body)))
    }

    fn pack(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let pack = Pack::decode(key.to_vec(), value)?;
        let mut seen = Seen { end: pack.end().0, large: pack.chunks().collect(), ..Seen::default() };
        for chunks in pack.chunks() {
            seen.and(self.pieces(chunks)?.0);
        }
        for index in 0..pack.len() {
            if pack.erased(index).is_some() {
                seen.erased += 1;
            } else if seen.problem.is_none()
                && let Err(StoreError::Damaged { what, reason }) = pack.event(index, self.shared)
            {
                let position = pack.first.0 + index as u64;
                seen.and(Some(Problem::Damaged { reason: format!("position {position}: {what}: {reason}") }));
            }
        }
        let before = self.shared.scan_raw(&(pack_key(Position(0))..key.to_vec()), Direction::Backward, 1)?.pop();
        if let Some(before) = before.and_then(|(key, value)| Pack::decode(key, value).ok())
            && before.end() > pack.first
        {
            seen.and(Some(Problem::Overlap { before: before.end().0 }));
        }
        Ok(seen)
    }

    fn cursor(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let (listener, cursor) = decode_cursor(key, &unframe_inline(key, value)?)?;
        let (end, to) = (self.horizon.position.0, cursor.done_above().last().map_or(cursor.low(), |range| range.end));
        let problem = (to > end).then_some(Problem::PastEnd { position: to, end });
        Ok(Seen { problem, listener: Some(listener), cursor: Some(cursor), ..Seen::default() })
    }

    /// What is known of a listener.
    fn listener(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let listener = name_of(key)?;
        let (mut seen, body) = self.value(key, value)?;
        if let Some(body) = body {
            decode_json::<ListenerRecord>(key, &body)?;
        }
        let has_cursor = self.shared.get_raw(&named(CURSOR, &listener))?.is_some();
        seen.and((!has_cursor).then_some(Problem::NoCursor { listener }));
        Ok(seen)
    }

    fn scheduled(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let (mut seen, body) = self.value(key, value)?;
        let Some(body) = body else { return Ok(seen) };
        let Scheduled { due, envelope } = decode_scheduled(key, &body)?;
        if envelope.header.metadata.time != due.time {
            seen.and(Some(Problem::Damaged { reason: "it names another time".to_owned() }));
        }
        let place = self.sound(&scheduled_id_key(envelope.header.metadata.id))?;
        seen.and((place.as_deref() != Some(&encode_place(due)[..])).then_some(Problem::Unlinked));
        let next = match self.sound(NEXT_SCHEDULED)? {
            Some(body) => body.try_into().ok().map(u64::from_be_bytes),
            // A damaged one is a finding of its own.
            None => self.shared.get_raw(NEXT_SCHEDULED)?.is_none().then_some(0),
        };
        let next = next.filter(|next| *next <= due.order);
        seen.and(next.map(|next| Problem::OrderNotTaken { order: due.order, next }));
        Ok(seen)
    }

    fn scheduled_id(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let place = scheduled_key(decode_place(key, &unframe_inline(key, value)?)?);
        let stands = match self.shared.get_raw(&place)?.map(|value| self.value(&place, value)) {
            Some(Ok((_, Some(body)))) => decode_scheduled(&place, &body)
                .map_or(true, |one| scheduled_id_key(one.envelope.header.metadata.id) == key),
            // A damaged one is a finding of its own.
            Some(Ok((_, None)) | Err(StoreError::Damaged { .. })) => true,
            Some(Err(error)) => return Err(error),
            None => false,
        };
        Ok(Seen { problem: (!stands).then_some(Problem::Dangling), ..Seen::default() })
    }

    fn remembered(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let (mut seen, body) = self.value(key, value)?;
        let Some(body) = body else { return Ok(seen) };
        let one = decode_remembered(key, &body)?;
        let is_linked = self.sound(&expiry_key(one.until, key))?.is_some_and(|body| body.is_empty());
        seen.and((!is_linked).then_some(Problem::Unlinked));
        Ok(seen)
    }

    fn expiry(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let body = unframe_inline(key, value)?;
        let (until, of) = expiry_of(key)?;
        let stands = match self.shared.get_raw(&of)?.map(|value| self.value(&of, value)) {
            Some(Ok((_, Some(body)))) => decode_remembered(&of, &body).map_or(true, |one| one.until == until),
            // A damaged one is a finding of its own.
            Some(Ok((_, None)) | Err(StoreError::Damaged { .. })) => true,
            Some(Err(error)) => return Err(error),
            None => false,
        };
        let problem = match stands {
            true if body.is_empty() => None,
            true => Some(Problem::Damaged { reason: "it holds something".to_owned() }),
            false => Some(Problem::Dangling),
        };
        Ok(Seen { problem, ..Seen::default() })
    }

    /// The value of `key`, if it is there and whole.
    fn sound(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.shared.get_raw(key)?.and_then(|value| unframe_inline(key, value).ok()))
    }

    /// What is kept for one delivery.
    fn delivery(&self, key: &[u8], value: Vec<u8>) -> Result<Seen, StoreError> {
        let (listener, at) = delivery_of(key)?;
        let kind = key[0];
        let (mut seen, body) = self.value(key, value)?;
        if let Some(body) = body {
            match kind {
                REDELIVERY if decode_json::<Redelivery>(key, &body)?.position != at => {
                    seen.and(Some(Problem::Damaged { reason: "it names another position".to_owned() }));
                }
                SUSPECT => drop(decode_suspect(key, &body)?),
                PARKED => drop(decode_parked(key, &body)?),
                GIVEN_UP => drop(decode_given_up(key, &body)?),
                _ => {}
            }
        }
        let (position, end) = (at.0, self.horizon.position.0);
        let cursor_key = named(CURSOR, &listener);
        let cursor = self
            .shared
            .get_raw(&cursor_key)?
            .map(|value| unframe_inline(&cursor_key, value).and_then(|body| decode_cursor(&cursor_key, &body)));
        let is_parked = kind == PARKED || self.shared.get_raw(&delivery_key(PARKED, &listener, at))?.is_some();
        seen.and(match cursor {
            None => Some(Problem::NoCursor { listener: listener.clone() }),
            // It is a finding of its own.
            Some(Err(_)) => None,
            Some(Ok(_)) if position >= end => Some(Problem::PastEnd { position, end }),
            Some(Ok((_, cursor))) => match (kind, cursor.is_done(position)) {
                (PARKED, false) => Some(Problem::ParkedAndOwed { listener: listener.clone(), position }),
                (REDELIVERY, true) => Some(Problem::Settled { listener: listener.clone(), position }),
                (SUSPECT, true) if !is_parked => Some(Problem::Settled { listener: listener.clone(), position }),
                _ => None,
            },
        });
        seen.listener = Some(listener);
        Ok(seen)
    }
}

/// What is damaged is a finding; other errors are errors.
fn found(looked: Result<Seen, StoreError>) -> Result<Seen, StoreError> {
    match looked {
        Err(StoreError::Damaged { reason, .. }) => Ok(Seen::wrong(Problem::Damaged { reason })),
        looked => looked,
    }
}

/// The entries of `range` in slices, `limit` at a time.
pub(super) fn slice(shared: &Shared, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
    shared.scan_raw(&(from.to_vec()..vec![u8::MAX; 64]), Direction::Forward, limit)
}
