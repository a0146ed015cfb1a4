//! A run: one call after the other, each settled by itself, or several by one commit.

use std::sync::Arc;

use super::{Context, Core, DurableHandler, What, Work};
use crate::consumer::{Due, Run, Verdict};
use crate::error::{BoxError, Error, UnitError};
use crate::listener::chain;
use crate::transaction::{Failed, Tx};

impl Due {
    /// Whether nothing is special about it: its first call, whose condition was asked at publish.
    fn is_plain(&self) -> bool {
        self.attempt == 1 && !self.unasked && self.given_up.is_none() && !self.is_replayed
    }
}

impl DurableHandler {
    /// Whether one commit may settle several of its calls: those of a `fn` with a `tx`, which ends without anybody being waited for.
    pub(crate) fn shares_commits(&self) -> bool {
        let descriptor = self.listener.descriptor();
        descriptor.wants_tx && !descriptor.is_async && !descriptor.takes_batch
    }

    /// Calls it with one after the other; verdicts up to the first that is not done, or as far as the run went.
    pub(super) async fn run(&self, core: &Arc<Core>, due: Vec<Due>, run: &Run) -> Vec<Verdict> {
        if self.shares_commits() && due.iter().take_while(|due| due.is_plain()).count() > 1 {
            return self.together(core, due, run).await;
        }
        let mut verdicts = Vec::with_capacity(due.len());
        for (index, due) in due.into_iter().enumerate() {
            if !run.take_up(index) {
                break;
            }
            let verdict = self.one(core.clone(), due).await;
            run.put_down(index, &verdict);
            let is_done = verdict.is_done();
            verdicts.push(verdict);
            if !is_done {
                break;
            }
        }
        verdicts
    }

    /// Calls a `fn` that takes a `tx` with one after the other in one unit of work, each in a savepoint of its own, so that one commit
    /// settles them all: up to the first that fails, whose writes are undone, or that does more than write to the store.
    ///
    /// If that commit is refused, nothing of it was done, and the first is called by itself.
    async fn together(&self, core: &Arc<Core>, mut due: Vec<Due>, run: &Run) -> Vec<Verdict> {
        let (mut done, mut failed) = (0, None);
        let ended = core
            .unit_failing(
                None,
                async |tx: &mut Tx| -> Result<(), Work> {
                    while let Some(next) = due.get(done).filter(|next| next.is_plain() && run.take_up(done)) {
                        match self.in_savepoint(core, tx, next).await {
                            None => break,
                            Some(Ok(())) => done += 1,
                            // A limit that it met together with those before it is not its own.
                            Some(Err(Work::Listener(cause))) if done > 0 && is_too_much(&cause) => break,
                            Some(Err(Work::Listener(cause))) => {
                                // What it saw must still stand for its error to be believed.
                                tx.validate().await.map_err(Work::Bus)?;
                                failed = Some(self.failed(core, cause));
                                break;
                            }
                            // It may have met a limit together with those before it: called by itself it shows.
                            Some(Err(_)) => break,
                        }
                        if !tx.only_writes(core.durability) {
                            break;
                        }
                    }
                    if done == 0 { Err(Work::Nothing) } else { Ok(()) }
                },
                false,
            )
            .await;
        let refused = match ended {
            Ok(_) => None,
            Err(Failed::Work(Work::Nothing)) if failed.is_some() => None,
            Err(Failed::Work(Work::Nothing)) => Some(None),
            Err(error) => Some(self.verdict(core, done, Err(error))),
        };
        match refused {
            None => {
                let settled = std::iter::repeat_with(|| Verdict::Settled).take(done);
                run.put_down_all(settled.chain(failed).collect())
            }
            Some(Some(broken @ Verdict::Broken(_))) => vec![broken],
            Some(_) => run.put_down_all(vec![self.one(core.clone(), due.swap_remove(0)).await]),
        }
    }

    /// One call of several in a unit of work; `None` if its event cannot be decoded, which is to be said of it alone.
    async fn in_savepoint(&self, core: &Arc<Core>, tx: &mut Tx, due: &Due) -> Option<Result<(), Work>> {
        let event = self.listener.decode(&due.envelope).ok()?;
        let context = Context { metadata: due.envelope.header.metadata, core: core.clone() };
        tx.set_origin(context.metadata.origin());
        let settlement = self.settlement(due);
        let called = tx.savepoint(async |tx: &mut Tx| -> Result<(), Work> {
            tx.settle(settlement);
            match self.called(&context, What::One(&*event), Some(tx), &mut None).await.map_err(Work::Listener)? {
                Some(reply) => reply.publish(tx).map_err(Work::Bus),
                None => Ok(()),
            }
        });
        Some(called.await)
    }
}

/// Whether the unit of work held or wrote more than may be.
fn is_too_much(cause: &BoxError) -> bool {
    let mut errors = chain(&**cause).filter_map(|one| one.downcast_ref::<Error>());
    errors.any(|error| matches!(error, Error::Unit(UnitError::TooLarge { .. } | UnitError::TooManyWrites { .. })))
}

impl From<Error> for Work {
    fn from(error: Error) -> Self {
        Work::Bus(error)
    }
}
