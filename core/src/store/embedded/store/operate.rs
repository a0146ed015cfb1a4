//! What whoever operates a store asks of it: is it whole, where is an event, let it be gone.

use std::io::{Read, Write};
use std::sync::Arc;

use futures::executor::block_on;
use uuid::Uuid;

use super::{EmbeddedStore, Hand, Inner, only_looked_at, parked};
use crate::error::StoreError;
use crate::store::embedded::commit::CommitCore;
use crate::store::embedded::copy::{self, Copied, Moved, Target};
use crate::store::embedded::layout::{CLEAN, GIVEN_UP, LOG_ENDS, LogEnds, PARKED, all_of};
use crate::store::embedded::log::{self, Found};
use crate::store::embedded::stream::{self, Streamed};
use crate::store::embedded::verify::{self, Report};
use crate::store::embedded::{Engine, Limits, record, shared::Shared};
use crate::store::{Direction, Erasure, Parked, Position};

impl Hand {
    /// Does `work` between two groups, after what is queued.
    pub(in super::super) async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut CommitCore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self {
            Hand::Inline(core) => core.lock().turn(work),
            Hand::Thread(queue) => {
                let (reply, answer) = futures::channel::oneshot::channel();
                queue.turn(Box::new(move |core| {
                    // Who dropped the future does not want to know.
                    let _ = reply.send(core.turn(work));
                }));
                answer.await.unwrap_or(Err(StoreError::Closed))
            }
            Hand::Nobody => Err(only_looked_at()),
        }
    }
}

impl EmbeddedStore {
    /// Looks at an engine that no store has open as a store: it can be read and not changed, and nothing is noted of it.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`] if the end of the log cannot be read.
    pub fn look_at(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let kind = engine.kind();
        let shared = Shared::new(engine, Limits::default());
        let end = verify::horizon_of(&shared)?.position;
        shared.delivered.send_replace(Position(end.0 - 1));
        let ends = shared.get(LOG_ENDS)?.map(|body| LogEnds::decode(&body)).transpose()?.unwrap_or_default();
        shared.pruned.tell(ends.pruned, ends.pruned_logged);
        let was_clean = shared.get(CLEAN)?.is_some_and(|mark| mark == [1]);
        Ok(Self::new(kind, Arc::new(shared), Hand::Nobody, was_clean, Vec::new()))
    }

    /// Reads everything and says what it holds and what is wrong with it: every checksum, every stored form, whatever refers to
    /// something else. Units commit meanwhile: what was found is looked at a second time, between two groups, before it is told.
    ///
    /// Blocks the calling thread as long as reading the whole store takes, and needs about 20 bytes of memory for each large value.
    /// A store that does not even open is verified with [`verify_engine`](Self::verify_engine).
    ///
    /// # Errors
    /// The engine's; what is damaged is no error but a finding.
    pub fn verify(&self) -> Result<Report, StoreError> {
        let Inner { shared, hand, .. } = &*self.inner;
        let horizon = block_on(hand.turn(|core| Ok(core.horizon())))?;
        verify::running(shared, horizon, |again: verify::Second| {
            let shared = shared.clone();
            block_on(hand.turn(move |core| again(&shared, core.horizon())))
        })
    }

    /// As [`verify`](Self::verify), for an engine that no store has open; with `repair` it mends what can be mended without a loss.
    ///
    /// # Errors
    /// The engine's.
    pub fn verify_engine(engine: Arc<dyn Engine>, repair: bool) -> Result<Report, StoreError> {
        verify::closed(&Shared::new(engine, Limits::default()), repair)
    }

    /// Where the event with this id stands, if the log still holds it, or it is parked or was given up; also one that was erased.
    /// Reads the whole log, as it knows events by position only.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`].
    pub fn find_event(&self, id: Uuid) -> Result<Option<Position>, StoreError> {
        let shared = &self.inner.shared;
        if let Some(position) = log::find_id(shared, id)? {
            return Ok(Some(position));
        }
        for (key, body) in shared.scan(&all_of(PARKED), Direction::Forward, usize::MAX)? {
            let (_, parked) = record::decode_parked(&key, &body)?;
            if parked.envelope.header.metadata.id == id {
                return Ok(Some(parked.position));
            }
        }
        for (key, body) in shared.scan(&all_of(GIVEN_UP), Direction::Forward, usize::MAX)? {
            let given_up = record::decode_given_up(&key, &body)?;
            if given_up.header.metadata.id == id {
                return Ok(Some(given_up.position));
            }
        }
        Ok(None)
    }

    /// Whether an event was erased at `position`, and which id it had.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`].
    pub fn erased_at(&self, position: Position) -> Result<Option<Uuid>, StoreError> {
        Ok(match log::find_at(&self.inner.shared, position)? {
            Found::Erased(id) => Some(id),
            Found::Event { .. } | Found::Nothing => None,
        })
    }

    /// Erases the event at `position`: body, key and whatever else its stored form holds. Its place keeps a tombstone with its id.
    ///
    /// It is settled for every durable listener, so that nobody is called with it and what a call that just runs would commit is
    /// refused as settled; what waited to be called again is forgotten, and parked copies go. Events behind it in the log, and those
    /// of its key that are parked behind it, stay as they are. Answered once it survives a power cut.
    /// What listeners wrote to tables is the application's to remove, and so is what they sent elsewhere.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the event's pack cannot be read, which leaves all as it was; the engine's.
    pub async fn erase(&self, position: Position) -> Result<Erasure, StoreError> {
        self.inner.hand.turn(move |core| core.erase(position)).await
    }

    /// Copies the store as it stands at one moment while units commit; `target` is a whole store, closed in good order, if this
    /// answers `Ok`, and none at all else. Restoring is opening it, or copying it once more.
    ///
    /// Blocks the calling thread. Units that commit meanwhile wait only if the target is much slower than they are.
    ///
    /// # Errors
    /// [`StoreError::CopyRuns`] while another copy or move is not finished, [`StoreError::FellBehind`], the target's.
    /// None of them touches the store.
    pub fn backup(&self, target: Target) -> Result<Copied, StoreError> {
        copy::backup(&self.inner.shared, &self.inner.hand, target)
    }

    /// Moves the store to `target` while units commit: copies, follows what is committed, compares both sides, and switches between
    /// two groups, which takes a sync of the target. From then on the old engine follows, for [`Moved::go_back`].
    ///
    /// Blocks the calling thread. After the switch the old store says where it moved: opening it is refused with words.
    ///
    /// # Errors
    /// As [`backup`](Self::backup); [`StoreError::Damaged`] if the sides differ. None of them touches the store, which stays where it is.
    pub fn move_to(&self, target: Target) -> Result<Moved, StoreError> {
        copy::move_to(&self.inner.shared, &self.inner.hand, target)
    }

    /// Copies an engine that no store has open, as it is.
    ///
    /// # Errors
    /// The source's and the target's.
    pub fn copy_engine(source: &dyn Engine, target: Target) -> Result<Copied, StoreError> {
        copy::copy_closed(source, target)
    }

    /// As [`copy_engine`](Self::copy_engine), then compares both sides, and marks the source as one that moved away: opening it
    /// is refused with words.
    ///
    /// # Errors
    /// The source's and the target's; [`StoreError::Damaged`] if the sides differ.
    pub fn move_engine(source: &dyn Engine, target: Target) -> Result<Copied, StoreError> {
        copy::move_closed(source, target)
    }

    /// The parked events of an engine that no store has open: by listener, then in the order they were parked.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`].
    pub fn parked_in(engine: Arc<dyn Engine>) -> Result<Vec<Parked>, StoreError> {
        parked(&Shared::new(engine, Limits::default()), &all_of(PARKED))
    }

    /// Writes everything that a store holds as a stream that depends on no engine; the store must not be open.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names what cannot be read; the engine's; what `out` answers.
    pub fn export_engine(engine: Arc<dyn Engine>, out: &mut dyn Write) -> Result<Streamed, StoreError> {
        stream::export(&Shared::new(engine, Limits::default()), out)
    }

    /// Makes a store of such a stream.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] says at which byte the stream is not whole; the target's. In both cases `target` is no store.
    pub fn import_engine(input: &mut dyn Read, target: Target) -> Result<Streamed, StoreError> {
        target.fill(|engine| stream::import(input, engine))
    }

    /// Takes back that the store moved away, so that it can be opened again. What was committed since to where it moved is not in it.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget_move(engine: &dyn Engine) -> Result<(), StoreError> {
        copy::say_moved(engine, None)
    }
}
