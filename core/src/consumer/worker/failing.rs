//! What becomes of a call that failed: another one later, the fallback, or the end.

use std::sync::Arc;
use std::time::Duration;

use super::{Called, Worker};
use crate::clock::Timestamp;
use crate::consumer::lane::Tried;
use crate::error::{BoxError, Error, PolicyError, StoreError};
use crate::listener::{Class, Decision, GivenUp, Redeliver, chain, classify};
use crate::observe::Notice;
use crate::store::{CursorChange, ParkedCause, Redelivery};

/// What a policy refused does not come sooner, however short its waits are.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

impl From<Redelivery> for Tried {
    fn from(stored: Redelivery) -> Self {
        let Redelivery { attempts, counted, first_failed_at, kind, .. } = stored;
        Self { attempts, counted, first_failed_at, kind: kind.map(Arc::from) }
    }
}

impl Worker {
    /// A call failed. `together`: with others, and nobody knows which of them is to blame.
    pub(super) async fn failed(&mut self, called: Called, cause: &BoxError, together: bool) -> Result<(), StoreError> {
        let error = with_causes(cause);
        if let Some(given_up) = &called.pending.given_up {
            let both = format!("{}; its fallback failed: {error}", given_up.error);
            let attempts = given_up.attempts;
            return self.give_up(called, attempts, ParkedCause::Failed(both)).await;
        }
        let rules = &self.job.durable.errors;
        let (policy, kind) = match classify(rules, &self.ground.errors, &**cause) {
            Class::Redeliver => match refusal(cause) {
                Some(refusal) => {
                    self.refused(called, refusal, &error);
                    return Ok(());
                }
                None => (self.job.durable.redeliver, None),
            },
            Class::As(kind, policy) => (policy, Some(kind)),
            Class::Never => {
                let tried = self.tried(&called, None);
                return self.out_of_attempts(called, tried, error, together).await;
            }
            Class::Stop(kind) => {
                self.lanes.give_back(&called.key);
                self.halt(called.pending.position, &format!("`{kind}`: {error}"));
                return Ok(());
            }
        };
        let tried = self.tried(&called, kind);
        let wait = policy.backoff.spread(tried.counted, self.ground.chance.fraction());
        let due = self.ground.clock.now().saturating_add(wait);
        self.again_or_not(called, tried, policy, due, error, together).await
    }

    /// A policy did not let the call through: it comes again when the policy may, and nothing was tried.
    /// Nothing is recorded either, so that it comes at once after a restart.
    fn refused(&mut self, called: Called, refusal: &PolicyError, error: &str) {
        let Called { key, pending, .. } = called;
        let backoff = || self.job.durable.redeliver.backoff.spread(1, self.ground.chance.fraction());
        let wait = refusal.retry_after().unwrap_or_else(backoff).max(SHORTEST_WAIT);
        let due = self.ground.clock.now().saturating_add(wait);
        let (listener, position, attempts) = (&self.job.listener, pending.position, pending.tried.attempts);
        self.ground.watch.tell(&Notice::Redelivery { listener, position, attempts, due, error });
        self.lanes.wait(&key, position, pending.tried, pending.alone, due);
    }

    /// The listener decided by value.
    pub(super) async fn decided(&mut self, called: Called, decision: Decision) -> Result<(), StoreError> {
        let position = called.pending.position;
        match decision {
            Decision::Redeliver { after } => {
                let tried = self.tried(&called, None);
                let due = self.ground.clock.now().saturating_add(after);
                let policy = self.job.durable.redeliver;
                self.again_or_not(called, tried, policy, due, decision.to_string(), false).await
            }
            Decision::Park { reason } => {
                let attempts = called.pending.tried.attempts + 1;
                self.give_up(called, attempts, ParkedCause::Decided(reason)).await
            }
            Decision::Skip { reason } => self.skip(called, &reason).await,
            Decision::Fatal { reason } => {
                self.lanes.give_back(&called.key);
                self.halt(position, &reason);
                Ok(())
            }
            // As a value it never comes here; an `Err` of it undid what the listener wrote.
            Decision::Done => self.failed(called, &"it answered `Err` of `Decision::Done`".into(), false).await,
        }
    }

    /// What was tried, this call counted.
    fn tried(&self, called: &Called, kind: Option<&'static str>) -> Tried {
        let mut tried = called.pending.tried.clone();
        if tried.attempts == 0 {
            tried.first_failed_at = self.ground.clock.now();
        }
        let restarts = self.job.durable.errors.restarts_on_change() || self.ground.errors.restarts_on_change();
        if tried.kind.as_deref() != kind {
            tried.kind = kind.map(Arc::from);
            if restarts {
                tried.counted = 0;
            }
        }
        tried.attempts += 1;
        tried.counted += 1;
        tried
    }

    async fn again_or_not(
        &mut self,
        called: Called,
        tried: Tried,
        policy: Redeliver,
        due: Timestamp,
        error: String,
        together: bool,
    ) -> Result<(), StoreError> {
        let too_late = policy.within.is_some_and(|budget| due > tried.first_failed_at.saturating_add(budget));
        if tried.counted >= policy.attempts || too_late {
            return self.out_of_attempts(called, tried, error, together).await;
        }
        let Called { key, pending, .. } = called;
        let position = pending.position;
        self.ground.watch.tell(&Notice::Redelivery {
            listener: &self.job.listener,
            position,
            attempts: tried.attempts,
            due,
            error: &error,
        });
        if !pending.parked {
            let redelivery = Redelivery {
                position,
                attempts: tried.attempts,
                due,
                error,
                failed_at: self.ground.clock.now(),
                first_failed_at: tried.first_failed_at,
                counted: tried.counted,
                kind: tried.kind.as_deref().map(str::to_owned),
            };
            self.record(vec![CursorChange::Redeliver(redelivery)], self.ground.durability).await?;
        }
        self.lanes.wait(&key, position, tried, pending.alone, due);
        Ok(())
    }

    async fn out_of_attempts(
        &mut self,
        mut called: Called,
        tried: Tried,
        error: String,
        together: bool,
    ) -> Result<(), StoreError> {
        if together {
            // It may be another of the batch that fails: called by itself it shows.
            self.lanes.wait(&called.key, called.pending.position, tried, true, self.ground.clock.now());
            return Ok(());
        }
        if self.job.durable.has_fallback {
            called.pending.given_up = Some(GivenUp::new(tried.attempts, &error));
            self.call(vec![called], self.progress.asked());
            return Ok(());
        }
        self.give_up(called, tried.attempts, ParkedCause::Failed(error)).await
    }
}

/// What a policy answered in the place of a call, where it will let one through later.
fn refusal(cause: &BoxError) -> Option<&PolicyError> {
    let answers = chain(&**cause).find_map(|one| match one.downcast_ref() {
        Some(Error::Policy(answer)) => Some(answer),
        _ => one.downcast_ref(),
    });
    answers.filter(|answer| {
        matches!(
            answer,
            PolicyError::CircuitOpen { .. } | PolicyError::RateLimited { .. } | PolicyError::BulkheadFull { .. }
        )
    })
}

/// An error's text followed by those of its causes.
pub(super) fn with_causes(error: &BoxError) -> String {
    let mut text = String::new();
    for one in chain(&**error) {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&one.to_string());
    }
    text
}
