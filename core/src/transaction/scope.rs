//! Scopes inside a unit of work: joined ones and savepoints.

use std::ops::{Deref, DerefMut};

use super::{Doom, Tx};
use crate::error::Error;

impl Tx {
    /// Runs `work` as a part of this unit of work, sharing its fate.
    ///
    /// # Errors
    /// The error of `work`, at once. It also marks the whole unit rollback-only: swallowing it does not save the unit,
    /// whose caller then gets [`UnitError::RollbackOnly`](crate::error::UnitError::RollbackOnly).
    ///
    /// # Cancel safety
    /// Dropped before `work` ended, the unit is rollback-only.
    pub async fn nested<T, E>(&mut self, work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>) -> Result<T, E> {
        let depth = self.savepoints;
        let mut scope = Scope { tx: self, depth, unfinished: Some("a nested scope was dropped before it ended") };
        let answer = work(&mut scope).await;
        scope.unfinished = None;
        if answer.is_err() {
            scope.set_rollback_only("a nested scope failed");
        }
        answer
    }

    /// Runs `work`; if it fails, undoes its rows and events and lets the unit go on.
    ///
    /// Locks taken inside stay held. After-rollback and after-completion listeners of the undone events run when the unit ends.
    /// An error of an immediate listener inside does not harm the unit, as it is undone with the rest.
    ///
    /// # Errors
    /// The error of `work`, after everything it did was undone; or the store's, if it has no savepoints or lost its connection.
    ///
    /// # Cancel safety
    /// Dropped before `work` ended, the unit is rollback-only.
    pub async fn savepoint<T, E: From<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        // The store may have it or not: nobody could undo the right one any more, whatever savepoints stand around it.
        let mut scope = Scope { tx: self, depth: 0, unfinished: Some("a savepoint was not brought to its end") };
        let answer = async {
            scope.unit().map_err(Error::from)?.savepoint().await.map_err(Error::from)?;
            let synchronizations = scope.synchronizations.mark();
            let (events, event_bytes, settlements) = (scope.events.len(), scope.event_bytes, scope.settlements.len());
            let depth = scope.savepoints + 1;
            scope.savepoints = depth;
            let answer = work(&mut scope).await;
            // Something inside may have failed and been swallowed: then the scope cannot be kept either.
            let doomed = scope.doomed.take_if(|doom| doom.savepoints >= depth);
            scope.savepoints = depth - 1;
            let answer = match (answer, doomed) {
                (Ok(_), Some(doom)) => {
                    Err(Error::from(crate::error::UnitError::RollbackOnly { reason: doom.reason }).into())
                }
                (answer, _) => answer,
            };
            if answer.is_ok() {
                scope.unit().map_err(Error::from)?.release_savepoint().await.map_err(Error::from)?;
            } else {
                scope.unit().map_err(Error::from)?.roll_back_to_savepoint().await.map_err(Error::from)?;
                scope.synchronizations.roll_back_to(synchronizations);
                scope.events.truncate(events);
                scope.settlements.truncate(settlements);
                scope.event_bytes = event_bytes;
            }
            scope.unfinished = None;
            answer
        }
        .await;
        drop(scope);
        answer
    }
}

/// Marks the unit rollback-only unless the scope ended in good order.
struct Scope<'a> {
    tx: &'a mut Tx,
    /// How deep in savepoints the mark is set: one that stands around it contains it.
    depth: usize,
    unfinished: Option<&'static str>,
}

impl Deref for Scope<'_> {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        self.tx
    }
}

impl DerefMut for Scope<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        self.tx
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let Some(reason) = self.unfinished else { return };
        // What was marked outside of here weighs more.
        if self.tx.doomed.as_ref().is_none_or(|doom| doom.savepoints > self.depth) {
            self.tx.doomed = Some(Doom { reason: reason.to_owned(), savepoints: self.depth });
        }
    }
}
