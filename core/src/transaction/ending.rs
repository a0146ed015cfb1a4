//! The end of a unit of work: before-commit rounds, the commit itself, the after-phases.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt;

use super::step::{Answered, Called, Descent, Reply, Spawned, Steps};
use super::synchronization::{Entry, Run, Synchronizations, What};
use super::{Outcome, Phase, Surroundings, Tx};
use crate::clock::Stopwatch;
use crate::error::{AfterError, BoxError, Error, ListenerError, Panicked, UnitError};
use crate::observe::{Measure, Notice};
use crate::store::{CommitError, CommitRequest, Receipt, Unit};

/// How many of the last events of an endless drain are named.
const NAMED: usize = 8;

/// Calls before-commit listeners and hooks, round by round, until none is left.
pub(super) async fn before_commit(tx: &mut Tx) -> Result<(), Error> {
    let depth = tx.around.limits.depth;
    let mut names: Vec<String> = Vec::new();
    for round_number in 0..depth {
        let round = tx.synchronizations.take_before_round();
        if round.is_empty() {
            return Ok(());
        }
        // Only the last rounds can end up in the error.
        if round_number + NAMED >= depth {
            names.extend(round.iter().map(|entry| name_of(&tx.synchronizations, entry)));
        }
        let mut replies: Vec<(Arc<dyn Steps>, Box<dyn Reply>)> = Vec::new();
        for entry in round {
            match entry.what {
                What::Hook(index) => {
                    if let Some(hook) = tx.synchronizations.take_before_hook(index) {
                        contained(async { hook(tx) })
                            .await
                            .map_err(|cause| ListenerError::new("hook", "before commit", cause))?;
                    }
                }
                What::Listeners(mut run) => {
                    let steps = tx.synchronizations.event(run.event).clone();
                    while let Some(listener) = run.next() {
                        let outer = tx.set_handling(Some(steps.clone()));
                        let answered = contained(async {
                            if run.elsewhere {
                                steps.clone().elsewhere(Phase::BeforeCommit, listener, &mut Vec::new()).await
                            } else {
                                steps.before_commit(listener, tx).await
                            }
                        })
                        .await;
                        tx.set_handling(outer);
                        let reply = answered.map_err(|cause| {
                            ListenerError::new(steps.listener(Phase::BeforeCommit, listener), steps.event(), cause)
                        })?;
                        replies.extend(reply.map(|reply| (steps.clone(), reply)));
                    }
                }
            }
        }
        for (cause, reply) in replies {
            let outer = tx.set_handling(Some(cause));
            let published = reply.publish(tx);
            tx.set_handling(outer);
            published?;
        }
    }
    if tx.synchronizations.take_before_round().is_empty() {
        return Ok(());
    }
    names.dedup();
    names.drain(..names.len().saturating_sub(NAMED));
    Err(UnitError::Endless { depth, cycle: names }.into())
}

fn name_of(synchronizations: &Synchronizations, entry: &Entry) -> String {
    match entry.what {
        What::Hook(_) => "hook".to_owned(),
        What::Listeners(run) => synchronizations.event(run.event).event().to_owned(),
    }
}

/// A unit of work on its last way: it owns everything, so that it can go on without its caller.
pub(super) struct Ending {
    tx: Tx,
    decision: Outcome,
    finished: bool,
}

/// What a unit of work came to.
pub(super) struct Ended {
    pub(super) receipt: Result<Receipt, Error>,
    pub(super) after_errors: Vec<AfterError>,
    pub(super) spawned: Vec<Spawned>,
}

impl Ending {
    pub(super) fn new(tx: Tx, decision: Outcome) -> Self {
        Self { tx, decision, finished: false }
    }

    /// Commits or rolls back, tells subscribers, releases the locks, runs the after-phases.
    pub(super) async fn finish(mut self) -> Ended {
        let unit = self.tx.unit.take();
        let request = CommitRequest {
            durability: self.tx.durability,
            events: std::mem::take(&mut self.tx.events),
            settlements: std::mem::take(&mut self.tx.settlements),
        };
        let (outcome, receipt) = decide(unit, request, self.decision, &self.tx.around).await;
        let spawned = std::mem::take(&mut self.tx.spawned);
        let mut ended = Ended { receipt, after_errors: Vec::new(), spawned };
        let at_commit = self.tx.synchronizations.take_at_commit();
        if outcome == Outcome::Committed && !at_commit.is_empty() {
            after_phase(&mut self.tx, Phase::AfterCommit, outcome, at_commit, &mut ended).await;
        }
        // The outcome is durable now, so whoever waits for these locks sees it.
        self.tx.held.clear();
        if self.tx.synchronizations.has_after() {
            after_phases(&mut self.tx, outcome, &mut ended).await;
        }
        self.finished = true;
        ended
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.finished && self.tx.synchronizations.has_after() {
            // Only the end of the runtime takes an ending away: the store's answer stands, the after-phases never ran.
            self.tx.around.watch.tell(&Notice::Abandoned { what: "the after-phases of a unit of work" });
        }
    }
}

async fn decide(
    unit: Option<Box<dyn Unit>>,
    request: CommitRequest,
    decision: Outcome,
    around: &Surroundings,
) -> (Outcome, Result<Receipt, Error>) {
    let Some(unit) = unit else {
        return (Outcome::RolledBack, Ended::without_receipt());
    };
    if decision != Outcome::Committed {
        if let Err(error) = unit.roll_back().await {
            around.watch.tell(&Notice::Abandoned { what: &format!("a rollback: {error}") });
        }
        return (Outcome::RolledBack, Ended::without_receipt());
    }
    let delivery = request.settlements.first().map(|settlement| settlement.listener.clone());
    let begun = around.watch.is_measured().then(Stopwatch::start);
    let answer = unit.commit(request).await;
    if let Some(begun) = begun {
        let group = answer.as_ref().map_or(0, |receipt| receipt.group);
        around.watch.measure(&Measure::Committed { took: begun.elapsed(), group, failed: answer.is_err() });
    }
    match answer {
        Ok(receipt) => (Outcome::Committed, Ok(receipt)),
        Err(CommitError::Refused(error)) => {
            tell_conflict(&error, delivery.as_deref(), around);
            (Outcome::RolledBack, Err(error))
        }
        Err(CommitError::InDoubt(cause)) => {
            around.watch.tell(&Notice::InDoubt { cause: &cause });
            (Outcome::InDoubt, Err(UnitError::InDoubt { cause }.into()))
        }
    }
}

/// Tells a conflict to the observer, with the durable listener whose delivery met it.
pub(super) fn tell_conflict(error: &Error, listener: Option<&str>, around: &Surroundings) {
    if let Error::Unit(UnitError::Conflict { what }) = error {
        around.watch.tell(&Notice::Conflict { what, listener });
    }
}

async fn after_phases(tx: &mut Tx, outcome: Outcome, ended: &mut Ended) {
    match outcome {
        Outcome::Committed => {
            let entries = tx.synchronizations.take_after(Phase::AfterCommit);
            after_phase(tx, Phase::AfterCommit, outcome, entries, ended).await;
            let entries = tx.synchronizations.take_undone();
            after_phase(tx, Phase::AfterRollback, outcome, entries, ended).await;
        }
        Outcome::RolledBack => {
            let entries = tx.synchronizations.take_after(Phase::AfterRollback);
            after_phase(tx, Phase::AfterRollback, outcome, entries, ended).await;
        }
        Outcome::InDoubt => {}
    }
    let entries = tx.synchronizations.take_after(Phase::AfterCompletion);
    after_phase(tx, Phase::AfterCompletion, outcome, entries, ended).await;
}

async fn after_phase(tx: &mut Tx, phase: Phase, outcome: Outcome, entries: Vec<Entry>, ended: &mut Ended) {
    let mut calls = Calls { phase, outcome, entries: entries.into_iter(), run: None, replies: Vec::new() };
    // Contained as a whole: what fails or panics is left behind, and the next listener is called.
    while let Err(cause) = contained(calls.go_on(&mut tx.synchronizations, &mut ended.spawned)).await {
        report(tx, ended, calls.failed(&tx.synchronizations, cause));
    }
    for (run, reply) in calls.replies {
        let steps = tx.synchronizations.event(run.event).clone();
        let descent = Descent { origin: Some(steps.origin()), depth: tx.depth + 1 };
        if let Err(error) = reply.publish_alone(tx.host.clone(), descent).await {
            let error = AfterError::new(steps.listener(phase, run.last()), phase.name(), error.into());
            report(tx, ended, error.on(steps.event()));
        }
    }
}

/// The calls of one after-phase, and how far they have come.
struct Calls {
    phase: Phase,
    outcome: Outcome,
    entries: std::vec::IntoIter<Entry>,
    /// The listeners that are being called; none while it is a hook.
    run: Option<Run>,
    replies: Vec<(Run, Box<dyn Reply>)>,
}

impl Calls {
    /// Calls what has not been called, up to the end or to the first that fails.
    async fn go_on(
        &mut self,
        synchronizations: &mut Synchronizations,
        spawned: &mut Vec<Spawned>,
    ) -> Result<(), BoxError> {
        loop {
            if let Some(run) = &mut self.run {
                let shared = synchronizations.event(run.event);
                if run.elsewhere {
                    while let Some(listener) = run.next() {
                        if let Some(reply) = shared.clone().elsewhere(self.phase, listener, spawned).await? {
                            self.replies.push((*run, reply));
                        }
                    }
                } else {
                    let mut call = pin!(None);
                    while let Some(reply) =
                        poll_fn(|context| shared.after(self.phase, run, call.as_mut(), context)).await?
                    {
                        self.replies.push((*run, reply));
                    }
                }
            }
            self.run = None;
            match self.entries.next().map(|entry| entry.what) {
                Some(What::Listeners(run)) => self.run = Some(run),
                Some(What::Hook(index)) => {
                    if let Some(hook) = synchronizations.take_after_hook(index) {
                        hook(self.outcome).await?;
                    }
                }
                None => return Ok(()),
            }
        }
    }

    /// The error of who was called last.
    fn failed(&self, synchronizations: &Synchronizations, cause: BoxError) -> AfterError {
        match &self.run {
            Some(run) => {
                let steps = synchronizations.event(run.event);
                AfterError::new(steps.listener(self.phase, run.last()), self.phase.name(), cause).on(steps.event())
            }
            None => AfterError::new("hook", self.phase.name(), cause),
        }
    }
}

fn report(tx: &Tx, ended: &mut Ended, error: AfterError) {
    tx.around.watch.tell(&Notice::AfterFailed { error: &error, spawned: false });
    ended.after_errors.push(error);
}

/// Awaits a call; a panic becomes an error.
pub(crate) async fn settle(call: Called<'_>) -> Answered {
    contained(call).await
}

/// Awaits `work`; a panic becomes an error.
async fn contained<T>(work: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(Panicked::from_payload(&*panic).into()))
}
