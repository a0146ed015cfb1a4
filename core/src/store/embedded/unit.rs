//! A unit of work on an embedded store: an overlay, what it read, and the hand-over.

use std::any::Any;
use std::collections::HashMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::commit::Request;
use super::layout::{EXPIRY, after, all_of, expiry_key, expiry_of, remembered_key, row_key, rows_of, scheduled_id_key};
use super::overlay::Overlay;
use super::read_set::ReadSet;
use super::schedule::Schedule;
use super::shared::{Shared, append};
use super::store::Hand;
use super::waiting;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::store::{
    CommitError, CommitRequest, Direction, KeyRange, ReadRows, Receipt, Remembered, Row, Rows, StoreFuture, TableSpec,
    Unit,
};

/// A unit of work on an embedded store.
pub(super) struct EmbeddedUnit {
    shared: Arc<Shared>,
    hand: Hand,
    overlay: Overlay,
    reads: ReadSet,
    tables: Tables,
    schedule: Schedule,
}

impl EmbeddedUnit {
    pub(super) fn new(shared: Arc<Shared>, hand: Hand) -> Self {
        Self {
            shared,
            hand,
            overlay: Overlay::default(),
            reads: ReadSet::default(),
            tables: Tables::default(),
            schedule: Schedule::default(),
        }
    }

    /// What stands under `key`, for this unit; noted as read. `what` names it in an error.
    fn read(&mut self, key: &[u8], what: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Self { shared, overlay, reads, .. } = self;
        overlay.get(key, what, || {
            let version = reads.version(&shared.readers, || shared.versions.current());
            let stored = shared.get(key)?;
            reads.point(key, version);
            Ok(stored)
        })
    }
}

impl EmbeddedUnit {
    fn forget_ids(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let range = all_of(EXPIRY).start..expiry_key(Timestamp(now.0.saturating_add(1)), &[]);
        let expired = self.shared.scan_raw(&range, Direction::Forward, limit)?;
        let count = expired.len();
        for (key, _) in expired {
            let (until, remembered) = expiry_of(&key)?;
            // Noted as read: whoever uses the id anew meanwhile keeps it.
            let stands = self.read(&remembered, "remembered")?;
            let stands = stands.map(|body| waiting::decode_remembered(&remembered, &body)).transpose()?;
            if stands.is_some_and(|one| one.until == until) {
                self.overlay.remove(remembered);
            }
            self.overlay.remove(key);
        }
        Ok(count)
    }
}

/// The tables that were used, so that each is looked up once.
#[derive(Default)]
struct Tables(HashMap<(&'static str, usize), u32>);

impl Tables {
    fn id(&mut self, shared: &Shared, spec: &TableSpec) -> Result<u32, StoreError> {
        if let Some(id) = self.0.get(&(spec.name, spec.shape as usize)) {
            return Ok(*id);
        }
        let id = shared.catalogue.id(spec)?;
        self.0.insert((spec.name, spec.shape as usize), id);
        Ok(id)
    }
}

/// The whole keys from `range.0` up to, not including, `range.1`.
fn half_open(table: u32, (from, to): KeyRange) -> Range<Vec<u8>> {
    let all = rows_of(table);
    let start = match from {
        Bound::Included(key) => row_key(table, &key),
        Bound::Excluded(key) => after(&row_key(table, &key)),
        Bound::Unbounded => all.start,
    };
    let end = match to {
        Bound::Included(key) => after(&row_key(table, &key)),
        Bound::Excluded(key) => row_key(table, &key),
        Bound::Unbounded => all.end,
    };
    start..end
}

/// Reads stretches of `range` until `limit` rows came together or there are no more.
///
/// `lay` is given the stored rows of a stretch and the stretch, and answers what is seen of it; it may bring more than `limit`.
fn scan(
    shared: &Shared,
    mut range: Range<Vec<u8>>,
    direction: Direction,
    limit: usize,
    mut lay: impl FnMut(Vec<Row>, Range<Vec<u8>>) -> Result<Vec<Row>, StoreError>,
) -> Result<Vec<Row>, StoreError> {
    let mut out: Vec<Row> = Vec::new();
    while out.len() < limit && range.start < range.end {
        let missing = limit - out.len();
        let stored = shared.scan_raw(&range, direction, missing)?;
        let stretch = match (stored.last(), direction) {
            (Some((last, _)), Direction::Forward) if stored.len() == missing => range.start.clone()..after(last),
            (Some((last, _)), Direction::Backward) if stored.len() == missing => last.clone()..range.end.clone(),
            _ => range.clone(),
        };
        match direction {
            Direction::Forward => range.start = stretch.end.clone(),
            Direction::Backward => range.end = stretch.start.clone(),
        }
        append(&mut out, lay(shared.open_rows(stored)?, stretch)?);
    }
    Ok(out)
}

/// The application's own part of a row's key.
fn own_key(mut row: Row) -> Row {
    row.0.drain(..5);
    row
}

impl ReadRows for EmbeddedUnit {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = row_key(self.tables.id(&self.shared, table)?, key);
        self.read(&key, table.name)
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let wanted = half_open(self.tables.id(&self.shared, table)?, range);
        if limit == 0 || wanted.start >= wanted.end {
            return Ok(Vec::new());
        }
        let version = self.reads.version(&self.shared.readers, || self.shared.versions.current());
        let mut out = scan(&self.shared, wanted.clone(), direction, limit, |stored, stretch| {
            self.overlay.merge(stored, stretch, direction, table.name)
        })?;
        let cut = out.len() >= limit;
        out.truncate(limit);
        let covered = match (out.last(), direction) {
            (Some((last, _)), Direction::Forward) if cut => wanted.start..after(last),
            (Some((last, _)), Direction::Backward) if cut => last.clone()..wanted.end,
            _ => wanted,
        };
        self.reads.range(covered, version);
        Ok(out.into_iter().map(own_key).collect())
    }
}

impl Rows for EmbeddedUnit {
    fn put(&mut self, table: &TableSpec, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let id = self.tables.id(&self.shared, table)?;
        self.overlay.put(row_key(id, &key), value);
        Ok(())
    }

    fn remove(&mut self, table: &TableSpec, key: Vec<u8>) -> Result<(), StoreError> {
        let id = self.tables.id(&self.shared, table)?;
        self.overlay.remove(row_key(id, &key));
        Ok(())
    }

    fn add(&mut self, table: &TableSpec, key: Vec<u8>, delta: i64, floor: Option<i64>) -> Result<(), StoreError> {
        let key = row_key(self.tables.id(&self.shared, table)?, &key);
        self.overlay.add(key.clone(), delta, floor).map_err(|error| error.into_store(table.name, &key))
    }
}

impl Unit for EmbeddedUnit {
    fn rows(&mut self) -> Result<&mut dyn Rows, StoreError> {
        Ok(self)
    }

    fn savepoint(&mut self) -> StoreFuture<'_, ()> {
        self.overlay.savepoint();
        self.schedule.savepoint();
        async { Ok(()) }.boxed()
    }

    fn roll_back_to_savepoint(&mut self) -> StoreFuture<'_, ()> {
        self.overlay.roll_back_to_savepoint();
        self.schedule.roll_back_to_savepoint();
        async { Ok(()) }.boxed()
    }

    fn release_savepoint(&mut self) -> StoreFuture<'_, ()> {
        self.overlay.release_savepoint();
        self.schedule.release_savepoint();
        async { Ok(()) }.boxed()
    }

    fn validate(&mut self) -> BoxFuture<'_, Result<(), CommitError>> {
        async {
            self.shared.engine()?;
            let checked = self.shared.recent.lock().check(&self.reads);
            Ok(checked.map_err(|conflict| self.shared.conflict(conflict))?)
        }
        .boxed()
    }

    fn schedule(&mut self, envelope: Envelope) {
        self.schedule.add(envelope);
    }

    fn unschedule(&mut self, event: Uuid) -> StoreFuture<'_, bool> {
        let unscheduled = match self.schedule.has(event) {
            Some(is_there) => Ok(is_there),
            None => self.read(&scheduled_id_key(event), "scheduled").map(|stored| stored.is_some()),
        };
        if let Ok(true) = unscheduled {
            self.schedule.take(event);
        }
        std::future::ready(unscheduled).boxed()
    }

    fn remembered(&mut self, scope: &str, id: &[u8]) -> StoreFuture<'_, Option<Remembered>> {
        let key = remembered_key(scope, id);
        let read = self.read(&key, "remembered");
        let read = read.and_then(|body| body.map(|body| waiting::decode_remembered(&key, &body)).transpose());
        std::future::ready(read).boxed()
    }

    fn remember(&mut self, one: Remembered) -> StoreFuture<'_, ()> {
        let key = remembered_key(&one.scope, &one.id);
        let before = self.read(&key, "remembered");
        let before = before.and_then(|body| body.map(|body| waiting::decode_remembered(&key, &body)).transpose());
        let remembered = before.map(|before| {
            if let Some(before) = before {
                self.overlay.remove(expiry_key(before.until, &key));
            }
            self.overlay.put(expiry_key(one.until, &key), Vec::new());
            self.overlay.put(key, waiting::encode_remembered(&one));
        });
        std::future::ready(remembered).boxed()
    }

    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> StoreFuture<'_, usize> {
        std::future::ready(self.forget_ids(now, limit)).boxed()
    }

    fn commit(self: Box<Self>, request: CommitRequest) -> BoxFuture<'static, Result<Receipt, CommitError>> {
        async move {
            let Self { shared, hand, overlay, reads, schedule, .. } = *self;
            let changes = overlay.into_changes();
            let (scheduled, unscheduled) = schedule.into_changes();
            let is_scheduling = !scheduled.is_empty() || !unscheduled.is_empty();
            if changes.is_empty() && request.events.is_empty() && request.settlements.is_empty() && !is_scheduling {
                shared.engine()?;
                // It only read. If nothing was committed since, and what it read will last, there is nothing to wait for.
                let stands = match reads.span() {
                    None => true,
                    Some((low, high)) => low == high && shared.versions.stands(low, request.durability),
                };
                if stands {
                    return Ok(Receipt::default());
                }
            }
            drop(shared);
            hand.commit(Request { changes, reads, scheduled, unscheduled, commit: request }).await
        }
        .boxed()
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn weight(&self) -> usize {
        self.overlay.weight() + self.schedule.weight()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Reads committed rows outside a unit of work.
pub(super) struct CommittedRows {
    shared: Arc<Shared>,
    tables: Tables,
}

impl CommittedRows {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tables: Tables::default() }
    }
}

impl ReadRows for CommittedRows {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = row_key(self.tables.id(&self.shared, table)?, key);
        self.shared.get(&key)
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let range = half_open(self.tables.id(&self.shared, table)?, range);
        let mut out = scan(&self.shared, range, direction, limit, |stored, _| Ok(stored))?;
        out.truncate(limit);
        Ok(out.into_iter().map(own_key).collect())
    }
}
