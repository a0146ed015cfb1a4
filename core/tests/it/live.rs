//! A double of a store with live transactions, as one over SQL would be.
//!
//! Rows are written straight into the database, with an undo log beside them; there is one transaction at a time.
//! Everything that would cross a network yields, so that a unit of work meets suspension where an overlay has none.
//! It proves that bus, phases and durable listeners do not depend on units of work being overlays.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::clock::Timestamp;
use aftercommit::error::{Error, StoreError, UnitError};
use aftercommit::event::Envelope;
use aftercommit::store::{
    CommitError, CommitRequest, Cursor, CursorChange, Direction, Due, GivenUp, KeyRange, ListenerRecord, LogEvent,
    Parked, Position, ReadRows, Receipt, Redelivery, Remembered, Row, Rows, Scheduled, Settlement, Store, StoreFuture,
    Suspect, TableSpec, Unit, Upcoming,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard, watch};
use tokio::task::yield_now;
use uuid::Uuid;

use crate::stores::Home;

/// The server: what it holds outlives every connection.
#[derive(Default)]
pub(crate) struct Live(Arc<Mutex<Database>>);

#[derive(Default)]
struct Database {
    tables: BTreeMap<&'static str, Table>,
    /// What the open transaction overwrote, in order.
    undo: Vec<Undo>,
    log: BTreeMap<Position, Arc<Envelope>>,
    listeners: BTreeMap<String, Progress>,
    scheduled: BTreeMap<Due, Envelope>,
    next_scheduled: u64,
    remembered: BTreeMap<(String, Vec<u8>), Remembered>,
    next_parked: u64,
    /// Counts the openings: an earlier connection can do nothing any more.
    opened: u64,
    closed_in_order: bool,
}

#[derive(Default)]
struct Table {
    shape: String,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

struct Undo {
    table: &'static str,
    key: Vec<u8>,
    before: Option<Vec<u8>>,
}

#[derive(Default, Clone)]
struct Progress {
    cursor: Cursor,
    redeliveries: BTreeMap<Position, Redelivery>,
    parked: BTreeMap<Position, (u64, Parked)>,
    suspects: BTreeMap<Position, u32>,
    record: Option<ListenerRecord>,
    given_up: BTreeMap<Position, GivenUp>,
}

impl Home for Live {
    fn open(&self) -> Arc<dyn Store> {
        let mut database = self.0.lock();
        database.undo_to(0);
        database.opened += 1;
        let was_clean = database.opened == 1 || database.closed_in_order;
        database.closed_in_order = false;
        let suspects = database
            .listeners
            .iter()
            .flat_map(|(listener, progress)| {
                progress.suspects.iter().map(|(position, count)| Suspect {
                    listener: listener.clone(),
                    position: *position,
                    count: *count,
                })
            })
            .collect();
        let end = database.end();
        let connection = Connection {
            opened: database.opened,
            database: self.0.clone(),
            delivered: watch::Sender::new(end),
            upcoming: watch::Sender::new(database.upcoming()),
            turn: Arc::new(Gate::new(())),
        };
        Arc::new(LiveStore { connection: Arc::new(connection), claimed: AtomicBool::new(false), was_clean, suspects })
    }
}

impl Database {
    fn end(&self) -> Position {
        self.log.last_key_value().map_or(Position(0), |(position, _)| *position)
    }

    fn upcoming(&self) -> Upcoming {
        Upcoming {
            due: self.scheduled.keys().next().map(|due| due.time),
            expires: self.remembered.values().map(|one| one.until).min(),
        }
    }

    fn table(&mut self, spec: &TableSpec) -> Result<&mut Table, StoreError> {
        let used = (spec.shape)();
        let table =
            self.tables.entry(spec.name).or_insert_with(|| Table { shape: used.clone(), rows: BTreeMap::new() });
        if table.shape != used && !spec.formerly.contains(&table.shape.as_str()) {
            return Err(StoreError::TableMismatch { table: spec.name.to_owned(), held: table.shape.clone(), used });
        }
        Ok(table)
    }

    fn write(&mut self, spec: &TableSpec, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let rows = &mut self.table(spec)?.rows;
        let before = match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(&key),
        };
        self.undo.push(Undo { table: spec.name, key, before });
        Ok(())
    }

    fn undo_to(&mut self, mark: usize) {
        for Undo { table, key, before } in self.undo.drain(mark..).rev() {
            let rows = &mut self.tables.get_mut(table).expect("a table that was written to").rows;
            match before {
                Some(before) => rows.insert(key, before),
                None => rows.remove(&key),
            };
        }
    }

    /// The rows of a table as they were before the open transaction.
    fn committed(&mut self, spec: &TableSpec) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut rows = self.table(spec)?.rows.clone();
        for undo in self.undo.iter().rev().filter(|undo| undo.table == spec.name) {
            match &undo.before {
                Some(before) => rows.insert(undo.key.clone(), before.clone()),
                None => rows.remove(&undo.key),
            };
        }
        Ok(rows)
    }

    /// Takes settlements in, or refuses all of them.
    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), UnitError> {
        let mut listeners = self.listeners.clone();
        let mut next_parked = self.next_parked;
        for Settlement { listener, change } in settlements {
            let settled = |position: &Position| UnitError::AlreadySettled {
                listener: listener.to_string(),
                position: position.0,
            };
            if let CursorChange::Start { from, unasked_below } = change {
                listeners.entry(listener.to_string()).or_insert_with(|| Progress {
                    cursor: Cursor::at(from.0).unasked_below(unasked_below.0),
                    ..Progress::default()
                });
                continue;
            }
            let progress = listeners.get_mut(&**listener);
            match (change, progress) {
                (CursorChange::Done { position, .. } | CursorChange::Resolved { position }, None) => {
                    return Err(settled(position));
                }
                (CursorChange::Park { parked, .. }, None) => return Err(settled(&parked.position)),
                (CursorChange::GiveUp { given_up, .. }, None) => return Err(settled(&given_up.position)),
                (_, None) => {}
                (
                    CursorChange::Done { position, covers }
                    | CursorChange::Park { parked: Parked { position, .. }, covers },
                    Some(progress),
                ) => {
                    if progress.cursor.is_done(position.0) {
                        return Err(settled(position));
                    }
                    progress.cursor.settle(covers.clone());
                    progress.cursor.settle(position.0..position.0 + 1);
                    progress.redeliveries.remove(position);
                    progress.suspects.remove(position);
                    if let CursorChange::Park { parked, .. } = change {
                        progress.parked.insert(*position, (next_parked, parked.clone()));
                        next_parked += 1;
                    }
                }
                (CursorChange::Skip { covers }, Some(progress)) => progress.cursor.settle(covers.clone()),
                (CursorChange::Redeliver(redelivery), Some(progress)) => {
                    if !progress.cursor.is_done(redelivery.position.0) {
                        progress.redeliveries.insert(redelivery.position, redelivery.clone());
                    }
                }
                (CursorChange::StillParked(parked), Some(progress)) => {
                    let (_, held) =
                        progress.parked.get_mut(&parked.position).ok_or_else(|| settled(&parked.position))?;
                    *held = parked.clone();
                }
                (CursorChange::Resolved { position }, Some(progress)) => {
                    progress.parked.remove(position).ok_or_else(|| settled(position))?;
                }
                (CursorChange::Suspect { position, count }, Some(progress)) => {
                    progress.suspects.insert(*position, *count);
                }
                (CursorChange::Cleared { position }, Some(progress)) => {
                    progress.suspects.remove(position);
                }
                (CursorChange::Takes(takes), Some(progress)) => {
                    progress.cursor = progress.cursor.clone().taking(takes.clone());
                }
                (CursorChange::Reset { from, unasked_below }, Some(progress)) => {
                    let takes = Arc::new(progress.cursor.takes().anew());
                    progress.cursor = Cursor::at(from.0).unasked_below(unasked_below.0).taking(takes);
                    progress.parked.keys().for_each(|at| progress.cursor.settle(at.0..at.0 + 1));
                    progress.redeliveries.clear();
                    progress.given_up.retain(|at, _| at < from);
                }
                (CursorChange::Describe(record), Some(progress)) => progress.record = Some(record.clone()),
                (CursorChange::GiveUp { given_up, covers }, Some(progress)) => {
                    let position = given_up.position;
                    if progress.parked.remove(&position).is_none() {
                        if progress.cursor.is_done(position.0) {
                            return Err(settled(&position));
                        }
                        progress.cursor.settle(covers.clone());
                        progress.cursor.settle(position.0..position.0 + 1);
                        progress.redeliveries.remove(&position);
                        progress.suspects.remove(&position);
                    }
                    progress.given_up.insert(position, given_up.clone());
                    if progress.given_up.len() > GivenUp::MOST {
                        progress.given_up.pop_first();
                    }
                }
                (CursorChange::Start { .. }, Some(_)) => unreachable!("taken in above"),
            }
        }
        self.listeners = listeners;
        self.next_parked = next_parked;
        Ok(())
    }
}

/// One opening of the database.
struct Connection {
    database: Arc<Mutex<Database>>,
    opened: u64,
    delivered: watch::Sender<Position>,
    upcoming: watch::Sender<Upcoming>,
    /// Held by the one transaction that is open.
    turn: Arc<Gate<()>>,
}

impl Connection {
    fn with<T>(&self, work: impl FnOnce(&mut Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut database = self.database.lock();
        if database.opened != self.opened || database.closed_in_order {
            return Err(StoreError::Closed);
        }
        work(&mut database)
    }

    async fn asked<T>(&self, work: impl FnOnce(&mut Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        yield_now().await;
        self.with(work)
    }
}

struct LiveStore {
    connection: Arc<Connection>,
    claimed: AtomicBool,
    was_clean: bool,
    suspects: Vec<Suspect>,
}

impl Store for LiveStore {
    fn kind(&self) -> &'static str {
        "live"
    }

    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }

    fn release(&self) {
        self.claimed.store(false, Ordering::SeqCst);
    }

    fn begin(&self) -> StoreFuture<'_, Box<dyn Unit>> {
        async {
            let turn = self.connection.turn.clone().lock_owned().await;
            self.connection.asked(|_| Ok(())).await?;
            let connection = self.connection.clone();
            Ok(Box::new(LiveUnit {
                connection,
                savepoints: Vec::new(),
                added: Vec::new(),
                kept: Kept::default(),
                _turn: turn,
            }) as Box<dyn Unit>)
        }
        .boxed()
    }

    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError> {
        self.connection.with(|_| Ok(()))?;
        Ok(Box::new(LiveReader(self.connection.clone())))
    }

    fn delivered_up_to(&self) -> watch::Receiver<Position> {
        self.connection.delivered.subscribe()
    }

    fn read_log(&self, from: Position, max_events: usize, _max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>> {
        self.connection
            .asked(move |database| {
                let events = database.log.range(from..).take(max_events);
                Ok(events.map(|(at, envelope)| LogEvent { position: *at, envelope: envelope.clone() }).collect())
            })
            .boxed()
    }

    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>> {
        self.connection
            .asked(move |database| {
                let envelope = database.log.get(&position).cloned();
                Ok(envelope.map(|envelope| LogEvent { position, envelope }))
            })
            .boxed()
    }

    fn pruned_to(&self, _logged: bool) -> Position {
        Position(1)
    }

    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>> {
        let cursors = |database: &mut Database| {
            Ok(database.listeners.iter().map(|(id, progress)| (id.clone(), progress.cursor.clone())).collect())
        };
        self.connection.asked(cursors).boxed()
    }

    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>> {
        let listener = listener.to_owned();
        self.connection
            .asked(move |database| {
                let progress = database.listeners.get(&listener);
                Ok(progress.map_or_else(Vec::new, |one| one.redeliveries.values().cloned().collect()))
            })
            .boxed()
    }

    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>> {
        let wanted = listener.map(str::to_owned);
        self.connection
            .asked(move |database| {
                let mut all = Vec::new();
                for (listener, progress) in &database.listeners {
                    if wanted.as_ref().is_none_or(|wanted| wanted == listener) {
                        let mut parked: Vec<_> = progress.parked.values().collect();
                        parked.sort_by_key(|(order, _)| *order);
                        all.extend(parked.into_iter().map(|(_, parked)| parked.clone()));
                    }
                }
                Ok(all)
            })
            .boxed()
    }

    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>> {
        let records = |database: &mut Database| {
            let known = database.listeners.iter();
            Ok(known.filter_map(|(id, progress)| Some((id.clone(), progress.record.clone()?))).collect())
        };
        self.connection.asked(records).boxed()
    }

    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>> {
        let listener = listener.to_owned();
        self.connection
            .asked(move |database| {
                let given_up = database.listeners.get(&listener).map(|one| one.given_up.range(from..).take(limit));
                Ok(given_up.into_iter().flatten().map(|(_, one)| one.clone()).collect())
            })
            .boxed()
    }

    fn upcoming(&self) -> watch::Receiver<Upcoming> {
        self.connection.upcoming.subscribe()
    }

    fn scheduled(&self, from: Due, max_events: usize, _max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>> {
        self.connection
            .asked(move |database| {
                let events = database.scheduled.range(from..).take(max_events);
                Ok(events.map(|(due, envelope)| Scheduled { due: *due, envelope: envelope.clone() }).collect())
            })
            .boxed()
    }

    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>> {
        async { Ok(self.suspects.clone()) }.boxed()
    }

    fn was_clean(&self) -> bool {
        self.was_clean
    }

    fn forget(&self, listener: &str) -> StoreFuture<'_, ()> {
        let listener = listener.to_owned();
        self.connection
            .asked(move |database| {
                database.listeners.remove(&listener);
                Ok(())
            })
            .boxed()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.connection
            .asked(|database| {
                database.closed_in_order = true;
                Ok(())
            })
            .boxed()
    }

    fn poisoned(&self) -> Option<StoreError> {
        None
    }
}

/// A transaction on the server.
struct LiveUnit {
    connection: Arc<Connection>,
    /// How long the undo log and the list of additions were, and what was kept.
    savepoints: Vec<(usize, usize, Kept)>,
    added: Vec<Added>,
    kept: Kept,
    _turn: OwnedMutexGuard<()>,
}

/// What a transaction publishes for later, takes out, remembers and forgets.
#[derive(Default, Clone)]
struct Kept {
    scheduled: Vec<Envelope>,
    unscheduled: Vec<Uuid>,
    remembered: BTreeMap<(String, Vec<u8>), Option<Remembered>>,
}

struct Added {
    table: TableSpec,
    key: Vec<u8>,
    delta: i64,
    floor: Option<i64>,
}

impl Drop for LiveUnit {
    fn drop(&mut self) {
        // A connection that is gone has no transaction to undo.
        let _ = self.connection.with(|database| {
            database.undo_to(0);
            Ok(())
        });
    }
}

impl LiveUnit {
    /// Commits at once what the transaction did.
    fn carry_out(&self, request: CommitRequest) -> Result<Receipt, CommitError> {
        let refused = self.connection.with(|database| {
            if let Err(error) = self.check_floors(database) {
                return Ok(Err(error));
            }
            if let Err(error) = database.settle(&request.settlements) {
                return Ok(Err(error));
            }
            database.undo.clear();
            let positions: Vec<Position> = request
                .events
                .into_iter()
                .map(|envelope| {
                    let position = database.end().next();
                    database.log.insert(position, Arc::new(envelope));
                    position
                })
                .collect();
            let gone = |envelope: &Envelope| self.kept.unscheduled.contains(&envelope.header.metadata.id);
            database.scheduled.retain(|_, envelope| !gone(envelope));
            for envelope in self.kept.scheduled.iter().filter(|envelope| !gone(envelope)) {
                let due = Due { time: envelope.header.metadata.time, order: database.next_scheduled };
                database.next_scheduled += 1;
                database.scheduled.insert(due, envelope.clone());
            }
            for (key, one) in &self.kept.remembered {
                match one {
                    Some(one) => database.remembered.insert(key.clone(), one.clone()),
                    None => database.remembered.remove(key),
                };
            }
            if let Some(last) = positions.last() {
                self.connection.delivered.send_replace(*last);
            }
            let upcoming = database.upcoming();
            self.connection.upcoming.send_if_modified(|known| std::mem::replace(known, upcoming) != upcoming);
            Ok(Ok(Receipt { positions, group: 1 }))
        })?;
        refused.map_err(|error| Error::from(error).into())
    }

    fn check_floors(&self, database: &mut Database) -> Result<(), UnitError> {
        for Added { table, key, floor, .. } in &self.added {
            let Some(floor) = *floor else { continue };
            let ends = database.tables[table.name].rows.get(key).map_or(0, |cell| number(cell));
            if ends < floor {
                let same = |other: &&Added| other.table.name == table.name && other.key == *key;
                let delta: i64 = self.added.iter().filter(same).map(|added| added.delta).sum();
                let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
                let table = table.name.to_owned();
                return Err(UnitError::BelowFloor { table, key, value: ends - delta, delta, floor });
            }
        }
        Ok(())
    }
}

fn number(cell: &[u8]) -> i64 {
    i64::from_be_bytes(cell.try_into().expect("a cell has eight bytes"))
}

fn page(rows: &BTreeMap<Vec<u8>, Vec<u8>>, (from, to): KeyRange, direction: Direction, limit: usize) -> Vec<Row> {
    // A map refuses ranges without room, which a server does not.
    let inside = rows.iter().filter(|(key, _)| {
        use std::ops::RangeBounds;
        (from.clone(), to.clone()).contains(*key)
    });
    let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    match direction {
        Direction::Forward => inside.take(limit).map(owned).collect(),
        Direction::Backward => inside.rev().take(limit).map(owned).collect(),
    }
}

impl ReadRows for LiveUnit {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection.with(|database| Ok(database.table(table)?.rows.get(key).cloned()))
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.connection.with(|database| Ok(page(&database.table(table)?.rows, range, direction, limit)))
    }
}

impl Rows for LiveUnit {
    fn put(&mut self, table: &TableSpec, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.connection.with(|database| database.write(table, key, Some(value)))
    }

    fn remove(&mut self, table: &TableSpec, key: Vec<u8>) -> Result<(), StoreError> {
        self.connection.with(|database| database.write(table, key, None))
    }

    fn add(&mut self, table: &TableSpec, key: Vec<u8>, delta: i64, floor: Option<i64>) -> Result<(), StoreError> {
        self.connection.with(|database| {
            let now = database.table(table)?.rows.get(&key).map_or(0, |cell| number(cell));
            let ends = now.checked_add(delta).ok_or_else(|| StoreError::Overflow {
                table: table.name.to_owned(),
                key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            })?;
            database.write(table, key.clone(), Some(ends.to_be_bytes().to_vec()))
        })?;
        self.added.push(Added { table: *table, key, delta, floor });
        Ok(())
    }
}

impl Unit for LiveUnit {
    fn rows(&mut self) -> Result<&mut dyn Rows, StoreError> {
        Ok(self)
    }

    fn savepoint(&mut self) -> StoreFuture<'_, ()> {
        async {
            yield_now().await;
            let written = self.connection.with(|database| Ok(database.undo.len()))?;
            self.savepoints.push((written, self.added.len(), self.kept.clone()));
            yield_now().await;
            Ok(())
        }
        .boxed()
    }

    fn roll_back_to_savepoint(&mut self) -> StoreFuture<'_, ()> {
        async {
            yield_now().await;
            let (written, added, kept) = self.savepoints.pop().expect("a savepoint to come back to");
            self.kept = kept;
            self.added.truncate(added);
            self.connection.with(|database| {
                database.undo_to(written);
                Ok(())
            })?;
            yield_now().await;
            Ok(())
        }
        .boxed()
    }

    fn release_savepoint(&mut self) -> StoreFuture<'_, ()> {
        async {
            yield_now().await;
            self.savepoints.pop().expect("a savepoint to forget");
            yield_now().await;
            Ok(())
        }
        .boxed()
    }

    fn validate(&mut self) -> BoxFuture<'_, Result<(), CommitError>> {
        // There is no other transaction that could have changed anything.
        async { Ok(self.connection.asked(|_| Ok(())).await?) }.boxed()
    }

    fn schedule(&mut self, envelope: Envelope) {
        self.kept.scheduled.push(envelope);
    }

    fn unschedule(&mut self, event: Uuid) -> StoreFuture<'_, bool> {
        async move {
            yield_now().await;
            let is = |envelope: &Envelope| envelope.header.metadata.id == event;
            let stored = self.connection.with(|database| Ok(database.scheduled.values().any(is)))?;
            let is_there = stored || self.kept.scheduled.iter().any(is);
            let is_there = is_there && !self.kept.unscheduled.contains(&event);
            self.kept.unscheduled.extend(is_there.then_some(event));
            Ok(is_there)
        }
        .boxed()
    }

    fn remembered(&mut self, scope: &str, id: &[u8]) -> StoreFuture<'_, Option<Remembered>> {
        let key = (scope.to_owned(), id.to_vec());
        async move {
            yield_now().await;
            match self.kept.remembered.get(&key) {
                Some(one) => Ok(one.clone()),
                None => self.connection.with(|database| Ok(database.remembered.get(&key).cloned())),
            }
        }
        .boxed()
    }

    fn remember(&mut self, one: Remembered) -> StoreFuture<'_, ()> {
        async move {
            yield_now().await;
            self.kept.remembered.insert((one.scope.clone(), one.id.clone()), Some(one));
            Ok(())
        }
        .boxed()
    }

    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> StoreFuture<'_, usize> {
        async move {
            yield_now().await;
            let mut expired: Vec<_> = self.connection.with(|database| {
                let expired = database.remembered.iter().filter(|(_, one)| one.until <= now);
                Ok(expired.map(|(key, one)| (one.until, key.clone())).collect())
            })?;
            expired.sort();
            expired.truncate(limit);
            let count = expired.len();
            self.kept.remembered.extend(expired.into_iter().map(|(_, key)| (key, None)));
            Ok(count)
        }
        .boxed()
    }

    fn commit(self: Box<Self>, request: CommitRequest) -> BoxFuture<'static, Result<Receipt, CommitError>> {
        async move {
            // All in the first poll, as if the statement had been sent; then the answer travels back.
            let answer = self.carry_out(request);
            drop(self);
            yield_now().await;
            answer
        }
        .boxed()
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        async move {
            yield_now().await;
            drop(self);
            yield_now().await;
            Ok(())
        }
        .boxed()
    }

    fn weight(&self) -> usize {
        // Its writes are on the server.
        0
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Reads what is committed, whatever the open transaction has written.
struct LiveReader(Arc<Connection>);

impl ReadRows for LiveReader {
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.with(|database| Ok(database.committed(table)?.remove(key)))
    }

    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.0.with(|database| Ok(page(&database.committed(table)?, range, direction, limit)))
    }
}
