//! Calls: who comes next, what the call is given, and what becomes of what it came to.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::{Called, Worker};
use crate::clock::Timestamp;
use crate::consumer::ack::Kept;
use crate::consumer::lane::{LaneKey, Pending};
use crate::consumer::{Due, Verdict};
use crate::error::{BoxError, Panicked, StoreError};
use crate::event::Envelope;
use crate::listener::AckMode;
use crate::observe::Notice;
use crate::store::{CursorChange, Durability, Ending, ParkedCause};

impl Worker {
    /// Calls what may be called, as far as the concurrency allows.
    pub(super) async fn call_ready(&mut self) -> Result<(), StoreError> {
        let most = self.job.durable.batch.map_or(1, |batch| batch.max);
        while self.calls.len() < self.job.durable.concurrency && self.is_active() {
            // What is erased must not be called once that was answered.
            while self.progress.is_asked()
                && let Ok(command) = self.inbox.try_recv()
            {
                self.obey(command).await?;
            }
            let Some(next) = self.lanes.first_ready().filter(|_| self.is_active()) else { break };
            let suspicious = !self.marked.is_empty() || (self.under_suspicion > 0 && next <= self.suspected_to);
            if suspicious {
                if self.lanes.called() > 0 {
                    // One at a time, until what may have ended the process has come back.
                    return Ok(());
                }
                let taken = self.lanes.take(1);
                for called in self.load_all(taken).await? {
                    self.call_suspect(called).await?;
                }
                if self.ground.stop.is_stopping() {
                    return Ok(());
                }
                continue;
            }
            if !self.is_batch_due() {
                return Ok(());
            }
            let taken = self.lanes.take(most);
            self.lingering = None;
            let called = self.load_all(taken).await?;
            if !called.is_empty() {
                self.call(called);
            }
        }
        if !self.lanes.has_ready() {
            self.lingering = None;
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

    /// The deliveries with their events, without those whose event is gone.
    async fn load_all(&mut self, taken: Vec<(LaneKey, Pending)>) -> Result<Vec<Called>, StoreError> {
        let mut loaded = Vec::with_capacity(taken.len());
        for (key, pending) in taken {
            match self.load_event(&pending).await? {
                Some(envelope) => loaded.push(Called { key, pending, envelope, ticket: 0 }),
                None => {
                    // Pruned under our feet can only be what is settled; so is what was erased.
                    self.marked.remove(&pending.position);
                    self.close(&key, &pending, None).await?;
                }
            }
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

    pub(super) fn call(&mut self, mut called: Vec<Called>) {
        called.iter_mut().for_each(|one| self.take_in_hand(one));
        let due = called.iter().map(|one| self.due(one)).collect();
        let call = self.job.handler.clone().call(due);
        let tracked = self.ground.activity.track(self.job.listener.clone(), call);
        self.calls.spawn(async move {
            let verdicts = AssertUnwindSafe(tracked).catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic));
            (called, verdicts)
        });
    }

    /// Says that a call begins.
    fn take_in_hand(&self, called: &mut Called) {
        let Pending { position, tried, parked, .. } = &called.pending;
        let now = self.ground.clock.now();
        called.ticket = self.progress.desk().begin(*position, tried.attempts + 1, now, *parked);
    }

    fn due(&self, called: &Called) -> Due {
        let position = called.pending.position;
        let covers = match self.job.durable.ack {
            AckMode::Record => self.known.stretch(position.0),
            // What is known may be handled without being settled.
            _ => position.0..position.0 + 1,
        };
        let settle = match called.pending.parked {
            true => CursorChange::Resolved { position },
            false => CursorChange::Done { position, covers },
        };
        Due {
            envelope: called.envelope.clone(),
            attempt: called.pending.tried.attempts + 1,
            settle,
            unasked: called.envelope.header.scheduled || (!called.pending.parked && self.known.is_unasked(position.0)),
            given_up: called.pending.given_up.clone(),
        }
    }

    /// Calls a delivery that may have ended the process: marked on the disk, and alone among all listeners.
    async fn call_suspect(&mut self, mut called: Called) -> Result<(), StoreError> {
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
        let crashes = self.marked.remove(&position).unwrap_or(0);
        self.under_suspicion = self.under_suspicion.saturating_sub(1);
        let limit = self.ground.crash_limit;
        if limit > 0 && crashes >= limit {
            let attempts = called.pending.tried.attempts;
            return self.give_up(called, attempts, ParkedCause::Crashed(crashes)).await;
        }
        let mark = CursorChange::Suspect { position, count: crashes + 1 };
        self.record(vec![mark], self.ground.durability.max(Durability::Flush)).await?;
        self.take_in_hand(&mut called);
        let call = self.job.handler.clone().call(vec![self.due(&called)]);
        let call = self.ground.activity.track(self.job.listener.clone(), call);
        let verdicts = AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic));
        drop(alone);
        self.record(vec![CursorChange::Cleared { position }], Durability::Buffered).await?;
        self.take_in(vec![called], verdicts).await
    }

    /// Takes in what a call came to: a verdict for each delivery, in their order.
    pub(super) async fn take_in(&mut self, called: Vec<Called>, verdicts: Vec<Verdict>) -> Result<(), StoreError> {
        let several = called.len() > 1;
        let mut blamed: Option<BoxError> = None;
        let mut verdicts = verdicts.into_iter();
        for one in called {
            let (position, ticket) = (one.pending.position, one.ticket);
            match verdicts.next().unwrap_or(Verdict::NotCalled) {
                Verdict::Settled => {
                    self.failures = 0;
                    self.close(&one.key, &one.pending, Some(&one.envelope)).await?;
                }
                Verdict::Handled => self.handled(one).await?,
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
            self.progress.desk().end(position, ticket);
        }
        Ok(())
    }

    /// It was handled outside the store, and is settled when its time comes.
    async fn handled(&mut self, called: Called) -> Result<(), StoreError> {
        self.failures = 0;
        let Called { key, pending, envelope, ticket } = called;
        self.progress.desk().handled(pending.position, ticket);
        let kept = match (pending.parked, pending.tried.attempts) {
            (true, _) => Kept::Parked,
            (false, 0) => Kept::Nothing,
            (false, _) => Kept::Redelivery,
        };
        self.acks.add(pending.position, kept, self.ground.clock.now());
        self.close(&key, &pending, Some(&envelope)).await
    }

    /// A delivery is out of the worker's hands: settled, handled, or gone.
    pub(super) async fn close(
        &mut self,
        key: &LaneKey,
        pending: &Pending,
        envelope: Option<&Envelope>,
    ) -> Result<(), StoreError> {
        self.lanes.done(key);
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

fn panicked(panic: &(dyn std::any::Any + Send)) -> Vec<Verdict> {
    // The listener's own panics are contained where it is called; of a batch the others are called again.
    vec![Verdict::Failed(Panicked::from_payload(panic).into())]
}
