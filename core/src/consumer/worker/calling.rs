//! Calls: who comes next, what the call is given, and what becomes of what it came to.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::suspects::ON_PROBATION;
use super::{Called, WINDOW_BYTES, Worker};
use crate::clock::Timestamp;
use crate::consumer::ack::Kept;
use crate::consumer::lane::{LaneKey, Pending};
use crate::consumer::run::{self, Run, Subject};
use crate::consumer::{Due, Verdict};
use crate::error::{BoxError, Panicked, StoreError};
use crate::event::Envelope;
use crate::listener::{AckMode, Durable};
use crate::observe::Notice;
use crate::store::{Ending, ParkedCause};

impl Worker {
    /// Calls what may be called, as far as the concurrency allows.
    pub(super) async fn call_ready(&mut self) -> Result<(), StoreError> {
        while self.calls.len() < self.job.durable.concurrency && self.is_active() {
            // What is erased must not be called once that was answered.
            let mut asked = self.progress.asked();
            while self.progress.is_asked() {
                let Ok(command) = self.inbox.try_recv() else {
                    // It is still on its way: no run goes past it.
                    asked = asked.wrapping_sub(1);
                    break;
                };
                self.obey(command).await?;
                asked = self.progress.asked();
            }
            let Some(next) = self.lanes.first_ready().filter(|_| self.is_active()) else { break };
            if self.suspicion.is_suspect(next) {
                if self.lanes.called() > 0 {
                    // Alone: once everything else has come back.
                    return Ok(());
                }
                self.lanes.spread();
                let taken = self.lanes.take(1);
                for called in self.load_all(taken).await? {
                    self.call_suspect(called).await?;
                }
                if self.ground.stop.is_stopping() {
                    return Ok(());
                }
                continue;
            }
            let on_probation = self.suspicion.is_on_probation(next);
            if !self.is_batch_due() || (on_probation && self.acks.pressing() >= ON_PROBATION) {
                return Ok(());
            }
            let mut calls = vec![self.take_next().await?];
            if on_probation {
                self.take_beside(&mut calls).await?;
                self.put_on_probation(&calls).await?;
                if self.progress.was_asked_since(asked) {
                    // What was asked comes first; as if they had never been taken.
                    for called in calls {
                        self.take_in(called, Vec::new()).await?;
                    }
                    continue;
                }
            }
            for called in calls.into_iter().filter(|called| !called.is_empty()) {
                self.call(called, asked);
            }
        }
        if !self.lanes.has_ready() {
            self.lingering = None;
        }
        Ok(())
    }

    /// What is handed over next.
    async fn take_next(&mut self) -> Result<Vec<Called>, StoreError> {
        let taken = self.lanes.take_of(self.sequences_at_once(), self.at_once());
        self.lingering = None;
        self.load_all(taken).await
    }

    /// Takes further ones that are called at once, each by a task of its own, so that one commit marks them all.
    async fn take_beside(&mut self, calls: &mut Vec<Vec<Called>>) -> Result<(), StoreError> {
        let Durable { concurrency, batch, .. } = self.job.durable;
        while batch.is_none()
            && self.calls.len() + calls.len() < concurrency
            && calls.iter().map(Vec::len).sum::<usize>() < ON_PROBATION
            && self.lanes.first_ready().is_some_and(|next| !self.suspicion.is_suspect(next))
        {
            calls.push(self.take_next().await?);
        }
        Ok(())
    }

    /// When a batch that waits for more is called all the same.
    pub(super) fn batch_due(&self) -> Option<Timestamp> {
        let linger = self.job.durable.batch?.linger;
        self.lingering.map(|since| since.saturating_add(linger))
    }

    fn is_batch_due(&mut self) -> bool {
        let Some(batch) = self.job.durable.batch else { return true };
        if batch.linger.is_zero() || self.lanes.has_ready_for(batch.max) {
            return true;
        }
        let now = self.ground.clock.now();
        self.lingering.get_or_insert(now).saturating_add(batch.linger) <= now
    }

    /// The deliveries with their events, without those whose event is gone. Where they are large not all are called at once.
    async fn load_all(&mut self, taken: Vec<(LaneKey, Pending)>) -> Result<Vec<Called>, StoreError> {
        let mut loaded = Vec::with_capacity(taken.len());
        let (mut taken, mut bytes) = (taken.into_iter(), 0);
        while bytes < WINDOW_BYTES
            && let Some((key, mut pending)) = taken.next()
        {
            let held = match pending.envelope.take() {
                None => self.load_event(&pending).await?,
                held => held,
            };
            match held {
                Some(envelope) => {
                    bytes += envelope.weight();
                    loaded.push(Called { key, pending, envelope, ticket: 0 });
                }
                None => {
                    // Pruned under our feet can only be what is settled; so is what was erased.
                    self.suspicion.acquit(pending.position);
                    self.close(&key, &pending, None).await?;
                }
            }
        }
        let rest: Vec<_> = taken.collect();
        if self.lanes.went_straight() {
            self.lanes.take_back(rest);
        } else {
            rest.iter().for_each(|(key, _)| self.lanes.give_back(key));
        }
        Ok(loaded)
    }

    pub(super) async fn load_event(&self, pending: &Pending) -> Result<Option<Arc<Envelope>>, StoreError> {
        let position = pending.position;
        match &pending.envelope {
            Some(envelope) => Ok(Some(envelope.clone())),
            None if pending.parked => {
                let parked = self.ground.store.parked_from(&self.job.listener, position, 1).await?.pop();
                Ok(parked.filter(|one| one.position == position).map(|one| Arc::new(one.envelope)))
            }
            None => Ok(self.ground.store.read_event(position).await?.map(|event| event.envelope)),
        }
    }

    /// How many are handed over at once: a batch, or a run, which is longer each time that all went well.
    /// A run only of what waits for nothing but its worker: what is called one at a time, or shares commits. It does not go past the count
    /// it is settled by, and leaves their share to those that are called beside it.
    pub(super) fn at_once(&self) -> usize {
        let Durable { concurrency, ack, batch, .. } = self.job.durable;
        if let Some(batch) = batch {
            return batch.max;
        }
        let room = match ack {
            _ if concurrency > 1 && !self.job.shares_commits => 1,
            AckMode::Manual | AckMode::ManualImmediate => 1,
            AckMode::Count(count) | AckMode::CountOrTime(count, _) if !self.acks.is_settling() => {
                count.saturating_sub(self.acks.gathered())
            }
            _ if concurrency > 1 => self.share_of(self.lanes.len() - self.lanes.called()),
            _ => usize::MAX,
        };
        let is_on_probation = self.lanes.first_ready().is_some_and(|next| self.suspicion.is_on_probation(next));
        let room = if is_on_probation { room.min(ON_PROBATION) } else { room };
        self.run_length.min(room).max(1)
    }

    /// The share of one of the calls that can still be made, if `count` things are shared by all of them.
    fn share_of(&self, count: usize) -> usize {
        let free = self.job.durable.concurrency.saturating_sub(self.calls.len());
        count.div_ceil(free.max(1))
    }

    /// Of how many sequences they are at most. A batch is of as many as there are.
    fn sequences_at_once(&self) -> usize {
        match self.job.durable {
            Durable { batch: None, concurrency: 2.., .. } => self.share_of(self.lanes.ready()),
            _ => usize::MAX,
        }
    }

    /// Calls them; the worker had been asked something so often when it was decided to.
    pub(super) fn call(&mut self, mut called: Vec<Called>, asked: u64) {
        let (due, run) = self.put_together(&mut called, asked);
        let call = self.job.handler.clone().call(due, run);
        let tracked = self.ground.activity.track(self.job.listener.clone(), call);
        self.calls.spawn(async move {
            let verdicts = AssertUnwindSafe(tracked).catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic));
            (called, verdicts)
        });
    }

    /// What a handler is given to call them.
    pub(super) fn put_together(&self, called: &mut [Called], asked: u64) -> (Vec<Due>, Run) {
        let desk = self.progress.desk();
        let subjects = called.iter_mut().map(|one| {
            one.ticket = desk.draw();
            let Pending { position, tried, parked, .. } = &one.pending;
            Subject { position: *position, attempt: tried.attempts + 1, is_replayed: *parked, ticket: one.ticket }
        });
        let run = Run {
            subjects: subjects.collect(),
            progress: self.progress.clone(),
            clock: self.ground.clock.clone(),
            stop: self.ground.stop.clone(),
            asked,
            begun: self.ground.clock.now(),
        };
        (called.iter().map(|one| self.due(one)).collect(), run)
    }

    fn due(&self, called: &Called) -> Due {
        let position = called.pending.position;
        let covers = match self.job.durable.ack {
            AckMode::Record => self.known.stretch(position.0),
            // What is known may be handled without being settled.
            _ => position.0..position.0 + 1,
        };
        Due {
            envelope: called.envelope.clone(),
            attempt: called.pending.tried.attempts + 1,
            position,
            covers,
            is_replayed: called.pending.parked,
            unasked: called.envelope.header.scheduled || (!called.pending.parked && self.known.is_unasked(position.0)),
            given_up: called.pending.given_up.clone(),
        }
    }

    /// Takes in what a call came to: a verdict for each delivery, in their order.
    pub(super) async fn take_in(&mut self, mut called: Vec<Called>, verdicts: Vec<Verdict>) -> Result<(), StoreError> {
        let (several, count, now) = (called.len() > 1, called.len(), self.ground.clock.now());
        let done = verdicts.iter().take_while(|verdict| verdict.is_done()).count();
        self.end_probation(&called, &verdicts).await?;
        if self.lanes.went_straight() && done < count {
            if done < verdicts.len() {
                let rest = self.kept(&called[done..]);
                self.lanes.put_back(rest.into_iter());
            } else {
                // The run ended before them.
                let rest = self.kept(&called.split_off(done));
                self.lanes.take_back(rest);
            }
        }
        let mut blamed: Option<BoxError> = None;
        let mut verdicts = verdicts.into_iter();
        for one in called {
            let (position, ticket) = (one.pending.position, one.ticket);
            let verdict = verdicts.next().unwrap_or(Verdict::NotCalled);
            let is_put_down = verdict.is_done();
            match verdict {
                Verdict::Settled => {
                    self.failures = 0;
                    self.close(&one.key, &one.pending, Some(&one.envelope)).await?;
                }
                Verdict::Handled => self.handled(one, now).await?,
                Verdict::Declined => self.close(&one.key, &one.pending, Some(&one.envelope)).await?,
                Verdict::NotCalled | Verdict::Stopping => self.lanes.give_back(&one.key),
                Verdict::Broken(cause) => return Err(cause),
                Verdict::Undecodable(cause) => {
                    let attempts = one.pending.tried.attempts;
                    let cause = ParkedCause::Undecodable(super::failing::with_causes(&cause));
                    self.give_up(one, attempts, cause).await?;
                }
                Verdict::Failed(cause) => self.failed(one, &cause, false).await?,
                Verdict::FailedTogether(cause) => {
                    self.failed(one, &cause, several).await?;
                    blamed = Some(cause);
                }
                Verdict::FailedWithIt => match &blamed {
                    Some(cause) => self.failed(one, cause, several).await?,
                    None => self.lanes.give_back(&one.key),
                },
                Verdict::Decided(decision) => self.decided(one, decision).await?,
            }
            if !is_put_down {
                self.progress.desk().end(position, ticket);
            }
        }
        let longest = if self.job.durable.ack.gathers() { run::LONGEST } else { run::LONGEST_COMMITTED };
        self.run_length = if done == count { (2 * self.run_length).min(longest) } else { done.max(1) };
        Ok(())
    }

    /// Deliveries that are to be called again, with their events.
    fn kept(&self, called: &[Called]) -> Vec<(LaneKey, Pending)> {
        let kept = |one: &Called| {
            let mut pending = one.pending.clone();
            // One that was erased meanwhile is looked for in vain at its turn.
            pending.envelope = (!self.known.is_done(pending.position.0)).then(|| one.envelope.clone());
            (one.key.clone(), pending)
        };
        called.iter().map(kept).collect()
    }

    /// It was handled outside the store, and is settled when its time comes.
    async fn handled(&mut self, called: Called, now: Timestamp) -> Result<(), StoreError> {
        self.failures = 0;
        let Called { key, pending, envelope, .. } = called;
        let is_pressing = self.suspicion.is_on_probation(pending.position);
        let kept = match pending.parked {
            true => Kept::Parked,
            false if is_pressing || pending.tried.attempts > 0 => Kept::Row,
            false => Kept::Nothing,
        };
        self.acks.add(pending.position, kept, is_pressing, now);
        self.close(&key, &pending, Some(&envelope)).await
    }

    /// A delivery is out of the worker's hands: settled, handled, or gone.
    pub(super) async fn close(
        &mut self,
        key: &LaneKey,
        pending: &Pending,
        envelope: Option<&Envelope>,
    ) -> Result<(), StoreError> {
        self.lanes.let_go(key, pending.position);
        if pending.parked {
            self.dead.remove(pending.position);
            return self.replay_on(key, pending.position).await;
        }
        self.known.settle(pending.position.0..pending.position.0 + 1);
        if let Some(envelope) = envelope {
            self.window_bytes = self.window_bytes.saturating_sub(envelope.weight());
        }
        Ok(())
    }

    /// The listener decided that there is nothing to do.
    pub(super) async fn skip(&mut self, called: Called, reason: &str) -> Result<(), StoreError> {
        let Called { key, pending, envelope, .. } = called;
        let (position, attempts) = (pending.position, pending.tried.attempts);
        let change = self.give_up_for_good(position, envelope.header.clone(), attempts, Ending::Skipped, reason);
        if self.record(vec![change], self.ground.durability).await? {
            let listener = &self.job.listener;
            self.ground.watch.tell(&Notice::Skipped { listener, position, reason });
        }
        self.close(&key, &pending, Some(&envelope)).await
    }
}

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Vec<Verdict> {
    // The listener's own panics are contained where it is called; of a batch the others are called again.
    vec![Verdict::Failed(Panicked::from_payload(panic).into())]
}
