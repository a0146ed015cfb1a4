//! What may have ended the process: called in a way that tells it apart.
//!
//! While all is well nothing is marked. After an unclean end all is suspected that may have been called and not settled, which is what
//! comes first in the log:
//!
//! - Those that come first are the likeliest to have been in hand. Each is called alone, and marked on the disk before.
//! - The rest is on probation: what is called at once is marked together before, and settled before much more is called. If the process
//!   ends again, the marks name the few that may have ended it, wherever they stand in the backlog.
//! - What a former life marked is called alone. That mark counts the ends, and at the limit the event parks.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use super::{Called, Worker};
use crate::consumer::ack::MOST;
use crate::consumer::record::record_each;
use crate::consumer::{Ground, Job, Verdict, run};
use crate::error::StoreError;
use crate::store::{CursorChange, Durability, ParkedCause, Position, Suspect};

/// How many deliveries on probation may be handled and not settled before more are called.
pub(super) const ON_PROBATION: usize = 128;

/// Which deliveries may have ended the process.
pub(super) struct Suspicion {
    /// Marked ones, and how often the process ended while each was called alone.
    marked: HashMap<Position, u32>,
    /// How many of those that come next are called alone although they are not marked.
    in_hand: usize,
    /// Nothing behind it is suspected; 0 after a clean end.
    up_to: Position,
    /// How many deliveries are still to be met until nothing more is suspected.
    left: usize,
}

impl Suspicion {
    pub(super) fn new(ground: &Ground, job: &Job) -> Self {
        let (in_hand, up_to, left) = match ground.unclean {
            true => (in_hand(job), *ground.store.delivered_up_to().borrow(), unsettled(ground, job)),
            false => (0, Position(0), 0),
        };
        Self { marked: HashMap::new(), in_hand, up_to, left }
    }

    /// A delivery that is owed was met in the log.
    pub(super) fn met(&mut self, position: Position) {
        if self.is_on_probation(position) {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                self.up_to = position;
            }
        }
    }

    /// Whether a former life marked it.
    pub(super) fn is_marked(&self, position: Position) -> bool {
        self.marked.contains_key(&position)
    }

    /// Whether it is to be called alone.
    pub(super) fn is_suspect(&self, position: Position) -> bool {
        self.is_marked(position) || (self.in_hand > 0 && position <= self.up_to)
    }

    /// Whether it is to be marked before it is called, and settled soon.
    pub(super) fn is_on_probation(&self, position: Position) -> bool {
        position <= self.up_to
    }

    /// It is not to be called.
    pub(super) fn acquit(&mut self, position: Position) {
        self.marked.remove(&position);
    }

    /// It is being called alone: how often the process ended so.
    fn examine(&mut self, position: Position) -> u32 {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.marked.remove(&position).unwrap_or(0)
    }
}

/// How many deliveries may have been called, and not settled, when the process ended, of a listener that settles each.
fn in_hand(job: &Job) -> usize {
    let at_once = if job.shares_commits && job.durable.concurrency == 1 { run::LONGEST_COMMITTED } else { 1 };
    job.durable.concurrency * at_once
}

/// How many of the deliveries that come first may have been called, and not settled on the disk.
fn unsettled(ground: &Ground, job: &Job) -> usize {
    let is_late = job.durable.ack.gathers() || ground.durability < Durability::Flush;
    // One lot may be gathered while another is being settled.
    job.durable.look_ahead + if is_late { 2 * MOST } else { 0 }
}

impl Worker {
    /// Takes up what was marked when the process ended.
    pub(super) async fn take_up_suspects(&mut self) -> Result<(), StoreError> {
        let Job { listener, formerly, .. } = &self.job;
        let mine = self
            .ground
            .suspects
            .iter()
            .filter(|suspect| *suspect.listener == **listener || formerly.contains(&suspect.listener));
        // A mark whose delivery was settled before the process ended is only in the way; that of a dead letter is not.
        let is_stale = |at: Position| self.known.is_done(at.0) && self.dead.key_of(at).is_none();
        let (stale, marked): (Vec<&Suspect>, Vec<&Suspect>) = mine.partition(|suspect| is_stale(suspect.position));
        let cleared: Vec<CursorChange> =
            stale.iter().map(|suspect| CursorChange::Cleared { position: suspect.position }).collect();
        self.suspicion.marked = marked.iter().map(|suspect| (suspect.position, suspect.count)).collect();
        if !cleared.is_empty() {
            self.record(cleared, self.ground.durability).await?;
        }
        Ok(())
    }

    /// Calls a delivery that may have ended the process: marked on the disk, and alone among all listeners.
    pub(super) async fn call_suspect(&mut self, mut called: Called) -> Result<(), StoreError> {
        let ground = self.ground.clone();
        let mut stop = ground.stop.clone();
        let alone = tokio::select! {
            biased;
            () = stop.stopped() => {
                self.lanes.give_back(&called.key);
                return Ok(());
            }
            alone = ground.one_suspect.lock() => alone,
        };
        let position = called.pending.position;
        let crashes = self.suspicion.examine(position);
        let limit = self.ground.crash_limit;
        if limit > 0 && crashes >= limit {
            let attempts = called.pending.tried.attempts;
            return self.give_up(called, attempts, ParkedCause::Crashed(crashes)).await;
        }
        self.mark([(position, crashes + 1)]).await?;
        let (due, run) = self.put_together(std::slice::from_mut(&mut called), self.progress.asked());
        let call = self.job.handler.clone().call(due, run);
        let call = self.ground.activity.track(self.job.listener.clone(), call);
        let verdicts =
            AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| super::calling::panicked(&*panic));
        drop(alone);
        // Where no commit that soon follows brings it to the disk, a crash of something else would count for it too.
        let durability = if ground.durability < Durability::Flush { Durability::Flush } else { Durability::Buffered };
        self.record(vec![CursorChange::Cleared { position }], durability).await?;
        self.take_in(vec![called], verdicts).await
    }

    /// Marks those of what is about to be called that are on probation: as not yet called alone.
    pub(super) async fn put_on_probation(&self, calls: &[Vec<Called>]) -> Result<(), StoreError> {
        let positions = calls.iter().flatten().map(|one| one.pending.position);
        self.mark(positions.filter(|at| self.suspicion.is_on_probation(*at)).map(|at| (at, 0))).await
    }

    /// Takes the marks away of those that came back and are not settled with what they came to.
    pub(super) async fn end_probation(&self, called: &[Called], verdicts: &[Verdict]) -> Result<(), StoreError> {
        let is_settled = |at: usize| matches!(verdicts.get(at), Some(Verdict::Settled | Verdict::Handled));
        let positions =
            called.iter().enumerate().filter(|(at, _)| !is_settled(*at)).map(|(_, one)| one.pending.position);
        let back = positions.filter(|at| self.suspicion.is_on_probation(*at));
        let cleared = back.map(|position| CursorChange::Cleared { position }).collect();
        record_each(&self.ground, &self.job.listener, cleared, Durability::Buffered).await.map(drop)
    }

    /// Has the disk know of calls before they begin. What was settled before is on the disk with it.
    async fn mark(&self, marks: impl IntoIterator<Item = (Position, u32)>) -> Result<(), StoreError> {
        let mark = |(position, count)| CursorChange::Suspect { position, count };
        let marks = marks.into_iter().map(mark).collect();
        let durability = self.ground.durability.max(Durability::Flush);
        record_each(&self.ground, &self.job.listener, marks, durability).await.map(drop)
    }
}
