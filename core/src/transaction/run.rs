//! One unit of work from its beginning to its outcome.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

use super::ending::{self, Ended, Ending};
use super::step::Spawned;
use super::{Outcome, Surroundings, Tx};
use crate::error::{AfterError, Error, UnitError};
use crate::store::{Position, Receipt};

/// The value of a committed unit of work, and what its after-phases came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure answered.
    pub value: T,
    /// What awaited after-commit and after-completion listeners and hooks answered when they failed. The commit stands all the same.
    pub after_errors: Vec<AfterError>,
    /// Where the unit's events stand in the log, in the order they were published; empty if it stored none.
    pub positions: Vec<Position>,
    spawned: Vec<Spawned>,
}

impl<T> Committed<T> {
    /// Waits until the unit's spawned listeners are done, and answers the errors of those that failed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the listeners running.
    pub async fn settled(self) -> Vec<AfterError> {
        let mut errors = Vec::new();
        for spawned in self.spawned {
            // A task that was cut off by the end of the runtime has no answer to give.
            if let Ok(Some(error)) = spawned.await {
                errors.push(error);
            }
        }
        errors
    }
}

/// Why a unit of work did not commit.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    /// Its closure said so.
    Work(E),
    /// The unit itself could not.
    Unit(Error),
}

impl<E: From<Error>> Failed<E> {
    pub(crate) fn into_error(self) -> E {
        match self {
            Failed::Work(error) => error,
            Failed::Unit(error) => error.into(),
        }
    }
}

/// Runs `work` in `tx` and ends it: commits if all is well, rolls back otherwise.
pub(crate) async fn run<T, E>(
    tx: Tx,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    check_first: bool,
) -> Result<Committed<T>, Failed<E>> {
    let around = tx.around.clone();
    let mut open = Open(Some(tx));
    let answer = work(open.tx()).await;
    let verdict = match answer {
        Err(error) if check_first => match open.tx().validate().await {
            // What the closure saw no longer stands, so neither does its error.
            Err(conflict) if conflict.is_conflict() => {
                let delivery = open.tx().settlements.first().map(|settlement| settlement.listener.clone());
                ending::tell_conflict(&conflict, delivery.as_deref(), &around);
                Err(Failed::Unit(conflict))
            }
            _ => Err(Failed::Work(error)),
        },
        Err(error) => Err(Failed::Work(error)),
        Ok(value) => open.tx().ready_to_commit().await.map(|()| value).map_err(Failed::Unit),
    };
    let decision = if verdict.is_ok() { Outcome::Committed } else { Outcome::RolledBack };
    let ended = Handed::over(open.close(decision), around).await;
    match verdict {
        Err(error) => Err(error),
        Ok(value) => {
            let receipt = ended.receipt.map_err(Failed::Unit)?;
            Ok(Committed {
                value,
                after_errors: ended.after_errors,
                positions: receipt.positions,
                spawned: ended.spawned,
            })
        }
    }
}

impl Tx {
    /// Whether what was read so far still stands; a conflict if not.
    pub(crate) async fn validate(&mut self) -> Result<(), Error> {
        self.unit()?.validate().await.map_err(|error| error.into_error())
    }

    /// Runs everything that comes before the commit.
    async fn ready_to_commit(&mut self) -> Result<(), Error> {
        self.check_doom()?;
        ending::before_commit(self).await?;
        self.check_doom()
    }

    fn check_doom(&self) -> Result<(), Error> {
        match self.rollback_only() {
            Some(reason) => Err(UnitError::RollbackOnly { reason: reason.to_owned() }.into()),
            None => Ok(()),
        }
    }
}

/// A unit of work that has not been handed over: dropped or unwound, it rolls back, its after-phases in the background.
struct Open(Option<Tx>);

impl Open {
    fn tx(&mut self) -> &mut Tx {
        match &mut self.0 {
            Some(tx) => tx,
            None => unreachable!("a unit of work was used after it was closed"),
        }
    }

    fn close(mut self, decision: Outcome) -> Ending {
        match self.0.take() {
            Some(tx) => Ending::new(tx, decision),
            None => unreachable!("a unit of work was closed twice"),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(tx) = self.0.take() {
            let around = tx.around.clone();
            let ending = Ending::new(tx, Outcome::RolledBack);
            around.runtime.spawn(ending.finish());
        }
    }
}

/// A unit of work that was handed over: its ending goes on by itself if whoever waits for it goes away.
struct Handed {
    ending: Option<BoxFuture<'static, Ended>>,
    around: Arc<Surroundings>,
}

impl Handed {
    fn over(ending: Ending, around: Arc<Surroundings>) -> Self {
        Self { ending: Some(Box::pin(ending.finish())), around }
    }
}

impl Future for Handed {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.ending {
            Some(ending) => {
                let ended = std::task::ready!(ending.as_mut().poll(context));
                self.ending = None;
                Poll::Ready(ended)
            }
            None => unreachable!("an ending was polled after it had ended"),
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.around.runtime.spawn(ending);
        }
    }
}

impl Ended {
    /// A unit that had nothing to commit or was rolled back.
    pub(super) fn without_receipt() -> Result<Receipt, Error> {
        Ok(Receipt::default())
    }
}
