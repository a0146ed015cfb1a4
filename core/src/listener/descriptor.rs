//! What a listener asks for, as data.

use std::any::TypeId;
use std::time::Duration;

use super::durable::{AckMode, Durable, Sequence};
use crate::error::StartError;
use crate::transaction::Phase;

/// Who listens to what, when and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Descriptor {
    /// The listener's id; unique on a bus.
    pub id: String,
    /// Ids a durable listener had before; its cursor is found under these too.
    pub formerly: Vec<String>,
    /// The name of the event.
    pub event: &'static str,
    /// The type of the event.
    pub event_type: &'static str,
    /// When it runs; a durable listener runs after the commit, on its own time.
    pub phase: Phase,
    /// Its place among the listeners of its phase; those without come last.
    pub order: Option<i32>,
    /// Whether it has a condition.
    pub conditional: bool,
    /// Whether it locks a key around its calls.
    pub locks: bool,
    /// What happens when its event is published without a unit of work.
    pub without_tx: WithoutTx,
    /// Where it runs.
    pub mode: Mode,
    /// Whether it is an `async fn`.
    pub is_async: bool,
    /// Whether it takes the unit of work.
    pub wants_tx: bool,
    /// Whether it takes a `Delivery` and settles it itself.
    pub wants_delivery: bool,
    /// Whether it takes an `Ack` and acknowledges by itself.
    pub wants_ack: bool,
    /// Whether it takes several events at once.
    pub takes_batch: bool,
    /// Whether it may answer with a `Decision`, as far as its answer says so.
    pub decides: bool,
    /// What makes it durable, if it is.
    pub durable: Option<Durable>,
    /// How long a call may take before the observer is told.
    pub slow_after: Option<Duration>,
    /// The nesting of the policies that its calls go through, and their pipeline's name.
    pub resilient: Option<String>,
    /// The module it is declared in; empty if it was declared by hand without one.
    pub module: &'static str,
    /// Where it is declared, as `file:line`.
    pub location: String,
    /// What else it needs from the bus.
    pub needs: Vec<Need>,
}

/// What happens to a phase-bound listener when its event is published without a unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutTx {
    /// Publishing is an error that names it.
    #[default]
    Refuse,
    /// It runs at once.
    Run,
}

/// Where a listener runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Where it is called: a `fn` at once, an `async fn` awaited in its place.
    #[default]
    InPlace,
    /// In the background, as a task of its own.
    Spawned,
    /// On the blocking pool: awaited in its place by the phases that await.
    Blocking,
}

/// Something a listener takes as a parameter and cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The type of the state.
    pub state: TypeId,
    /// Its name.
    pub name: &'static str,
}

impl Descriptor {
    /// Whether it is called inside `publish`, and nowhere else.
    pub(crate) fn is_immediate(&self) -> bool {
        self.phase == Phase::Immediate && self.durable.is_none() && self.mode == Mode::InPlace
    }

    /// Refuses what cannot work, with the legal forms. The macros refuse the same at compile time.
    pub(crate) fn check(&self, clones: bool) -> Result<(), StartError> {
        let refuse = |reason: &str| Err(StartError::Listener { listener: self.id.clone(), reason: reason.to_owned() });
        let after = matches!(self.phase, Phase::AfterCommit | Phase::AfterRollback | Phase::AfterCompletion);
        if self.durable.is_some() && (self.mode != Mode::InPlace || self.without_tx == WithoutTx::Run) {
            return refuse(
                "a durable listener has a time of its own: it takes neither `spawn`, `blocking` nor `without_tx`",
            );
        }
        if self.durable.is_some() && self.order.is_some() {
            return refuse("a durable listener has a cursor of its own, so that there is no `order` among them");
        }
        match &self.durable {
            Some(durable) => {
                if let Some(reason) = self.wrong_with(durable) {
                    return refuse(reason);
                }
            }
            None if self.wants_ack => return refuse("only a durable listener is given an `Ack`"),
            None if self.decides => return refuse("only a durable listener answers with a `Decision`"),
            None => {}
        }
        if self.durable.is_none() && self.wants_delivery {
            return refuse("only a durable listener is given a `Delivery`");
        }
        if self.wants_tx && self.wants_delivery {
            return refuse("it takes a `Delivery` and a `tx`: take the `tx` from `delivery.settle(async |tx| ..)`");
        }
        if self.durable.is_none() && self.wants_tx && after {
            return refuse(
                "the unit of work has ended when it runs, so there is no `tx`: use BeforeCommit, or begin another with a `Bus`",
            );
        }
        if self.wants_tx && self.mode != Mode::InPlace {
            return refuse("a `tx` cannot leave its unit of work: drop `spawn` or `blocking`, or the `tx`");
        }
        if self.mode == Mode::Spawned && self.phase == Phase::BeforeCommit {
            return refuse("the commit depends on a before-commit listener, so that it cannot run in the background");
        }
        if self.mode == Mode::Spawned && !self.is_async {
            return refuse("`spawn` is for an `async fn`; a `fn` goes to the background with `blocking`");
        }
        if self.mode == Mode::Blocking && self.is_async {
            return refuse("`blocking` is for a `fn`; an `async fn` goes to the background with `spawn`");
        }
        if self.phase == Phase::Immediate && self.is_async && self.mode == Mode::InPlace && self.durable.is_none() {
            return refuse("publishing does not wait: an immediate `async fn` needs `spawn`");
        }
        if self.without_tx == WithoutTx::Run {
            if self.phase == Phase::Immediate {
                return refuse("an immediate listener runs without a unit of work anyway: drop `without_tx`");
            }
            if self.wants_tx {
                return refuse("`without_tx = run` calls it where there is no `tx`");
            }
            if self.is_async && self.mode == Mode::InPlace {
                return refuse(
                    "`without_tx = run` calls it from a publish that does not wait: an `async fn` needs `spawn`",
                );
            }
        }
        if self.locks && self.durable.is_none() {
            if self.phase == Phase::Immediate {
                return refuse(
                    "publishing does not wait, not for a lock either: drop `lock`, or write `phase = BeforeCommit`",
                );
            }
            if self.mode != Mode::InPlace {
                return refuse(
                    "a lock is waited for where the call is awaited: drop `spawn` or `blocking`, or the `lock`",
                );
            }
            if self.without_tx == WithoutTx::Run {
                return refuse("`without_tx = run` calls it from a publish that does not wait: drop it, or the `lock`");
            }
        }
        if self.locks && self.takes_batch {
            return refuse("a lock is of one event's key: drop `lock`, or take one event");
        }
        let by_reference = self.phase == Phase::Immediate || self.without_tx == WithoutTx::Run;
        if by_reference && self.mode != Mode::InPlace && !clones {
            return refuse(
                "it runs in the background on an event that may be published by reference: declare it `.cloning()`",
            );
        }
        Ok(())
    }

    /// Why a durable listener cannot work, if it cannot.
    fn wrong_with(&self, durable: &Durable) -> Option<&'static str> {
        let owns_commit = self.wants_tx || self.wants_delivery;
        let wrong = [
            (durable.concurrency == 0, "its concurrency is 0: it would never be called"),
            (durable.look_ahead == 0, "it looks 0 events ahead: it would never be called"),
            (
                durable.sequence == Sequence::Total && durable.concurrency > 1,
                "a total order has one delivery at a time: drop `concurrency`, or the order",
            ),
            (
                durable.time_limit.is_some() && !self.is_async,
                "a time limit needs an `async fn`: a `fn` cannot be stopped",
            ),
            (
                durable.ack != AckMode::Record && owns_commit,
                "its own commit settles it: drop `ack`, or the `tx` or `Delivery`",
            ),
            (
                self.wants_ack != durable.ack.is_manual(),
                "an `Ack` and `ack = Manual` or `ManualImmediate` belong together: add the one that is missing",
            ),
            (self.wants_ack && self.takes_batch, "an `Ack` is for one event: drop it, or `batch`"),
            (
                self.takes_batch != durable.batch.is_some(),
                "`batch(max, linger)` and a listener of `&[Delivered<E>]` belong together: add the one that is missing",
            ),
            (self.takes_batch && self.wants_delivery, "a `Delivery` is of one event: take a `tx`, or drop `batch`"),
            (durable.batch.is_some_and(|batch| batch.max == 0), "its batches hold 0 events: it would never be called"),
            (
                matches!(durable.ack, AckMode::Count(0) | AckMode::CountOrTime(0, _)),
                "it is settled after 0 events: give it a count",
            ),
        ];
        let wrong = wrong.into_iter().find_map(|(is_wrong, reason)| is_wrong.then_some(reason));
        wrong.or_else(|| durable.redeliver.check().and_then(|()| durable.errors.check()).err())
    }
}
