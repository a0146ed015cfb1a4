//! THE drain loop: look ahead, call what is next, settle what came of it.

mod calling;
mod commands;
mod failing;
mod parking;
mod progress;
mod replaying;
mod suspects;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ack::{Acks, Moment};
use super::dead_letter::{DeadLetters, Replay, Replays};
use super::introduce::{describe, introduce};
use super::lane::{LaneKey, Pending, Tried};
use super::lanes::Lanes;
use super::record::record;
use super::{Ground, Job, Verdict};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::listener::{Durable, Followers, exponential};
use crate::observe::Notice;
use crate::store::{Cursor, CursorChange, Durability, ListenerRecord, LogEvent, ParkedCause, Position, Redelivery};

pub(super) use commands::{Command, Hold};
pub(super) use progress::Progress;
use progress::Standing;
use suspects::Suspicion;

/// How many deliveries are taken in at once while others can be called, at most: each look reads whole packs of the log.
const PAGE: usize = 512;
/// How many bytes of events a worker keeps for them; beyond, an event is read again at its call.
const WINDOW_BYTES: usize = 4 << 20;
/// How many log positions a worker passes by, owed nothing, before it says so to the store.
const PASSED_BY: u64 = 512;

/// Works for one durable listener.
pub(super) struct Worker {
    ground: Arc<Ground>,
    job: Job,
    inbox: mpsc::UnboundedReceiver<Command>,
    progress: Arc<Progress>,
    /// What the store has settled, what is being settled, and what this listener is not owed.
    known: Cursor,
    /// The names under which there may be something for this listener in the log.
    names: Vec<String>,
    /// The low-water mark the store was last told.
    reported: u64,
    next: Position,
    lanes: Lanes,
    window_bytes: usize,
    /// Failed deliveries of an earlier run that were not met in the log yet.
    redeliveries: HashMap<Position, Redelivery>,
    /// What the store knows of the listener beside its cursor.
    described: ListenerRecord,
    dead: DeadLetters,
    replays: Replays,
    acks: Acks,
    calls: JoinSet<(Vec<Called>, Vec<Verdict>)>,
    /// How many are called one after the other by one task, where that may be.
    run_length: usize,
    /// Since when the first of a batch waits for the others.
    lingering: Option<Timestamp>,
    /// Paused, or stopped: calls nobody until it is resumed.
    halted: bool,
    /// What it knows of what is owed is not whole: to be taken from the store again before anybody is called.
    stale: bool,
    hold: Option<Hold>,
    /// Whether a command was taken up since the last look around.
    asked: bool,
    /// How often in a row the store failed.
    failures: u32,
    /// What may have ended the process.
    suspicion: Suspicion,
}

/// A delivery that is being called.
struct Called {
    key: LaneKey,
    pending: Pending,
    envelope: Arc<Envelope>,
    /// Its place on the desk, once it is called.
    ticket: u64,
}

impl Worker {
    /// Loads what the store knows of the listener; gives it a cursor if it has none.
    pub(super) async fn take_up(
        ground: Arc<Ground>,
        job: Job,
        inbox: mpsc::UnboundedReceiver<Command>,
        progress: Arc<Progress>,
    ) -> Result<Self, StoreError> {
        let mut worker = Self {
            known: Cursor::default(),
            names: Vec::new(),
            reported: 0,
            next: Position(0),
            lanes: Lanes::default(),
            window_bytes: 0,
            redeliveries: HashMap::new(),
            described: ListenerRecord::default(),
            dead: DeadLetters::default(),
            replays: Replays::default(),
            acks: Acks::new(job.durable.ack, progress.clone()),
            calls: JoinSet::new(),
            run_length: 1,
            lingering: None,
            halted: false,
            stale: false,
            hold: None,
            asked: false,
            failures: 0,
            suspicion: Suspicion::new(&ground, &job),
            ground,
            job,
            inbox,
            progress,
        };
        worker.load().await?;
        worker.take_up_suspects().await?;
        let end = *worker.ground.store.delivered_up_to().borrow();
        worker.publish_progress(end);
        Ok(worker)
    }

    /// Takes everything from the store, and forgets what it knew.
    async fn load(&mut self) -> Result<(), StoreError> {
        let Job { listener, formerly, events, durable, .. } = &self.job;
        self.known = introduce(&self.ground, listener, formerly, events, durable.start).await?;
        let before = self.known.takes().before().iter().map(|(name, _)| name.clone());
        self.names = events.iter().map(|name| (*name).to_owned()).chain(before).collect();
        self.described = describe(&self.ground, listener, formerly, &self.known).await?;
        self.halted |= self.described.paused.is_some();
        self.progress.desk().clear();
        self.reported = self.known.low();
        self.next = Position(self.known.low());
        self.lanes = Lanes::default();
        self.window_bytes = 0;
        let redeliveries = self.ground.store.redeliveries(listener).await?;
        self.redeliveries = redeliveries.into_iter().map(|one| (one.position, one)).collect();
        self.dead = DeadLetters::default();
        self.replays = Replays::default();
        self.acks = Acks::new(durable.ack, self.progress.clone());
        self.lingering = None;
        self.stale = false;
        self.load_dead().await
    }

    /// Takes up what is parked, and begins to call again what somebody asked for while nobody delivered.
    async fn load_dead(&mut self) -> Result<(), StoreError> {
        let mut from = Position(0);
        let mut is_asked = false;
        loop {
            let page = self.ground.store.parked_from(&self.job.listener, from, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.position.next();
            for one in &page {
                let key = LaneKey::of(self.job.durable.sequence, one.position, &one.envelope);
                self.dead.insert(key, one.position);
                is_asked |= one.asked.is_some();
            }
        }
        if is_asked {
            // Each of them by its mark, so that the rest is called again should the process end in the midst of it.
            self.replay_all(Replay::matching(|parked| parked.asked.is_some()));
        }
        Ok(())
    }

    /// Works until the bus stops, or the store fails for good; takes itself up again after any other storage error.
    pub(super) async fn run(mut self) {
        while let Err(cause) = self.drain().await {
            if !self.take_up_again(cause).await {
                return;
            }
        }
    }

    /// Answers whether it could.
    async fn take_up_again(&mut self, mut cause: StoreError) -> bool {
        let mut stop = self.ground.stop.clone();
        // Those that run may still settle by commits of their own.
        while self.calls.join_next().await.is_some() {}
        loop {
            let listener = &self.job.listener;
            let is_final =
                matches!(cause, StoreError::Poisoned { .. } | StoreError::Closed | StoreError::Damaged { .. });
            if is_final || stop.is_stopping() || self.ground.store.poisoned().is_some() {
                self.ground.watch.tell(&Notice::WorkerStopped { listener, cause: &cause });
                return false;
            }
            self.failures = self.failures.saturating_add(1);
            let wait = exponential(std::time::Duration::from_millis(100)).after(self.failures);
            let due = self.ground.clock.now().saturating_add(wait);
            self.ground.watch.tell(&Notice::WorkerFailed { listener, cause: &cause, due });
            self.progress.publish(Standing {
                scanned: self.next,
                low: Position(self.low()),
                pending: 1,
                idle_until: Some(due),
                stalled: true,
                resting: false,
            });
            self.ground.activity.touch();
            tokio::select! {
                biased;
                () = stop.stopped() => {}
                () = self.ground.clock.sleep_until(due) => {}
            }
            match self.load().await {
                Ok(()) => return true,
                Err(error) => cause = error,
            }
        }
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        let mut doorbell = self.ground.store.delivered_up_to();
        let mut stop = self.ground.stop.clone();
        let mut inbox_open = true;
        loop {
            let stopping = stop.is_stopping() || !inbox_open;
            // Read before looking at the log, so that a ring during the look is not missed.
            let end = *doorbell.borrow_and_update();
            if self.calls.is_empty() && self.acks.unsettled() == 0 {
                if let Some(Hold { ready, release }) = self.hold.take() {
                    // Either may be gone: then nothing was changed.
                    let _ = ready.send(());
                    let _ = release.await;
                    self.load().await?;
                } else if self.stale && !self.halted {
                    self.load().await?;
                }
            }
            let active = !stopping && self.is_active();
            if active {
                self.feed_replays().await?;
                if self.calls.len() < self.job.durable.concurrency && self.lanes.has_ready_for(self.at_once()) {
                    // Looked ahead beside the calls, not before them.
                    self.lanes.wake(self.ground.clock.now());
                    self.call_ready().await?;
                    if self.next <= end && self.has_room() {
                        // What was spawned here begins here, and this goes on elsewhere.
                        tokio::task::yield_now().await;
                    }
                }
                self.look_ahead(end).await?;
                self.lanes.wake(self.ground.clock.now());
                self.call_ready().await?;
            }
            self.begin_to_settle(end, stopping);
            if stopping && self.calls.is_empty() && self.acks.unsettled() == 0 {
                return self.report_passed_by(0).await;
            }
            self.publish_progress(end);
            if std::mem::take(&mut self.asked) {
                // What was asked for in the midst of it has not been met with yet.
                continue;
            }
            let active = active && self.is_active();
            let room = active && self.lanes.len() < self.job.durable.look_ahead;
            let due = self.next_due(active);
            let clock = self.ground.clock.clone();
            let settling = self.acks.is_settling();
            tokio::select! {
                biased;
                Some(ended) = self.calls.join_next(), if !self.calls.is_empty() => match ended {
                    Ok((called, verdicts)) => self.take_in(called, verdicts).await?,
                    // Panics are contained; a call that is cut off means that the runtime ends.
                    Err(_) => return Ok(()),
                },
                settled = self.acks.settled(), if settling => settled?,
                command = self.inbox.recv(), if inbox_open => match command {
                    Some(command) => self.obey(command).await?,
                    None => inbox_open = false,
                },
                changed = doorbell.changed(), if room => if changed.is_err() { return Ok(()) },
                () = async move {
                    match due {
                        Some(due) => clock.sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => {}
                () = stop.stopped(), if !stopping => {}
            }
        }
    }

    /// Whether it may call somebody.
    fn is_active(&self) -> bool {
        !self.halted && !self.stale && self.hold.is_none()
    }

    /// When there is something to do although nothing happens.
    fn next_due(&self, active: bool) -> Option<Timestamp> {
        let waiting = self.lanes.next_due().filter(|_| active);
        let batch = self.batch_due().filter(|_| active && self.calls.len() < self.job.durable.concurrency);
        [waiting, batch, self.acks.due()].into_iter().flatten().min()
    }

    fn begin_to_settle(&mut self, end: Position, stopping: bool) {
        let still = self.calls.is_empty() && self.lanes.called() == 0;
        let moment = Moment {
            now: self.ground.clock.now(),
            drained: still && !self.lanes.has_ready() && (self.next > end || self.halted),
            ending: still && (stopping || !self.is_active()),
            window: self.job.durable.look_ahead,
        };
        self.acks.begin(&self.ground, &self.job.listener, moment, || self.lanes.lowest());
    }

    fn publish_progress(&self, end: Position) {
        let still = self.calls.is_empty() && self.lanes.called() == 0;
        let waits = still && !self.acks.is_settling() && (!self.lanes.has_ready() || self.lingering.is_some());
        let unsettled = self.acks.unsettled();
        self.progress.desk().set_halted(self.halted);
        let standing = Standing {
            scanned: self.next,
            low: Position(self.low()),
            pending: self.lanes.len() + unsettled + self.replays.queued() + usize::from(self.hold.is_some()),
            idle_until: if waits { self.next_due(true) } else { None },
            stalled: self.next <= end && !self.has_room(),
            resting: self.halted && self.hold.is_none() && still && unsettled == 0,
        };
        self.progress.publish(standing);
        // Nobody waits for less.
        if standing.pending == 0 || standing.idle_until.is_some() || standing.resting {
            self.ground.activity.touch();
        }
    }

    /// Reads the log up to `end` as far as the window has room.
    async fn look_ahead(&mut self, end: Position) -> Result<(), StoreError> {
        let stop = self.ground.stop.clone();
        while self.next <= end && self.has_room() && !stop.is_stopping() && !self.halted {
            let room = self.job.durable.look_ahead - self.lanes.len();
            let page = self.ground.store.read_log_of(&self.names, self.next, room, WINDOW_BYTES / 4).await?;
            let (mut behind, mut is_met) = (Vec::new(), true);
            for event in page.events {
                self.pass_by(self.next, event.position);
                let position = event.position;
                is_met = self.meet(event, &mut behind);
                if !is_met {
                    // There is no room for it: it stays the next to be met.
                    break;
                }
                self.next = position.next();
            }
            self.park_all(behind).await?;
            if !is_met {
                break;
            }
            // Gaps are legal, and what lies there is for others.
            self.pass_by(self.next, page.next);
            // A long log is passed by in pages, and others get their turn in between.
            tokio::task::yield_now().await;
        }
        self.report_passed_by(PASSED_BY).await
    }

    /// Whether the window takes more: a page worth reading, or whatever there is when nothing else could be called.
    fn has_room(&self) -> bool {
        let window = self.job.durable.look_ahead;
        let room = window.saturating_sub(self.lanes.len());
        room >= PAGE.min(window.div_ceil(2)) || (room > 0 && !self.lanes.has_ready())
    }

    fn pass_by(&mut self, from: Position, to: Position) {
        self.known.settle(from.0..to.0);
        self.next = self.next.max(to);
    }

    /// Decides about one event of the log; answers `false` if it cannot be taken in.
    fn meet(&mut self, event: LogEvent, behind: &mut Vec<CursorChange>) -> bool {
        let LogEvent { position, envelope } = event;
        if self.known.is_done(position.0) {
            return true;
        }
        let header = &envelope.header;
        // Who is not owed stands there under the id the listener had when the event was published.
        let is_this = |id: &String| **id == *self.job.listener || self.job.formerly.contains(id);
        // Under a name that was forgotten it cannot be decoded, and parks when its turn comes.
        let is_taken =
            self.job.events.contains(&header.name.as_str()) || self.known.takes().took(&header.name, position);
        let owed = is_taken && !header.not_owed.iter().any(is_this);
        if !owed {
            self.known.settle(position.0..position.0 + 1);
            self.suspicion.acquit(position);
            return true;
        }
        let key = LaneKey::of(self.job.durable.sequence, position, &envelope);
        if self.job.durable.parking.followers == Followers::Park
            && let Some(first) = self.dead.first(&key).filter(|first| *first < position)
        {
            return match self.park_or_say_why_not(position, &envelope, 0, ParkedCause::Behind(first)) {
                Ok(change) => {
                    behind.push(change);
                    true
                }
                Err(reason) => {
                    // What is being called again may make room.
                    if !self.replays.is_active() {
                        self.halt(position, &reason);
                    }
                    false
                }
            };
        }
        self.suspicion.met(position);
        let redelivery = self.redeliveries.remove(&position);
        self.window_bytes += envelope.weight();
        let envelope = (self.window_bytes <= WINDOW_BYTES).then_some(envelope);
        let mut pending = Pending::new(position, envelope);
        let due = redelivery.as_ref().map(|one| one.due);
        pending.tried = redelivery.map(Tried::from).unwrap_or_default();
        pending.alone = self.suspicion.is_marked(position);
        match due {
            None if self.may_go_straight() && !pending.alone => self.lanes.push_straight(key, pending),
            due => self.lanes.push(key, pending, due),
        }
        true
    }

    /// Whether deliveries need no lanes as long as they are done: one is called at a time, and none waits for its time.
    fn may_go_straight(&self) -> bool {
        let Durable { concurrency, batch, ack, .. } = &self.job.durable;
        *concurrency == 1 && batch.is_none() && !ack.is_manual() && self.redeliveries.is_empty()
    }

    /// Calls nobody any more, and tells why.
    fn halt(&mut self, position: Position, reason: &str) {
        self.halted = true;
        self.ground.watch.tell(&Notice::ListenerStopped { listener: &self.job.listener, position, reason });
    }

    /// Everything below is settled.
    fn low(&self) -> u64 {
        self.acks.lowest().map_or(self.known.low(), |unsettled| unsettled.0.min(self.known.low()))
    }

    /// Tells the store what this listener is not owed, if that is more than `at_least` positions.
    async fn report_passed_by(&mut self, at_least: u64) -> Result<(), StoreError> {
        let low = self.low();
        if low > self.reported.saturating_add(at_least) {
            self.record(vec![CursorChange::Skip { covers: 0..low }], Durability::Buffered).await?;
            self.reported = low;
        }
        Ok(())
    }

    /// Commits changes of the cursor; answers `false` if one of them was settled before, and none was made.
    async fn record(&self, changes: Vec<CursorChange>, durability: Durability) -> Result<bool, StoreError> {
        record(&self.ground, &self.job.listener, changes, durability).await
    }
}
