//! The store port: what the bus needs of the place where an application keeps its data.
//!
//! A [`Store`] begins units of work, keeps the log of stored events, and remembers how far each durable listener has come.
//! A unit of work may be an overlay that is applied at commit (embedded stores) or a live transaction (SQL);
//! both commit rows, events and settlements in one atomic step, or nothing of them.
//!
//! What the store promises: positions ascend in the order in which commits become visible; gaps are legal;
//! nothing is read from the log that a power cut could take back; a settled delivery is never settled again.
//! What it leaves to others: who is owed what, which is decided at publish, and when it is called, which the consumer decides.

mod archive;
mod cursor;
pub mod embedded;
mod listener;
mod retention;
mod takes;
mod waiting;

pub use archive::Archive;
pub(crate) use archive::ArchivedStore;
pub use cursor::Cursor;
pub use listener::{Ending, GivenUp, ListenerRecord, Paused};
pub use retention::{LogHold, Retention};
pub use takes::Takes;
pub use waiting::{Due, Remembered, Scheduled, Upcoming};

use std::any::Any;
use std::ops::{Bound, Range};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{Error, StoreError, UnitError};
use crate::event::Envelope;

/// A place in the log. Ascends in the order in which commits become visible; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Position(pub u64);

impl Position {
    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What a commit survives once it has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Durability {
    /// Handed to the engine; a kill may lose the last moments, in order. Nearest to Kafka's `acks=0`.
    Buffered,
    /// Handed to the operating system: survives a kill of the process, not a power cut. Nearest to Kafka's `acks=1`.
    Flush,
    /// On the disk, as far as the disk honours a sync: survives a power cut. Nearest to Kafka's `acks=all`.
    #[default]
    Sync,
}

/// Answers of the store that may take time.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The place where an application keeps its data, and the bus its log.
pub trait Store: Send + Sync + 'static {
    /// What kind of store this is, for messages.
    fn kind(&self) -> &'static str;

    /// Gives the store to one bus, whose workers must be the only ones on it. Answers `false` while another bus has it.
    fn claim(&self) -> bool;

    /// The bus that had the store is gone.
    fn release(&self);

    /// Begins a unit of work.
    fn begin(&self) -> StoreFuture<'_, Box<dyn Unit>>;

    /// Reads committed rows outside a unit of work. What it sees may not be on the disk yet.
    ///
    /// # Errors
    /// [`StoreError::NoTables`] where the application keeps its rows in SQL.
    fn reader(&self) -> Result<Box<dyn ReadRows>, StoreError>;

    /// The highest log position that may be delivered; rung each time it rises.
    fn delivered_up_to(&self) -> watch::Receiver<Position>;

    /// Events from `from` on, ascending, at most `max_events` and about `max_bytes` (at least one event if there is one).
    /// Never past [`delivered_up_to`](Self::delivered_up_to). An erased event is a gap.
    fn read_log(&self, from: Position, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<LogEvent>>;

    /// As [`read_log`](Self::read_log), of the events that are stored under one of `names`. What others hold need not be looked at, and a
    /// page may be empty although events follow: the next begins where it says.
    fn read_log_of<'a>(
        &'a self,
        names: &'a [String],
        from: Position,
        max_events: usize,
        max_bytes: usize,
    ) -> StoreFuture<'a, LogPage> {
        async move {
            let end = *self.delivered_up_to().borrow();
            let mut events = self.read_log(from, max_events, max_bytes).await?;
            // Nothing is left between here and the end.
            let next = events.last().map_or(from.max(end.next()), |last| last.position.next());
            events.retain(|event| names.contains(&event.envelope.header.name));
            Ok(LogPage { events, next })
        }
        .boxed()
    }

    /// The event at `position`, if the log still holds it and it was not erased.
    fn read_event(&self, position: Position) -> StoreFuture<'_, Option<LogEvent>>;

    /// Below this position events may be missing that were stored: they were pruned. For those that are kept for later
    /// listeners if `logged`, for the others if not. Risen at the latest when [`read_log`](Self::read_log) does not find them any more.
    fn pruned_to(&self, logged: bool) -> Position;

    /// How far each durable listener has come, by listener id.
    fn cursors(&self) -> StoreFuture<'_, Vec<(String, Cursor)>>;

    /// Deliveries of `listener` that failed and wait to be called again, by position.
    fn redeliveries(&self, listener: &str) -> StoreFuture<'_, Vec<Redelivery>>;

    /// Parked events of `listener`, or of all: by listener, then in the order they were parked.
    fn parked(&self, listener: Option<&str>) -> StoreFuture<'_, Vec<Parked>>;

    /// At most `limit` parked events of `listener` from `from` on, by position.
    fn parked_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<Parked>> {
        let all = self.parked(Some(listener));
        Box::pin(async move {
            let mut parked = all.await?;
            parked.retain(|one| one.position >= from);
            parked.sort_by_key(|one| one.position);
            parked.truncate(limit);
            Ok(parked)
        })
    }

    /// What is known of each durable listener beside how far it has come, by listener id.
    fn listener_records(&self) -> StoreFuture<'_, Vec<(String, ListenerRecord)>>;

    /// At most `limit` deliveries of `listener` that were given up for good, from `from` on, by position.
    fn given_up_from(&self, listener: &str, from: Position, limit: usize) -> StoreFuture<'_, Vec<GivenUp>>;

    /// When the first scheduled event is due and the first remembered id is free again; rung when a commit changed it.
    /// Rung after [`delivered_up_to`](Self::delivered_up_to), so that an event that was due is in one of them at every moment.
    fn upcoming(&self) -> watch::Receiver<Upcoming>;

    /// Scheduled events from `from` on, by due time, at most `max_events` and about `max_bytes` (at least one event if there is one).
    fn scheduled(&self, from: Due, max_events: usize, max_bytes: usize) -> StoreFuture<'_, Vec<Scheduled>>;

    /// What was being called when the process last ended without [`close`](Self::close), as far as it was marked.
    fn suspects(&self) -> StoreFuture<'_, Vec<Suspect>>;

    /// Whether the store was closed in good order before it was opened.
    fn was_clean(&self) -> bool;

    /// Forgets a durable listener: its cursor, redeliveries, parked events, and what else is kept for it.
    fn forget(&self, listener: &str) -> StoreFuture<'_, ()>;

    /// Commits what is queued, syncs, marks the store clean and gives it up. Further calls answer [`StoreError::Closed`].
    fn close(&self) -> StoreFuture<'_, ()>;

    /// How many bytes it takes on the disk; `None` if it is on none, or does not know.
    fn size(&self) -> Option<u64> {
        None
    }

    /// The embedded store it is, for what only those can do: retaining, erasing, verifying, copying.
    fn as_embedded(&self) -> Option<&embedded::EmbeddedStore> {
        None
    }

    /// The storage error that stopped the store, if one did.
    fn poisoned(&self) -> Option<StoreError>;
}

/// A unit of work: all of it is committed, or nothing. Dropped without an end, it rolls back.
pub trait Unit: Send {
    /// The rows of an embedded store.
    ///
    /// # Errors
    /// [`StoreError::NoTables`] where the application keeps its rows in SQL.
    fn rows(&mut self) -> Result<&mut dyn Rows, StoreError>;

    /// Marks a place to come back to. Savepoints nest.
    fn savepoint(&mut self) -> StoreFuture<'_, ()>;

    /// Undoes everything since the innermost savepoint, and forgets it.
    fn roll_back_to_savepoint(&mut self) -> StoreFuture<'_, ()>;

    /// Keeps everything since the innermost savepoint, and forgets it.
    fn release_savepoint(&mut self) -> StoreFuture<'_, ()>;

    /// Whether what was read so far still stands.
    ///
    /// # Errors
    /// The conflict, if it does not.
    fn validate(&mut self) -> BoxFuture<'_, Result<(), CommitError>>;

    /// Keeps `envelope` with the commit until the time in its metadata, as the last of those that are due then.
    /// A savepoint undoes it as it does rows.
    fn schedule(&mut self, envelope: Envelope);

    /// Takes the scheduled event with this id out with the commit, and answers whether it is there; noted as read, so that of two
    /// units that take it out one conflicts. A savepoint undoes it.
    fn unschedule(&mut self, event: Uuid) -> StoreFuture<'_, bool>;

    /// What is remembered under `id` of `scope`, also if its time has passed; noted as read, its absence too.
    fn remembered(&mut self, scope: &str, id: &[u8]) -> StoreFuture<'_, Option<Remembered>>;

    /// Remembers an id with the commit, in the place of what is remembered under it. A savepoint undoes it.
    fn remember(&mut self, one: Remembered) -> StoreFuture<'_, ()>;

    /// Forgets, with the commit, at most `limit` of the ids whose time has passed at `now`, the oldest first; answers how many.
    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> StoreFuture<'_, usize>;

    /// Commits rows, events and settlements in one atomic step, and what is scheduled and remembered with them.
    ///
    /// # Cancel safety
    /// Once first polled the outcome no longer depends on the future being driven: dropping it loses only the answer.
    fn commit(self: Box<Self>, request: CommitRequest) -> BoxFuture<'static, Result<Receipt, CommitError>>;

    /// Undoes everything.
    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// About how many bytes of memory the unit's own writes hold.
    fn weight(&self) -> usize;

    /// The unit itself, for what only one store can do.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What a unit of work commits beside its rows.
#[derive(Debug, Default)]
pub struct CommitRequest {
    /// What the commit must survive before it is answered.
    pub durability: Durability,
    /// Events to append to the log, in this order.
    pub events: Vec<Envelope>,
    /// What durable listeners have settled.
    pub settlements: Vec<Settlement>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// The positions of the events, in their order; empty if there were none.
    pub positions: Vec<Position>,
    /// How many units of work were committed at once with this one, itself counted; 0 if the store does not say.
    pub group: usize,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Refused; nothing was stored.
    #[error(transparent)]
    Refused(Error),
    /// The storage failed after the unit was handed over: nobody knows.
    #[error("it is unknown whether the commit was stored")]
    InDoubt(#[source] StoreError),
}

impl CommitError {
    /// The error the caller of a unit of work gets.
    pub fn into_error(self) -> Error {
        match self {
            CommitError::Refused(error) => error,
            CommitError::InDoubt(cause) => UnitError::InDoubt { cause }.into(),
        }
    }
}

impl<T: Into<Error>> From<T> for CommitError {
    fn from(error: T) -> Self {
        CommitError::Refused(error.into())
    }
}

/// Events of the log, and where it goes on behind them.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// Ascending.
    pub events: Vec<LogEvent>,
    /// Everything before it that was asked for is in [`events`](Self::events), or in a page before.
    pub next: Position,
}

/// An event at its place in the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogEvent {
    /// Its place.
    pub position: Position,
    /// The event as stored.
    pub envelope: Arc<Envelope>,
}

/// What became of the erasure of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Erasure {
    /// It is erased.
    Done {
        /// How many parked copies went with it.
        parked: usize,
    },
    /// It was erased before; nothing of it was left.
    Before,
    /// The store does not hold it: it was pruned, or never stored.
    NotStored,
}

/// What became of one delivery, or of several neighbours of it that need none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The durable listener.
    pub listener: Arc<str>,
    /// What happened.
    pub change: CursorChange,
}

/// A step of a durable listener's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorChange {
    /// The listener exists and has settled everything below `from`; does nothing if it has a cursor already.
    Start {
        /// Its first owed position.
        from: Position,
        /// Its condition is still to be asked about what is below.
        unasked_below: Position,
    },
    /// Which events the listener takes from now on, and which it took. Does nothing if it has no cursor.
    Takes(Arc<Takes>),
    /// The listener begins anew at `from`: nothing from there on is settled but what is parked, and nothing waits to be called
    /// again; what it took before and does not take any more is past. Does nothing if it has no cursor.
    Reset {
        /// Its first owed position.
        from: Position,
        /// Its condition is to be asked again about what is below.
        unasked_below: Position,
    },
    /// `position` is done. Refused with [`UnitError::AlreadySettled`] if it was before.
    Done {
        /// What was delivered.
        position: Position,
        /// `position` and its neighbours on both sides that this listener is not owed.
        covers: Range<u64>,
    },
    /// Nothing in `covers` is owed to the listener.
    Skip {
        /// Half open.
        covers: Range<u64>,
    },
    /// `position` failed and will be called again.
    Redeliver(Redelivery),
    /// `position` will not be called again for now; the event is copied out of the log and `position` is done.
    Park {
        /// The copy.
        parked: Parked,
        /// As in `Done`.
        covers: Range<u64>,
    },
    /// A parked event was called again in vain: it stays, with this cause.
    /// Refused with [`UnitError::AlreadySettled`] if it is not parked.
    StillParked(Parked),
    /// A parked event is done and leaves the parked ones. Refused with [`UnitError::AlreadySettled`] if it is not parked.
    Resolved {
        /// Its position in the log.
        position: Position,
    },
    /// The listener is about to be called with `position`, and may take the process with it.
    /// The mark goes when `position` is settled, parked again, or cleared.
    Suspect {
        /// What is delivered.
        position: Position,
        /// How many times in a row the process ended while it was called alone, this one counted; 0 if others are called with it.
        count: u32,
    },
    /// The call marked by `Suspect` came back.
    Cleared {
        /// What was delivered.
        position: Position,
    },
    /// What is known of the listener from now on. Does nothing if it has no cursor.
    Describe(ListenerRecord),
    /// A delivery is given up for good, and a note of it kept: a parked event leaves the parked ones, as by `Resolved`; another is
    /// done, as by `Done`. Refused with [`UnitError::AlreadySettled`] if it is neither parked nor owed.
    GiveUp {
        /// The note.
        given_up: GivenUp,
        /// As in `Done`.
        covers: Range<u64>,
    },
}

/// A delivery that failed and waits to be called again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Redelivery {
    /// What was delivered.
    pub position: Position,
    /// How many calls failed.
    pub attempts: u32,
    /// When it is due.
    pub due: Timestamp,
    /// What the last call answered, with its causes.
    pub error: String,
    /// When the last call failed.
    pub failed_at: Timestamp,
    /// When the first call failed.
    #[serde(default)]
    pub first_failed_at: Timestamp,
    /// How many of the failed calls count for the policy that `kind` names.
    #[serde(default)]
    pub counted: u32,
    /// The kind of error that has a policy of its own, if the last one was of such.
    #[serde(default)]
    pub kind: Option<String>,
}

/// An event that a durable listener will not be called with until somebody resubmits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The durable listener.
    pub listener: String,
    /// The event's place in the log, which may be pruned by now.
    pub position: Position,
    /// How many calls failed; 0 for one parked unhandled behind another of its key.
    pub attempts: u32,
    /// Why: what the last call answered, or behind which position it waits.
    pub cause: ParkedCause,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// When somebody asked, while nobody delivered, that it be called again; it is once its listener runs.
    pub asked: Option<Timestamp>,
    /// The event, copied out of the log.
    pub envelope: Envelope,
}

/// Why an event is parked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ParkedCause {
    /// The last allowed call failed with this text.
    Failed(String),
    /// An earlier event of the same key is parked.
    Behind(Position),
    /// The process ended during the call, this many times in a row.
    Crashed(u32),
    /// The stored event cannot be decoded.
    Undecodable(String),
    /// The listener said so, for this reason.
    Decided(String),
}

impl std::fmt::Display for ParkedCause {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParkedCause::Failed(cause) => write!(out, "its last call failed: {cause}"),
            ParkedCause::Behind(first) => write!(out, "it waits behind log position {} of the same key", first.0),
            ParkedCause::Crashed(times) => write!(out, "the process ended during its call, {times} times in a row"),
            ParkedCause::Decided(reason) => write!(out, "its listener parked it: {reason}"),
            ParkedCause::Undecodable(cause) => write!(out, "it cannot be decoded: {cause}"),
        }
    }
}

/// A delivery during which the process ended, or one that was marked with it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Suspect {
    /// The durable listener.
    pub listener: String,
    /// What was delivered.
    pub position: Position,
    /// How many times in a row while it was called alone.
    pub count: u32,
}

/// A table as its user declares it.
#[derive(Debug, Clone, Copy)]
pub struct TableSpec {
    /// The stored name.
    pub name: &'static str,
    /// What it holds, recorded with the table and checked: for instance `rows(u64 -> Order)`.
    pub shape: fn() -> String,
    /// What it was recorded as before its types were renamed.
    pub formerly: &'static [&'static str],
}

/// Half-open or open-ended range of encoded keys.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Ascending keys.
    #[default]
    Forward,
    /// Descending keys.
    Backward,
}

/// A row as stored: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reads rows.
pub trait ReadRows: Send {
    /// The value of `key`.
    fn get(&mut self, table: &TableSpec, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` rows of `range`, from the end that `direction` names.
    fn scan(
        &mut self,
        table: &TableSpec,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;
}

/// Reads and writes rows within a unit of work, which sees its own writes.
pub trait Rows: ReadRows {
    /// Stores `value` under `key`.
    fn put(&mut self, table: &TableSpec, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError>;

    /// Removes `key`; nothing happens if it is not there.
    fn remove(&mut self, table: &TableSpec, key: Vec<u8>) -> Result<(), StoreError>;

    /// Adds `delta` to the integer cell `key` (8 bytes big-endian; 0 if absent) at commit, without reading it now.
    /// A cell that would end below `floor` refuses the commit; so does one that leaves `i64`.
    fn add(&mut self, table: &TableSpec, key: Vec<u8>, delta: i64, floor: Option<i64>) -> Result<(), StoreError>;
}
