//! What every part of an opened store shares: the engine while there is one, the versions, and the way values are read.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::Limits;
use super::catalogue::Catalogue;
use super::engine::Engine;
use super::layout::{Chunks, Framed, REMEMBERED, SCHEDULED_ID, damaged, frame_chunks, split_row_key, unframe};
use super::read_set::{Readers, Version};
use super::recent::{Conflict, Recent};
use crate::error::{Panicked, StoreError, UnitError};
use crate::key::readable;
use crate::store::retention::Holds;
use crate::store::{Direction, Durability, Position, Row, Upcoming};

/// The engine, or why there is none any more.
enum State {
    Open(Arc<dyn Engine>),
    Poisoned { cause: Arc<StoreError>, engine: Option<Arc<dyn Engine>> },
    Closed,
}

/// What every part of an opened store shares.
pub(super) struct Shared {
    state: RwLock<State>,
    pub(super) catalogue: Catalogue,
    pub(super) recent: Mutex<Recent>,
    pub(super) readers: Arc<Readers>,
    pub(super) versions: Versions,
    pub(super) delivered: watch::Sender<Position>,
    /// What is kept until a time, and reaches it first.
    pub(super) upcoming: watch::Sender<Upcoming>,
    pub(super) pruned: Pruned,
    /// Who holds a part of the log.
    pub(super) holds: Arc<Holds>,
    pub(super) limits: Limits,
    /// Whether one copies it, or an engine follows.
    pub(super) copying: AtomicBool,
}

/// The log positions below which events may be gone. Raised before they are removed.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// Those that are not kept for later listeners.
    done: AtomicU64,
    /// Those that are.
    logged: AtomicU64,
}

impl Pruned {
    pub(super) fn tell(&self, done: Position, logged: Position) {
        self.done.store(done.0, SeqCst);
        self.logged.store(logged.0, SeqCst);
    }

    pub(super) fn to(&self, logged: bool) -> Position {
        Position(if logged { &self.logged } else { &self.done }.load(SeqCst))
    }
}

/// How far commits have come.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Raised before a group is applied.
    applying: AtomicU64,
    /// Raised once it is applied.
    applied: AtomicU64,
    /// Raised once it survives a kill.
    flushed: AtomicU64,
    /// Raised once it survives a power cut.
    synced: AtomicU64,
}

impl Versions {
    /// The version to note before a read.
    pub(super) fn current(&self) -> Version {
        self.applied.load(SeqCst)
    }

    pub(super) fn begin(&self, version: Version) {
        self.applying.store(version, SeqCst);
    }

    pub(super) fn publish(&self, version: Version) {
        self.applied.store(version, SeqCst);
    }

    /// Everything up to `version` survives what `durability` says.
    pub(super) fn settled(&self, version: Version, durability: Durability) {
        if durability >= Durability::Flush {
            self.flushed.fetch_max(version, SeqCst);
        }
        if durability >= Durability::Sync {
            self.synced.fetch_max(version, SeqCst);
        }
    }

    /// Whether nothing at all was committed since `version`, and everything up to it survives what `durability` says.
    pub(super) fn stands(&self, version: Version, durability: Durability) -> bool {
        let durable = match durability {
            Durability::Buffered => version,
            Durability::Flush => self.flushed.load(SeqCst),
            Durability::Sync => self.synced.load(SeqCst),
        };
        durable >= version && self.applying.load(SeqCst) == version
    }
}

impl Shared {
    pub(super) fn new(engine: Arc<dyn Engine>, limits: Limits) -> Self {
        Self {
            state: RwLock::new(State::Open(engine)),
            catalogue: Catalogue::default(),
            recent: Mutex::new(Recent::new(limits.recent_bytes)),
            readers: Arc::default(),
            versions: Versions::default(),
            delivered: watch::Sender::new(Position(0)),
            upcoming: watch::Sender::new(Upcoming::default()),
            pruned: Pruned::default(),
            holds: Arc::default(),
            limits,
            copying: AtomicBool::new(false),
        }
    }

    /// Forgets which keys were written by commits that nobody can have missed: what is open began to read later.
    pub(super) fn forget_writes(&self) {
        // In this order: who begins to read after `oldest` was asked for reads at `applied` at least.
        let applied = self.versions.current();
        let oldest = self.readers.oldest();
        self.recent.lock().forget(oldest.map_or(applied, |oldest| oldest.min(applied)));
    }

    /// The engine, as long as the store may be used.
    pub(super) fn engine(&self) -> Result<Arc<dyn Engine>, StoreError> {
        match &*self.state.read() {
            State::Open(engine) => Ok(engine.clone()),
            State::Poisoned { cause, .. } => Err(StoreError::Poisoned { cause: cause.clone() }),
            State::Closed => Err(StoreError::Closed),
        }
    }

    /// Puts another engine in the place of the one in use, which must hold the same. Only between two groups.
    pub(super) fn replace(&self, engine: Arc<dyn Engine>) -> Result<(), StoreError> {
        let mut state = self.state.write();
        match &mut *state {
            State::Open(used) => {
                let before = std::mem::replace(used, engine);
                drop(state);
                drop(before);
                Ok(())
            }
            State::Poisoned { cause, .. } => Err(StoreError::Poisoned { cause: cause.clone() }),
            State::Closed => Err(StoreError::Closed),
        }
    }

    /// Stops the store for good because of `cause`; the first cause counts.
    pub(super) fn poison(&self, cause: StoreError) {
        let mut state = self.state.write();
        if let State::Open(engine) = &*state {
            *state = State::Poisoned { cause: Arc::new(cause), engine: Some(engine.clone()) };
        }
    }

    pub(super) fn poisoned(&self) -> Option<StoreError> {
        match &*self.state.read() {
            State::Poisoned { cause, .. } => Some((**cause).clone()),
            _ => None,
        }
    }

    /// Gives the engine up; a poisoned store stays poisoned.
    pub(super) fn give_up(&self) {
        let mut state = self.state.write();
        let engine = match &mut *state {
            State::Poisoned { engine, .. } => engine.take(),
            open => match std::mem::replace(open, State::Closed) {
                State::Open(engine) => Some(engine),
                _ => None,
            },
        };
        drop(state);
        // An engine that failed may fail again while it is put away; there is nobody left to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
    }

    /// Asks the engine; a panic of it stops the store.
    fn ask<T>(&self, question: impl FnOnce(&dyn Engine) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let engine = self.engine()?;
        catch_unwind(AssertUnwindSafe(|| question(&*engine))).unwrap_or_else(|panic| {
            let cause = panicked(&*panic);
            self.poison(cause.clone());
            Err(StoreError::Poisoned { cause: Arc::new(cause) })
        })
    }

    /// The framed value of `key`.
    pub(super) fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|engine| engine.get(key))
    }

    /// At most `limit` framed values of `range`.
    pub(super) fn scan_raw(
        &self,
        range: &Range<Vec<u8>>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if range.start >= range.end || limit == 0 {
            return Ok(Vec::new());
        }
        self.ask(|engine| engine.scan(&range.start..&range.end, direction, limit))
    }

    /// The value of `key`, put together if it is in pieces.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut raw = self.get_raw(key)?;
        loop {
            let chunks = match raw.map(|value| unframe(key, value)).transpose()? {
                None => return Ok(None),
                Some(Framed::Inline(value)) => return Ok(Some(value)),
                Some(Framed::Chunked(chunks)) => chunks,
            };
            match self.pieces(chunks) {
                Ok(value) => return Ok(Some(value)),
                Err(error @ StoreError::Damaged { .. }) => {
                    // Its pieces go when it is replaced: only if it still stands is something wrong.
                    let again = self.get_raw(key)?;
                    if again.as_ref().is_some_and(|value| *value == frame_chunks(key, chunks)) {
                        return Err(error);
                    }
                    raw = again;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// At most `limit` values of `range`, put together.
    pub(super) fn scan(
        &self,
        range: &Range<Vec<u8>>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.open_rows(self.scan_raw(range, direction, limit)?)
    }

    /// The values of framed rows, put together; without those that went meanwhile.
    pub(super) fn open_rows(&self, mut rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
        let mut gone = Vec::new();
        for (at, (key, value)) in rows.iter_mut().enumerate() {
            let opened = match unframe(key, std::mem::take(value))? {
                Framed::Inline(value) => Some(value),
                Framed::Chunked(_) => self.get(key)?,
            };
            match opened {
                Some(opened) => *value = opened,
                None => gone.push(at),
            }
        }
        gone.into_iter().rev().for_each(|at| drop(rows.remove(at)));
        Ok(rows)
    }

    /// A large value from its pieces.
    pub(super) fn pieces(&self, chunks: Chunks) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::new();
        for key in chunks.keys() {
            match self.get_raw(&key)?.map(|value| unframe(&key, value)).transpose()? {
                Some(Framed::Inline(piece)) => out.extend_from_slice(&piece),
                _ => return Err(damaged(&key, "it is missing")),
            }
        }
        if out.len() as u64 != chunks.len {
            return Err(damaged(&super::layout::chunk_key(chunks.id, 0), "the pieces do not add up"));
        }
        Ok(out)
    }

    /// The error for reads that no longer stand.
    pub(super) fn conflict(&self, conflict: Conflict) -> UnitError {
        let what = match conflict {
            Conflict::TooOld => "what it read is older than the store remembers".to_owned(),
            Conflict::Written(key) => match split_row_key(&key) {
                Some((table, own)) => {
                    format!("row {} of table `{}` was written", readable(own), self.catalogue.name(table))
                }
                None => match key.first() {
                    Some(&SCHEDULED_ID) => "a scheduled event was taken out".to_owned(),
                    Some(&REMEMBERED) => "an id that it looked up was used".to_owned(),
                    _ => "what it read was written".to_owned(),
                },
            },
        };
        UnitError::Conflict { what }
    }
}

/// Puts `more` behind what is there, without moving it if nothing is there.
pub(super) fn append<T>(out: &mut Vec<T>, more: Vec<T>) {
    if out.is_empty() {
        *out = more;
    } else {
        out.extend(more);
    }
}

/// The error for what an engine panicked with.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> StoreError {
    StoreError::backend("go on after a panic of the storage engine", Panicked::from_payload(payload))
}
