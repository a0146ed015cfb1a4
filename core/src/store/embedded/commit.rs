//! Group commit: the pure logic of turning many requests into one batch.
//!
//! Requests of a group are taken in order; each sees what those before it wrote. One that is refused leaves no trace.
//! What is accepted is applied at once, synced once, and only then answered. An error of the engine from there on leaves
//! every accepted request in doubt and stops the store.

mod erase;
mod retain;
mod schedule;
mod turn;

use schedule::Leaving;
pub(super) use turn::{Horizon, Task};

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use uuid::Uuid;

use super::Limits;
use super::apply::Applier;
pub(super) use super::apply::Syncing;
use super::group::{Group, Write};
use super::layout::{
    CHUNK, CLEAN, Chunks, FREE, Framed, LOG_ENDS, LogEnds, NEXT_SCHEDULED, all_of, chunk_id, chunk_key, frame,
    frame_chunks, free_key, pack_key, split_row_key, unframe,
};
use super::log::{Packed, Stay, end_of_log, fits_inline};
use super::overlay::{CellError, Change};
use super::progress::{Progress, Refused};
use super::prune::Pruner;
use super::read_set::{ReadSet, Version};
use super::shared::{Shared, panicked};
use super::waiting;
use crate::clock::Clock;
use crate::error::{Error, StoreError, UnitError};
use crate::event::Envelope;
use crate::store::{
    CommitError, CommitRequest, CursorChange, Direction, Durability, Position, Receipt, Retention, Settlement,
};

/// A unit of work handed over for commit. Plain data: no code of the user is inside.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) changes: BTreeMap<Vec<u8>, Change>,
    pub(super) reads: ReadSet,
    /// Events to be kept until they are due.
    pub(super) scheduled: Vec<Envelope>,
    /// Scheduled events that leave.
    pub(super) unscheduled: Vec<Uuid>,
    pub(super) commit: CommitRequest,
}

impl Request {
    /// About how many bytes it writes.
    pub(super) fn weight(&self, limits: &Limits) -> usize {
        let rows: usize = self.changes.iter().map(|(key, change)| limits.cost(key.len() + change.weight())).sum();
        // Cursors are merged, so that most settlements write nothing of their own.
        let parked = |settlement: &Settlement| match &settlement.change {
            CursorChange::Park { parked, .. } | CursorChange::StillParked(parked) => parked.envelope.weight(),
            CursorChange::GiveUp { given_up, .. } => 256 + given_up.reason.len(),
            _ => 64,
        };
        let scheduled: usize = self.scheduled.iter().map(|one| limits.cost(one.weight()) + limits.cost(0)).sum();
        rows + scheduled
            + 2 * limits.cost(0) * self.unscheduled.len()
            + self.commit.events.iter().map(Envelope::weight).sum::<usize>()
            + self.commit.settlements.iter().map(parked).sum::<usize>()
    }
}

/// An event in its stored form.
fn encode(envelope: &Envelope) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(envelope.weight() + 32);
    envelope.encode(&mut encoded);
    encoded
}

/// What became of a request.
pub(super) type Answer = Result<Receipt, CommitError>;

/// A group that takes requests in, with the answers they will get if all goes well.
pub(super) struct Open {
    group: Group,
    answers: Vec<Answer>,
    /// The position of its first event.
    first: Position,
    first_scheduled: u64,
    /// Why nothing can be taken in.
    broken: Option<StoreError>,
}

/// A group that the engine has, and that is not answered yet.
pub(super) struct Applied {
    answers: Vec<Answer>,
    /// The last position given out so far.
    last: Position,
    waiting_changed: bool,
    /// What must be synced before it is answered.
    pub(super) owed: Option<Durability>,
}

/// The least that is pruned in a step.
const PRUNE_STEP: usize = 64 * 1024;

/// Commits groups of requests; owned by the one that commits.
pub(super) struct CommitCore {
    shared: Arc<Shared>,
    progress: Progress,
    pruner: Pruner,
    /// What is retained in the log, by which clock; everything, until it is told.
    retaining: Option<(Retention, Arc<dyn Clock>)>,
    version: Version,
    next_position: Position,
    /// How many bytes of the log were ever written.
    log_bytes: u64,
    next_chunk: u64,
    next_scheduled: u64,
    applier: Applier,
}

impl CommitCore {
    /// Takes up what is stored.
    pub(super) fn load(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let ends = shared.get(LOG_ENDS)?.map(|body| LogEnds::decode(&body)).transpose()?;
        let LogEnds { next, pruned, pruned_logged } = ends.unwrap_or_default();
        let last_id = |kind| {
            let last = shared.scan_raw(&all_of(kind), Direction::Backward, 1)?.pop();
            Ok::<_, StoreError>(last.and_then(|(key, _)| chunk_id(&key)).unwrap_or(0))
        };
        let next_chunk = last_id(CHUNK)?.max(last_id(FREE)?) + 1;
        let (end, log_bytes) = end_of_log(&shared)?;
        let next_position = end.max(next);
        let progress = Progress::load(&shared)?;
        let pruner = Pruner::load(&shared, pruned, pruned_logged)?;
        shared.pruned.tell(pruned, pruned_logged);
        shared.upcoming.send_replace(waiting::upcoming(&shared)?);
        Ok(Self {
            next_scheduled: schedule::next(&shared)?,
            applier: Applier::new(shared.clone()),
            progress,
            pruner,
            retaining: None,
            version: 0,
            next_position,
            log_bytes,
            next_chunk,
            shared,
        })
    }

    /// The last position given out.
    pub(super) fn last_position(&self) -> Position {
        Position(self.next_position.0 - 1)
    }

    /// Commits a request in the caller's own turn.
    pub(super) fn commit(&mut self, request: Request) -> Answer {
        let mut open = self.open();
        self.take_in(&mut open, request);
        let applied = self.apply(open);
        let synced = applied.owed.map_or(Ok(()), |durability| self.sync(durability));
        self.answers(applied, synced).pop().unwrap_or_else(|| Err(StoreError::Closed.into()))
    }

    /// A group to take requests in.
    pub(super) fn open(&self) -> Open {
        self.shared.forget_writes();
        Open {
            group: self.group(),
            answers: Vec::new(),
            first: self.next_position,
            first_scheduled: self.next_scheduled,
            broken: self.shared.engine().err(),
        }
    }

    /// Decides about a request, as one behind all that were taken in before.
    pub(super) fn take_in(&mut self, open: &mut Open, request: Request) {
        let durability = request.commit.durability;
        let admitted = match &open.broken {
            Some(error) => Err(error.clone().into()),
            None => catch_unwind(AssertUnwindSafe(|| self.admit(&mut open.group, request))).unwrap_or_else(|panic| {
                // Nothing was handed to the engine yet, but what is known in memory may be half of the truth.
                let error = self.stop(panicked(&*panic));
                open.broken = Some(error.clone());
                Err(error.into())
            }),
        };
        if admitted.is_ok() {
            open.group.durability = open.group.durability.max(durability);
        }
        open.answers.push(admitted);
    }

    /// Hands a group to the engine. Its requests are to be answered once what it owes is synced.
    pub(super) fn apply(&mut self, open: Open) -> Applied {
        let Open { group, mut answers, first, first_scheduled, broken } = open;
        let prepared = match broken.or_else(|| self.shared.engine().err()) {
            Some(error) => Err(error),
            None => catch_unwind(AssertUnwindSafe(|| self.seal(group, first, first_scheduled)))
                .map_err(|panic| self.stop(panicked(&*panic))),
        };
        let mut waiting_changed = false;
        let owed = match prepared {
            // Nothing of it was handed over.
            Err(error) => {
                answers.iter_mut().for_each(|answer| *answer = Err(error.clone().into()));
                None
            }
            Ok(group) => {
                waiting_changed = schedule::changes_in(&group.batch);
                let applied = self.guarded(|applier| applier.apply(group));
                applied.unwrap_or_else(|error| {
                    doubt(&mut answers, &error);
                    None
                })
            }
        };
        Applied { answers, last: self.last_position(), waiting_changed, owed }
    }

    /// Syncs everything applied so far.
    pub(super) fn sync(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.guarded(|applier| applier.sync(durability))
    }

    /// What a sync of everything applied so far takes, for another thread to do while further groups are applied.
    pub(super) fn hand_over(&mut self, durability: Durability) -> Result<Syncing, StoreError> {
        self.applier.hand_over(durability)
    }

    /// The answers to the requests of a group, now that what it owed is synced, or is not.
    pub(super) fn answers(&mut self, applied: Applied, synced: Result<(), StoreError>) -> Vec<Answer> {
        let Applied { mut answers, last, waiting_changed, .. } = applied;
        if let Err(error) = synced {
            self.stop(error.clone());
            doubt(&mut answers, &error);
        }
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        answers.iter_mut().flatten().for_each(|receipt| receipt.group = accepted);
        // Before anybody is answered, so that who has committed finds its events in the log.
        self.ring(last);
        if waiting_changed {
            self.ring_upcoming();
        }
        answers
    }

    /// Lets the readers of the log go on to what was committed, up to `last`.
    pub(super) fn ring(&self, last: Position) {
        if self.shared.engine().is_ok() {
            self.shared.delivered.send_if_modified(|delivered| {
                let risen = *delivered < last;
                *delivered = last.max(*delivered);
                risen
            });
        }
    }

    /// Says what is due next, after a commit that may have changed it.
    fn ring_upcoming(&mut self) {
        // Who cannot read it is told so by whatever it asks next.
        if let Ok(upcoming) = waiting::upcoming(&self.shared) {
            self.shared.upcoming.send_if_modified(|known| std::mem::replace(known, upcoming) != upcoming);
        }
    }

    /// Removes some of what nobody needs, and says whether there is more of it.
    pub(super) fn prune(&mut self) -> bool {
        if self.shared.engine().is_err() {
            return false;
        }
        let Open { group, first, first_scheduled, .. } = self.open();
        match catch_unwind(AssertUnwindSafe(|| self.seal(group, first, first_scheduled))) {
            Ok(group) if group.batch.is_empty() => false,
            Ok(group) => {
                let more = group.more;
                self.carry_out(group).is_ok() && more
            }
            Err(panic) => {
                self.stop(panicked(&*panic));
                false
            }
        }
    }

    /// Forgets a durable listener.
    pub(super) fn forget(&mut self, listener: &str) -> Result<(), StoreError> {
        self.shared.engine()?;
        let (parked, small) = self.progress.kept_for(listener);
        let step = self.shared.limits.group_bytes / 2 / self.shared.limits.entry_bytes.max(1);
        for keys in parked.chunks(step.max(1)) {
            let mut group = self.group();
            for key in keys {
                let write = Write { key: key.clone(), value: None, old: self.old_pieces(&group, key)? };
                self.write(&mut group, write);
            }
            self.carry_out(group)?;
        }
        // The cursor stands last: until then the listener can be forgotten again.
        for keys in small.chunks(step.max(1)) {
            let mut group = self.group();
            for key in keys {
                group.insert(key.clone(), None);
            }
            group.durability = Durability::Sync;
            self.carry_out(group)?;
        }
        self.progress.forget(listener);
        Ok(())
    }

    /// Whether everything applied is synced, or nothing can be any more.
    pub(super) fn is_synced(&self) -> bool {
        self.shared.engine().is_err() || self.applier.is_synced()
    }

    /// Syncs whatever is not.
    pub(super) fn sync_all(&mut self) -> Result<(), StoreError> {
        let mut group = self.group();
        group.durability = Durability::Sync;
        self.carry_out(group)
    }

    /// Marks the store as open, or as closed in good order, and syncs.
    pub(super) fn mark(&mut self, clean: bool) -> Result<(), StoreError> {
        self.shared.engine()?;
        let mut group = self.group();
        group.put(CLEAN.to_vec(), &[u8::from(clean)]);
        group.durability = Durability::Sync;
        self.carry_out(group)
    }

    fn group(&self) -> Group {
        Group::new(self.shared.limits, self.version, self.next_position, self.log_bytes)
    }

    /// Puts into a group what its requests have come to together, and what can go beside them.
    fn seal(&mut self, mut group: Group, first: Position, first_scheduled: u64) -> Group {
        group.version = self.version;
        if self.next_scheduled > first_scheduled {
            group.put(NEXT_SCHEDULED.to_vec(), &self.next_scheduled.to_be_bytes());
        }
        let mut log_bytes = 0;
        let mut written = Vec::new();
        for Packed { first, body, known } in group.packer.finish() {
            log_bytes += body.len();
            group.put(pack_key(first), &body);
            written.extend(known);
        }
        self.log_bytes = group.packer.written();
        for listener in std::mem::take(&mut group.moved) {
            if let Some((key, body)) = self.progress.encoded(&listener) {
                group.put(key, &body);
            }
        }
        let room = self.shared.limits.group_bytes.saturating_sub(group.bytes);
        let removal = self.let_go(first, room.min(PRUNE_STEP.max(2 * log_bytes)));
        written.into_iter().for_each(|pack| self.pruner.written(pack));
        group.more = removal.more || !removal.freed.is_empty();
        group.bytes += removal.bytes;
        group.batch.extend(removal.keys.into_iter().map(|key| (key, None)));
        for chunks in removal.freed {
            self.free(&mut group, chunks);
        }
        if removal.looked {
            let (pruned, pruned_logged) = (self.pruner.looked_to(), self.pruner.looked_to_logged());
            let ends = LogEnds { next: self.next_position, pruned, pruned_logged };
            group.put(LOG_ENDS.to_vec(), &ends.encode());
        }
        group
    }

    /// Adds a request to the group, or refuses it without a trace.
    fn admit(&mut self, group: &mut Group, request: Request) -> Answer {
        let Request { changes, reads, scheduled, unscheduled, commit: CommitRequest { events, settlements, .. } } =
            request;
        self.shared.recent.lock().check(&reads).map_err(|conflict| self.shared.conflict(conflict))?;
        let rows =
            changes.into_iter().map(|(key, change)| self.row(group, key, change)).collect::<Result<Vec<_>, Error>>()?;
        let steps = self.progress.settle(&settlements).map_err(|refused| match refused {
            Refused::Settled(error) => Error::from(error),
            Refused::Encoding(error) => Error::from(error),
        })?;
        let old_pieces = steps
            .large_keys()
            .map(|key| self.old_pieces(group, &key).map(|old| (key, old)))
            .collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        let leaving = self.leaving(group, &unscheduled)?;
        let encoded: Vec<(Vec<u8>, Stay)> =
            events.iter().map(|envelope| (encode(envelope), Stay::of(envelope))).collect();
        let scheduled: Vec<_> =
            scheduled.iter().map(|envelope| (&envelope.header.metadata, encode(envelope))).collect();
        let limits = &self.shared.limits;
        let small = |len: usize| if len > limits.chunk_bytes { Chunks::BYTES } else { len };
        let bytes: usize = rows
            .iter()
            .map(|row| limits.cost(row.key.len() + row.value.as_ref().map_or(0, |value| small(value.len()))))
            .chain(encoded.iter().map(|(encoded, _)| small(encoded.len())))
            // Beside each stands where it is found by its id.
            .chain(scheduled.iter().map(|(_, encoded)| limits.cost(small(encoded.len())) + limits.cost(0)))
            .chain(leaving.iter().map(|_| 2 * limits.cost(0)))
            .sum();
        if bytes > limits.unit_bytes {
            let entries = rows.len() + encoded.len() + scheduled.len() + leaving.len();
            return Err(UnitError::TooManyWrites { entries, bytes, limit: limits.unit_bytes }.into());
        }

        // From here on it is accepted.
        if !rows.is_empty() || !leaving.is_empty() {
            self.version += 1;
            let keys = rows.iter().map(|row| &row.key[..]).chain(leaving.iter().map(Leaving::id_key));
            self.shared.recent.lock().record(self.version, keys);
        }
        for row in rows {
            self.write_row(group, row);
        }
        let writes = self.progress.accept(steps);
        group.moved.extend(writes.moved);
        for (key, value) in writes.small {
            match value {
                Some(body) => group.put(key, &body),
                None => group.insert(key, None),
            }
        }
        for (key, value) in writes.large {
            let old = old_pieces.get(&key).copied().flatten();
            self.write(group, Write { key, value, old });
        }
        for one in leaving {
            self.take_out(group, one);
        }
        for (metadata, encoded) in scheduled {
            self.schedule(group, metadata, encoded);
        }
        let positions = encoded.into_iter().map(|(encoded, stay)| self.append(group, &encoded, stay)).collect();
        Ok(Receipt { positions, ..Receipt::default() })
    }

    /// What a change leaves, given what stands now.
    fn row(&self, group: &Group, key: Vec<u8>, change: Change) -> Result<Write, Error> {
        let table = split_row_key(&key).map_or(0, |(table, _)| table);
        let mut old = None;
        let mut stored = None;
        if change.needs_stored() || self.shared.catalogue.is_large(table) {
            match self.now(group, &key)? {
                Some(Framed::Inline(value)) => stored = Some(value),
                Some(Framed::Chunked(chunks)) => old = Some(chunks),
                None => {}
            }
        }
        let refused = |error: CellError| {
            let delta = change.add.map_or(0, |add| add.delta);
            error.into_refusal(&self.shared.catalogue.name(table), &key, delta)
        };
        if let (true, Some(chunks)) = (change.needs_stored(), old) {
            return Err(refused(CellError::NotACell { bytes: usize::try_from(chunks.len).unwrap_or(usize::MAX) }));
        }
        let value = change.committed(stored).map_err(refused)?;
        Ok(Write { key, value, old })
    }

    /// What stands under `key` after the requests before.
    fn now(&self, group: &Group, key: &[u8]) -> Result<Option<Framed>, StoreError> {
        let raw = match group.batch.get(key) {
            Some(value) => value.clone(),
            None => self.shared.get_raw(key)?,
        };
        raw.map(|value| unframe(key, value)).transpose()
    }

    fn old_pieces(&self, group: &Group, key: &[u8]) -> Result<Option<Chunks>, StoreError> {
        Ok(match self.now(group, key)? {
            Some(Framed::Chunked(chunks)) => Some(chunks),
            _ => None,
        })
    }

    fn write_row(&mut self, group: &mut Group, row: Write) {
        let large = row.value.as_ref().is_some_and(|value| value.len() > self.shared.limits.chunk_bytes);
        if let Some((table, _)) = split_row_key(&row.key)
            && let Some((key, record)) = self.shared.catalogue.record(table, large)
        {
            group.insert(key, Some(record));
        }
        self.write(group, row);
    }

    /// Writes a value that may be large, and frees the pieces of the one before.
    fn write(&mut self, group: &mut Group, Write { key, value, old }: Write) {
        if let Some(old) = old {
            self.free(group, old);
        }
        match value {
            Some(body) if body.len() > self.shared.limits.chunk_bytes => {
                let chunks = self.cut(group, &body);
                let value = frame_chunks(&key, chunks);
                group.insert(key, Some(value));
            }
            Some(body) => group.put(key, &body),
            None => group.insert(key, None),
        }
    }

    /// Cuts a large value into pieces.
    fn cut(&mut self, group: &mut Group, body: &[u8]) -> Chunks {
        let id = self.next_chunk;
        self.next_chunk += 1;
        let mut count = 0;
        for piece in body.chunks(self.shared.limits.chunk_bytes) {
            let key = chunk_key(id, count);
            group.bytes += self.shared.limits.cost(key.len() + piece.len());
            let value = frame(&key, piece);
            group.pieces.insert(key, value);
            count += 1;
        }
        let chunks = Chunks { id, count, len: body.len() as u64 };
        group.large.push(chunks);
        chunks
    }

    /// Nobody refers to these pieces any more.
    fn free(&mut self, group: &mut Group, chunks: Chunks) {
        if let Some(own) = group.large.iter().position(|large| large.id == chunks.id) {
            group.large.swap_remove(own);
            for key in chunks.keys() {
                group.pieces.remove(&key);
            }
        } else {
            group.put(free_key(chunks.id), &chunks.encode());
            self.pruner.free(chunks);
        }
    }

    fn append(&mut self, group: &mut Group, encoded: &[u8], stay: Stay) -> Position {
        let position = if fits_inline(encoded.len(), self.shared.limits.chunk_bytes) {
            group.bytes += encoded.len();
            group.packer.inline(encoded, stay)
        } else {
            let chunks = self.cut(group, encoded);
            group.packer.chunked(chunks, stay)
        };
        self.next_position = position.next();
        position
    }

    /// Hands a group to the engine and syncs what it owes.
    fn carry_out(&mut self, group: Group) -> Result<(), StoreError> {
        let owed = self.guarded(|applier| applier.apply(group))?;
        owed.map_or(Ok(()), |durability| self.sync(durability))
    }

    /// Does something with the engine; an error or a panic stops the store.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Applier) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut self.applier)));
        outcome.unwrap_or_else(|panic| Err(panicked(&*panic))).inspect_err(|error| {
            self.stop(error.clone());
        })
    }

    /// Stops the store because of `cause`, and answers what the next caller gets.
    fn stop(&self, cause: StoreError) -> StoreError {
        self.shared.poison(cause.clone());
        StoreError::Poisoned { cause: Arc::new(cause) }
    }
}

/// What was accepted is in doubt because of `error`.
fn doubt(answers: &mut [Answer], error: &StoreError) {
    for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
        *answer = Err(CommitError::InDoubt(error.clone()));
    }
}
