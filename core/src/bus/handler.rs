//! Calling a durable listener for its worker: in a unit of work of its own, beside one, or with a delivery that it settles itself.

mod run;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::Core;
use super::ack::Ack;
use super::delivery::{Delivery, DeliveryId, SETTLED, SETTLING, Shared};
use crate::consumer::{Due, Handler, Run, Verdict};
use crate::error::{BoxError, Error, Panicked, StoreError, UnitError};
use crate::event::{Envelope, Metadata};
use crate::listener::{About, Call, Decision, Deliver, FailedAt, GivenUp, chain, decision, lock_for};
use crate::lock::{AnyKey, OwnedGuard};
use crate::observe::Measure;
use crate::store::Settlement;
use crate::transaction::step::{Called, answered};
use crate::transaction::{Answered, Failed, Reply, Tx, settle};

/// Calls one durable listener for its worker.
pub(crate) struct DurableHandler {
    /// Weak: the worker must not keep the bus alive.
    pub(crate) core: Weak<Core>,
    pub(crate) listener: Arc<dyn Deliver>,
    pub(crate) id: Arc<str>,
    pub(crate) time_limit: Option<Duration>,
    /// Whether the worker settles what was handled without a commit of its own.
    pub(crate) gathers: bool,
}

struct Context {
    metadata: Metadata,
    core: Arc<Core>,
}

impl About for Context {
    fn metadata(&self) -> Metadata {
        self.metadata
    }

    #[cfg(feature = "tracing")]
    fn published_in(&self) -> Option<tracing::span::Id> {
        self.core.links.of(self.metadata.id)
    }

    fn host(&self) -> Arc<dyn Any + Send + Sync> {
        self.core.as_host()
    }
}

/// The lock of a call without a unit of work.
type Held = Option<OwnedGuard<AnyKey>>;

/// What is called.
#[derive(Clone, Copy)]
enum What<'a> {
    One(&'a (dyn Any + Send + Sync)),
    /// The first so many of a batch.
    Several(&'a (dyn Any + Send + Sync), usize),
    Fallback(&'a (dyn Any + Send + Sync), &'a GivenUp),
}

impl Handler for DurableHandler {
    fn call(self: Arc<Self>, mut due: Vec<Due>, run: Run) -> BoxFuture<'static, Vec<Verdict>> {
        async move {
            let Some(core) = self.core.upgrade() else { return due.iter().map(|_| Verdict::Stopping).collect() };
            let is_fallback = due.first().is_some_and(|due| due.given_up.is_some());
            let verdicts = if self.listener.descriptor().takes_batch && !is_fallback {
                run.take_up_all();
                run.put_down_all(self.several(&core, due).await)
            } else if due.len() > 1 {
                self.run(&core, due, &run).await
            } else {
                run.take_up_all();
                match due.pop() {
                    Some(due) => run.put_down_all(vec![self.one(core.clone(), due).await]),
                    None => Vec::new(),
                }
            };
            if core.watch().is_measured() {
                verdicts.iter().for_each(|verdict| self.measure(&core, verdict));
            }
            verdicts
        }
        .boxed()
    }
}

impl DurableHandler {
    async fn one(&self, core: Arc<Core>, due: Due) -> Verdict {
        let event = match self.listener.decode(&due.envelope) {
            Ok(event) => event,
            Err(cause) => return Verdict::Undecodable(cause),
        };
        let context = Context { metadata: due.envelope.header.metadata, core };
        if due.unasked && !self.listener.accepts(&*event, self.call_of(&context, None)) {
            return Verdict::Declined;
        }
        let descriptor = self.listener.descriptor();
        if let Some(given_up) = &due.given_up {
            self.in_unit(&context, What::Fallback(&*event, given_up), &[self.settlement(&due)]).await
        } else if descriptor.wants_delivery {
            self.hand_over(&context, &*event, self.settlement(&due), due.attempt).await
        } else if descriptor.wants_ack {
            self.until_acknowledged(&context, &*event, self.settlement(&due), due.attempt).await
        } else if descriptor.wants_tx {
            self.in_unit(&context, What::One(&*event), &[self.settlement(&due)]).await
        } else {
            self.beside_unit(&context, What::One(&*event), || vec![self.settlement(&due)]).await
        }
    }

    fn measure(&self, core: &Core, verdict: &Verdict) {
        let listener = &*self.id;
        match verdict {
            Verdict::Settled | Verdict::Handled => core.watch().measure(&Measure::Delivered { listener }),
            Verdict::Failed(_) | Verdict::FailedTogether(_) | Verdict::FailedWithIt => {
                core.watch().measure(&Measure::Failed { listener });
            }
            _ => {}
        }
    }

    fn settlement(&self, due: &Due) -> Settlement {
        Settlement { listener: self.id.clone(), change: due.settles() }
    }

    fn call_of<'a>(&self, context: &'a Context, tx: Option<&'a mut Tx>) -> Call<'a> {
        Call { tx, around: &context.core.calls, about: context, delivery: None }
    }

    fn deliver<'a>(&'a self, what: What<'a>, mut call: Call<'a>) -> Called<'a> {
        match what {
            What::One(event) => self.listener.deliver(event, call),
            What::Several(events, count) => self.listener.deliver_batch(events, count, call),
            What::Fallback(event, given_up) => answered(self.listener.fall_back(event, given_up, &mut call)),
        }
    }

    /// Waits for the lock of the event's key, if the listener has one: held by the unit of work, or by `held`.
    async fn lock(
        &self,
        context: &Context,
        event: &(dyn Any + Send + Sync),
        tx: Option<&mut Tx>,
        held: &mut Held,
    ) -> Result<(), BoxError> {
        if let Some(key) = self.listener.lock_of(event) {
            *held = lock_for(&self.id, key, &context.core.calls, tx).await?;
        }
        Ok(())
    }

    /// Calls it within its time limit; a panic is its error. Without a unit of work its lock is in `held`.
    async fn called(&self, context: &Context, what: What<'_>, mut tx: Option<&mut Tx>, held: &mut Held) -> Answered {
        let called = async {
            if let What::One(event) = what {
                self.lock(context, event, tx.as_deref_mut(), held).await?;
            }
            let called = self.deliver(what, self.call_of(context, tx));
            let Some(limit) = self.time_limit else { return settle(called).await };
            tokio::select! {
                biased;
                answered = settle(called) => answered,
                () = context.core.clock().sleep(limit) => Err(TimedOut { limit }.into()),
            }
        };
        contained(called).await
    }

    /// Its writes and "done" are one commit.
    async fn in_unit(&self, context: &Context, what: What<'_>, settlements: &[Settlement]) -> Verdict {
        loop {
            let ended = context
                .core
                .unit_failing(
                    Some(context.metadata.origin()),
                    async |tx: &mut Tx| -> Result<(), Work> {
                        tx.set_name(self.id.clone());
                        settlements.iter().for_each(|settlement| tx.settle(settlement.clone()));
                        match self.called(context, what, Some(tx), &mut None).await.map_err(Work::Listener)? {
                            Some(reply) => reply.publish(tx).map_err(Work::Bus),
                            None => Ok(()),
                        }
                    },
                    true,
                )
                .await;
            match self.verdict(&context.core, settlements.len(), ended.map(drop)) {
                Some(verdict) => return verdict,
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// At least once: called first, settled after it, with what it answered published in the same commit.
    async fn beside_unit(
        &self,
        context: &Context,
        what: What<'_>,
        settlements: impl FnOnce() -> Vec<Settlement>,
    ) -> Verdict {
        // Until it is settled; what the worker settles later is not waited for.
        let mut held = None;
        match self.called(context, what, None, &mut held).await {
            Ok(None) if self.gathers => Verdict::Handled,
            Ok(reply) => self.settle_beside(context, settlements(), reply).await,
            Err(cause) => self.failed(&context.core, cause),
        }
    }

    /// Settles what was handled, unless the worker does.
    async fn settle_beside(
        &self,
        context: &Context,
        settlements: Vec<Settlement>,
        mut reply: Option<Box<dyn Reply>>,
    ) -> Verdict {
        if self.gathers && reply.is_none() {
            return Verdict::Handled;
        }
        let count = settlements.len();
        let ended = context
            .core
            .unit_failing(
                Some(context.metadata.origin()),
                async |tx: &mut Tx| -> Result<(), Work> {
                    settlements.into_iter().for_each(|settlement| tx.settle(settlement));
                    match reply.take() {
                        Some(reply) => reply.publish(tx).map_err(Work::Bus),
                        None => Ok(()),
                    }
                },
                false,
            )
            .await;
        // A conflict can only come from a listener of a reply; the event is called again, which at least once allows.
        self.verdict(&context.core, count, ended.map(drop))
            .unwrap_or_else(|| Verdict::Failed("the unit of work of its reply conflicts with another".into()))
    }

    /// The listener acknowledges when it likes.
    async fn until_acknowledged(
        &self,
        context: &Context,
        event: &(dyn Any + Send + Sync),
        settlement: Settlement,
        attempt: u32,
    ) -> Verdict {
        let id = DeliveryId { event: context.metadata.id, listener: self.id.clone() };
        let (ack, mut decided) = Ack::new(id, attempt);
        let mut ack = Some(ack);
        let mut call = self.call_of(context, None);
        call.delivery = Some(&mut ack);
        let mut held = None;
        let acknowledged = async {
            let answered = contained(async {
                self.lock(context, event, None, &mut held).await?;
                settle(self.listener.deliver(event, call)).await
            });
            let answered = answered.await;
            let decision = match &answered {
                Ok(_) => (&mut decided).await.map_err(|oneshot::error::RecvError { .. }| Unacknowledged.into()),
                // What it acknowledged before it failed stands.
                Err(_) => decided.try_recv().map_err(|_| BoxError::from(Unacknowledged)),
            };
            (answered, decision)
        };
        let (answered, decision) = match self.time_limit {
            None => acknowledged.await,
            Some(limit) => tokio::select! {
                biased;
                acknowledged = acknowledged => acknowledged,
                () = context.core.clock().sleep(limit) => (Err(TimedOut { limit }.into()), Err(Unacknowledged.into())),
            },
        };
        match (decision, answered) {
            (Ok(Decision::Done), answered) => {
                self.settle_beside(context, vec![settlement], answered.ok().flatten()).await
            }
            (Ok(decision), _) => Verdict::Decided(decision),
            (Err(_), Err(cause)) | (Err(cause), Ok(_)) => self.failed(&context.core, cause),
        }
    }

    /// The listener settles by itself.
    async fn hand_over(
        &self,
        context: &Context,
        event: &(dyn Any + Send + Sync),
        settlement: Settlement,
        attempt: u32,
    ) -> Verdict {
        let shared =
            Arc::new(Shared::new(context.core.clone(), self.id.clone(), context.metadata, attempt, settlement));
        let mut delivery = Some(Delivery::new(shared.clone()));
        let mut call = self.call_of(context, None);
        call.delivery = Some(&mut delivery);
        let called = async {
            let mut held = None;
            let running = async {
                self.lock(context, event, None, &mut held).await?;
                settle(self.listener.deliver(event, call)).await
            };
            let Some(limit) = self.time_limit else { return running.await };
            tokio::pin!(running);
            tokio::select! {
                biased;
                answered = &mut running => return answered,
                () = context.core.clock().sleep(limit) => {}
            }
            // The limit does not cut through a commit: the call is dropped before one, or after it.
            loop {
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if !shared.is(SETTLING) {
                    return Err(TimedOut { limit }.into());
                }
                tokio::select! {
                    biased;
                    answered = &mut running => return answered,
                    () = changed => {}
                }
            }
        };
        match contained(called).await {
            _ if shared.is(SETTLED) => Verdict::Settled,
            Ok(_) => Verdict::Failed("it answered without settling its delivery".into()),
            Err(cause) => self.failed(&context.core, cause),
        }
    }

    /// A batch: a verdict for each of `due`, in their order.
    async fn several(&self, core: &Arc<Core>, due: Vec<Due>) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = due.iter().map(|due| self.declined(core, due)).collect();
        let asked: Vec<&Due> =
            due.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none()).map(|(due, _)| due).collect();
        let mut came_to = self.batch(core, &asked).await.into_iter();
        verdicts.iter_mut().filter(|verdict| verdict.is_none()).for_each(|verdict| *verdict = came_to.next());
        let mut all_done = true;
        let in_turn = verdicts.into_iter().map(|verdict| match verdict {
            // Behind one that is not done nothing is closed: it is asked again at its turn.
            Some(Verdict::Declined) if !all_done => Verdict::NotCalled,
            verdict => {
                let verdict = verdict.unwrap_or(Verdict::NotCalled);
                all_done &= verdict.is_done();
                verdict
            }
        });
        in_turn.collect()
    }

    /// Whether the condition of a listener that came after the event was published says no.
    fn declined(&self, core: &Arc<Core>, due: &Due) -> Option<Verdict> {
        let event = due.unasked.then(|| self.listener.decode(&due.envelope).ok()).flatten()?;
        let context = Context { metadata: due.envelope.header.metadata, core: core.clone() };
        (!self.listener.accepts(&*event, self.call_of(&context, None))).then_some(Verdict::Declined)
    }

    async fn batch(&self, core: &Arc<Core>, due: &[&Due]) -> Vec<Verdict> {
        let Some(first) = due.first() else { return Vec::new() };
        let context = Context { metadata: first.envelope.header.metadata, core: core.clone() };
        let envelopes: Vec<(&Envelope, u32)> = due.iter().map(|due| (&*due.envelope, due.attempt)).collect();
        let (events, decoded, undecodable) = self.listener.decode_batch(&envelopes);
        let settlements: Vec<Settlement> = due.iter().map(|due| self.settlement(due)).collect();
        let mut verdicts = Vec::new();
        if decoded > 0 {
            verdicts = self.part(&context, &*events, decoded, &settlements).await;
        }
        let is_done = |verdict: &Verdict| matches!(verdict, Verdict::Settled | Verdict::Handled);
        if verdicts.len() == decoded && verdicts.iter().all(is_done) {
            verdicts.extend(undecodable.map(Verdict::Undecodable));
        }
        // What comes behind one that failed may be of its sequence: not yet.
        verdicts.resize_with(due.len(), || Verdict::NotCalled);
        verdicts
    }

    /// Calls it with the first `count` events; verdicts from the first on, as far as anything was found out.
    async fn part(
        &self,
        context: &Context,
        events: &(dyn Any + Send + Sync),
        count: usize,
        settlements: &[Settlement],
    ) -> Vec<Verdict> {
        let in_unit = self.listener.descriptor().wants_tx;
        let mut count = count;
        let mut failed_at: Option<Verdict> = None;
        loop {
            let what = What::Several(events, count);
            let verdict = if in_unit {
                self.in_unit(context, what, &settlements[..count]).await
            } else {
                self.beside_unit(context, what, || settlements[..count].to_vec()).await
            };
            let cause = match verdict {
                Verdict::Settled => return alike(count, || Verdict::Settled, failed_at),
                Verdict::Handled => return alike(count, || Verdict::Handled, failed_at),
                Verdict::Decided(decision) => return alike(count, || Verdict::Decided(decision.clone()), None),
                Verdict::Failed(cause) => cause,
                other => return vec![other],
            };
            let at = chain(&*cause).find_map(|one| one.downcast_ref::<FailedAt>()).map(|failed| failed.index);
            match at {
                Some(0) => return vec![Verdict::Failed(cause)],
                Some(at) if at < count && in_unit => {
                    // Its writes are undone: those before it are called again by themselves.
                    failed_at = Some(Verdict::Failed(cause));
                    count = at;
                }
                Some(at) if at < count => {
                    let before = self.settle_beside(context, settlements[..at].to_vec(), None).await;
                    return match before {
                        Verdict::Settled => alike(at, || Verdict::Settled, Some(Verdict::Failed(cause))),
                        Verdict::Handled => alike(at, || Verdict::Handled, Some(Verdict::Failed(cause))),
                        other => vec![other],
                    };
                }
                _ => {
                    let together = std::iter::repeat_with(|| Verdict::FailedWithIt).take(count - 1);
                    return std::iter::once(Verdict::FailedTogether(cause)).chain(together).collect();
                }
            }
        }
    }

    /// What a unit of work that settles so many deliveries came to; `None` if it is to be run again at once.
    fn verdict(&self, core: &Core, count: usize, ended: Result<(), Failed<Work>>) -> Option<Verdict> {
        let error = match ended {
            Ok(()) => return Some(Verdict::Settled),
            Err(Failed::Work(Work::Listener(cause))) => return Some(self.failed(core, cause)),
            Err(Failed::Work(Work::Bus(error)) | Failed::Unit(error)) => error,
            Err(Failed::Work(Work::Nothing)) => return None,
        };
        match error {
            Error::Unit(UnitError::Conflict { .. }) => None,
            // One of several was erased meanwhile: it drops out, and the others are called again.
            Error::Unit(UnitError::AlreadySettled { .. }) if count > 1 => Some(Verdict::NotCalled),
            Error::Unit(UnitError::AlreadySettled { .. }) => Some(Verdict::Settled),
            Error::Unit(UnitError::InDoubt { cause }) => Some(Verdict::Broken(cause)),
            // The storage's fault, not that of the event.
            Error::Store(
                cause @ (StoreError::Poisoned { .. }
                | StoreError::Closed
                | StoreError::Damaged { .. }
                | StoreError::Backend { .. }),
            ) => Some(Verdict::Broken(cause)),
            error => Some(self.failed(core, error.into())),
        }
    }

    fn failed(&self, core: &Core, cause: BoxError) -> Verdict {
        if let Some(decision) = decision(&*cause) {
            return Verdict::Decided(decision.clone());
        }
        match cause.downcast_ref::<Error>() {
            // Its own attempt to begin a unit met the shutdown: that says nothing about the event.
            Some(Error::Unit(UnitError::ShuttingDown)) if core.is_stopping() => Verdict::Stopping,
            Some(Error::Unit(UnitError::AlreadySettled { .. })) => Verdict::Settled,
            Some(Error::Store(cause @ (StoreError::Poisoned { .. } | StoreError::Closed))) => {
                Verdict::Broken(cause.clone())
            }
            _ => Verdict::Failed(cause),
        }
    }
}

/// A panic is an error here.
async fn contained(called: impl Future<Output = Answered>) -> Answered {
    AssertUnwindSafe(called).catch_unwind().await.unwrap_or_else(|panic| Err(Panicked::from_payload(&*panic).into()))
}

/// The same verdict `count` times, then another.
fn alike(count: usize, verdict: impl FnMut() -> Verdict, then: Option<Verdict>) -> Vec<Verdict> {
    std::iter::repeat_with(verdict).take(count).chain(then).collect()
}

/// What a delivery's unit of work failed with.
enum Work {
    Listener(BoxError),
    Bus(Error),
    /// There was none.
    Nothing,
}

/// A durable listener's call took longer than its `time_limit`.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than its time limit of {limit:?}")]
struct TimedOut {
    limit: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("its acknowledgment was dropped unused")]
struct Unacknowledged;
