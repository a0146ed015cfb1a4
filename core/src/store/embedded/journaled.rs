//! An engine behind a journal: what is applied is durable once it is in the journal, and reaches the engine later.
//!
//! Batches are taken into memory, where readers see them over what the engine holds, and into the [`Journal`], which is what a
//! sync syncs. When as much has gathered as the engine may take between two full syncs, it is frozen, and a thread hands it to
//! the engine as one batch and syncs the engine, while further batches gather in the journal's other area.
//!
//! # Why nothing is lost or applied over something newer
//! Each batch handed to the engine carries the number of the last journal record in it, so that the engine itself says how far it
//! is; the engine takes a batch whole or not at all, and a crash leaves it at one of those batches, or at none older than the last
//! that was synced. At opening, records above that number are applied in order; those up to it are skipped. An area is written
//! anew only after the engine was synced with everything that is in it. Records hold values, not changes, so that a crash while
//! they are applied changes nothing.
//!
//! It repairs no engine: one that loses what it synced is told from the journal only as long as the records lie there.

use std::ops::{Bound, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, RwLock};

use super::Limits;
use super::engine::{Batch, Engine};
use super::journal::{self, Journal, Record};
use super::layout::{ABSORBED, CHUNK, LOG, after, damaged, frame, unframe_inline};
use super::shared::{append, panicked};
use crate::error::StoreError;
use crate::store::{Direction, Durability, Row};

/// How many entries a scan copies at first of what lies above the engine.
const FEW: usize = 2;

/// An engine behind a journal.
///
/// Dropped, it hands the engine what it has gathered; should that fail, it lies in the journal.
pub struct Journaled {
    writer: Mutex<Writer>,
    below: Arc<Below>,
    limits: Limits,
    thread: Option<JoinHandle<()>>,
}

/// What the committing thread alone uses.
struct Writer {
    journal: Journal,
    /// About how many bytes have gathered in memory since the last were frozen.
    gathered: usize,
}

/// What the thread behind shares with everybody.
struct Below {
    engine: Arc<dyn Engine>,
    layers: RwLock<Layers>,
    duty: Mutex<Duty>,
    bell: Condvar,
}

/// What the engine may not have yet.
#[derive(Default)]
struct Layers {
    recent: Batch,
    /// Older, and on its way into the engine.
    frozen: Arc<Batch>,
}

/// What the thread behind has to do.
enum Duty {
    Nothing,
    /// Hand what is frozen to the engine.
    Absorb,
    End,
    Failed(StoreError),
}

impl Journaled {
    /// Makes an empty journal at `path` for `engine`, on the disk but for its folder.
    ///
    /// # Errors
    /// The engine's, and a file that cannot be made.
    pub fn create(engine: &dyn Engine, path: &Path) -> Result<(), StoreError> {
        Journal::create(path, 0)?;
        absorb(engine, Batch::new(), 0)
    }

    /// Opens the journal at `path` and hands `engine` what it lacks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], if something that was synced is not whole; the engine's; a file that cannot be read or written;
    /// a thread that cannot be started.
    pub fn open(engine: Arc<dyn Engine>, path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let absorbed = engine.get(ABSORBED)?.ok_or_else(|| damaged(ABSORBED, "it is missing"))?;
        let absorbed = unframe_inline(ABSORBED, absorbed)?;
        let absorbed = absorbed.try_into().map_err(|_| damaged(ABSORBED, "it is no number"))?;
        let absorbed = u64::from_be_bytes(absorbed);
        let records = journal::read(path, absorbed)?;
        let last = records.last().map_or(absorbed, |record| record.number);
        replay(&*engine, records, &limits)?;
        let journal = Journal::replace(path, last)?;
        let below = Below { engine, layers: RwLock::default(), duty: Mutex::new(Duty::Nothing), bell: Condvar::new() };
        let below = Arc::new(below);
        let behind = below.clone();
        let thread = std::thread::Builder::new()
            .name("aftercommit-engine".to_owned())
            .spawn(move || behind.run())
            .map_err(|cause| StoreError::backend("start the thread behind the journal", cause))?;
        let writer = Mutex::new(Writer { journal, gathered: 0 });
        Ok(Self { writer, below, limits, thread: Some(thread) })
    }

    /// Freezes what has gathered and has it handed to the engine, after what was frozen before.
    fn freeze(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let mut duty = self.below.wait()?;
        // Before anything that follows it can be synced.
        writer.journal.turn()?;
        writer.gathered = 0;
        let (number, value) = absorbed(writer.journal.last());
        let mut layers = self.below.layers.write();
        let mut frozen = std::mem::take(&mut layers.recent);
        frozen.insert(number, value);
        layers.frozen = Arc::new(frozen);
        *duty = Duty::Absorb;
        self.below.bell.notify_all();
        Ok(())
    }

    /// Hands the engine a batch that no area can hold, and waits for it.
    fn pass(&self, writer: &mut Writer, batch: Batch) -> Result<(), StoreError> {
        self.freeze(writer)?;
        let _idle = self.below.wait()?;
        writer.journal.pass();
        absorb(&*self.below.engine, batch, writer.journal.last())
    }
}

impl Engine for Journaled {
    fn kind(&self) -> &'static str {
        self.below.engine.kind()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.below.layers.read().get(key) {
            return Ok(value.clone());
        }
        self.below.engine.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut out = Vec::new();
        let mut range = range.start.to_vec()..range.end.to_vec();
        // What lies above is copied little by little: a walk may end long before the next of it.
        let mut some = FEW;
        while out.len() < limit && range.start < range.end {
            let missing = limit - out.len();
            // First what lies above: it sinks into the engine, and never rises.
            let above = self.below.layers.read().scan(&range.start..&range.end, direction, some.min(missing));
            let last = above.last().filter(|_| above.len() == some.min(missing)).map(|(key, _)| key.clone());
            let (stretch, rest) = split(range, last, direction);
            let mut below = self.below.engine.scan(
                &stretch.start..&stretch.end,
                direction,
                // Each row above hides one below at most.
                missing.saturating_add(above.len()),
            )?;
            let is_enough = |(first, _): &(Vec<u8>, _)| match below.get(missing - 1) {
                Some((last, _)) if direction == Direction::Forward => last < first,
                Some((last, _)) => last > first,
                None => false,
            };
            if above.first().is_none_or(is_enough) {
                below.truncate(missing);
                append(&mut out, below);
            } else {
                let below = below.into_iter().map(|(key, value)| (key, Some(value)));
                let rows = merge(above.into_iter(), below, direction).filter_map(|(key, value)| Some((key, value?)));
                out.extend(rows.take(missing));
            }
            range = rest;
            some = some.saturating_mul(8);
        }
        Ok(out)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let writer = &mut *self.writer.lock();
        self.below.check()?;
        if journal::size(&batch) > journal::AREA {
            return self.pass(writer, batch);
        }
        let bytes = cost(&batch, &self.limits);
        let full = writer.gathered > 0 && writer.gathered + bytes > self.limits.group_bytes;
        // Rather a little early than so late that commits wait.
        let worth = writer.gathered >= self.limits.group_bytes / 2 && self.below.is_idle();
        if full || worth || !writer.journal.has_room_for(&batch) {
            self.freeze(writer)?;
        }
        writer.gathered += bytes;
        writer.journal.add(&batch);
        self.below.layers.write().recent.extend(batch);
        Ok(())
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        self.below.check()?;
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Flush => self.writer.lock().journal.write(),
            Durability::Sync => {
                let unsynced = self.writer.lock().journal.unsynced()?;
                if let Some(unsynced) = unsynced {
                    // Further batches are taken meanwhile.
                    let upto = unsynced.sync()?;
                    self.writer.lock().journal.synced(upto);
                }
                Ok(())
            }
        }
    }

    fn size(&self) -> Option<u64> {
        Some(self.below.engine.size()? + 2 * journal::AREA as u64)
    }
}

impl Drop for Journaled {
    fn drop(&mut self) {
        let writer = &mut *self.writer.lock();
        if writer.gathered > 0 && !std::thread::panicking() {
            // What fails lies in the journal, and is found there at the next opening.
            let _ = self.freeze(writer);
        }
        if let Ok(mut duty) = self.below.wait() {
            *duty = Duty::End;
            self.below.bell.notify_all();
        }
        // It has told of its own panic.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Below {
    /// The duty once there is none.
    fn wait(&self) -> Result<parking_lot::MutexGuard<'_, Duty>, StoreError> {
        let mut duty = self.duty.lock();
        while let Duty::Absorb = &*duty {
            self.bell.wait(&mut duty);
        }
        match &*duty {
            Duty::Failed(error) => Err(error.clone()),
            _ => Ok(duty),
        }
    }

    /// Whether the engine has all that was handed to it.
    fn is_idle(&self) -> bool {
        matches!(&*self.duty.lock(), Duty::Nothing)
    }

    /// Whether all went well so far.
    fn check(&self) -> Result<(), StoreError> {
        match &*self.duty.lock() {
            Duty::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn run(&self) {
        let mut duty = self.duty.lock();
        loop {
            match *duty {
                Duty::Nothing => self.bell.wait(&mut duty),
                Duty::End | Duty::Failed(_) => return,
                Duty::Absorb => {
                    let done = parking_lot::MutexGuard::unlocked(&mut duty, || self.absorb_frozen());
                    *duty = match done {
                        Ok(()) => Duty::Nothing,
                        Err(error) => Duty::Failed(error),
                    };
                    self.bell.notify_all();
                }
            }
        }
    }

    fn absorb_frozen(&self) -> Result<(), StoreError> {
        let frozen = self.layers.read().frozen.clone();
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.engine.apply_shared(&frozen)?;
            self.engine.sync(Durability::Sync)
        }));
        done.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        // Many rows: they are dropped here, and not while others wait for the layers.
        let _gone = std::mem::take(&mut self.layers.write().frozen);
        Ok(())
    }
}

impl Layers {
    /// What `key` was last set to, if it was.
    fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.recent.get(key).or_else(|| self.frozen.get(key))
    }

    /// At most `limit` entries of `range`, removals among them.
    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let bounds = (Bound::Included(range.start), Bound::Excluded(range.end));
        let (recent, frozen) = (self.recent.range::<[u8], _>(bounds), self.frozen.range::<[u8], _>(bounds));
        let owned = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| (key.clone(), value.clone());
        match direction {
            Direction::Forward => merge(recent, frozen, direction).take(limit).map(owned).collect(),
            Direction::Backward => merge(recent.rev(), frozen.rev(), direction).take(limit).map(owned).collect(),
        }
    }
}

/// What of `range` lies up to `last` in a direction, with it, and what lies behind it; all of it, and nothing, without a last one.
fn split(range: Range<Vec<u8>>, last: Option<Vec<u8>>, direction: Direction) -> (Range<Vec<u8>>, Range<Vec<u8>>) {
    match (last, direction) {
        (None, _) => (range, Vec::new()..Vec::new()),
        (Some(last), Direction::Forward) => {
            let end = after(&last);
            (range.start..end.clone(), end..range.end)
        }
        (Some(last), Direction::Backward) => (last.clone()..range.end, range.start..last),
    }
}

/// Both in order; of two with the same key, the one above.
fn merge<K: Ord, V>(
    above: impl Iterator<Item = (K, V)>,
    below: impl Iterator<Item = (K, V)>,
    direction: Direction,
) -> impl Iterator<Item = (K, V)> {
    let (mut above, mut below) = (above.peekable(), below.peekable());
    std::iter::from_fn(move || {
        let order = match (above.peek(), below.peek()) {
            (Some((above, _)), Some((below, _))) if direction == Direction::Forward => above.cmp(below),
            (Some((above, _)), Some((below, _))) => below.cmp(above),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => above.next(),
            std::cmp::Ordering::Greater => below.next(),
            std::cmp::Ordering::Equal => below.next().and(above.next()),
        }
    })
}

/// Hands the engine what lies in records, with no more between two full syncs than it bears.
fn replay(engine: &dyn Engine, records: Vec<Record>, limits: &Limits) -> Result<(), StoreError> {
    let mut gathered = Batch::new();
    let (mut bytes, mut upto) = (0, 0);
    for Record { number, batch } in records {
        let more = cost(&batch, limits);
        if bytes > 0 && bytes + more > limits.group_bytes {
            absorb(engine, std::mem::take(&mut gathered), upto)?;
            bytes = 0;
        }
        gathered.extend(batch);
        (bytes, upto) = (bytes + more, number);
    }
    if bytes > 0 { absorb(engine, gathered, upto) } else { Ok(()) }
}

/// Hands the engine a batch that reaches up to the record `upto`, and syncs it.
fn absorb(engine: &dyn Engine, mut batch: Batch, upto: u64) -> Result<(), StoreError> {
    let (number, value) = absorbed(upto);
    batch.insert(number, value);
    engine.apply(batch)?;
    engine.sync(Durability::Sync)
}

/// The entry that says that an engine has everything up to the record `upto`.
fn absorbed(upto: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    (ABSORBED.to_vec(), Some(frame(ABSORBED, &upto.to_be_bytes())))
}

/// About by how much a batch makes the engine's log grow: a removed pack or piece as much as one that is written.
fn cost(batch: &Batch, limits: &Limits) -> usize {
    let entry = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| match (value, key.first()) {
        (Some(value), _) => limits.cost(key.len() + value.len()),
        (None, Some(&LOG)) => limits.cost(limits.pack_bytes),
        (None, Some(&CHUNK)) => limits.cost(limits.chunk_bytes),
        (None, _) => limits.cost(key.len()),
    };
    batch.iter().map(entry).sum()
}
