//! Changing what is kept for durable listeners while no bus delivers to them: for programs that look after a store.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;

use super::query::Query;
use crate::clock::Timestamp;
use crate::error::{Error, StoreError, UnitError};
use crate::store::{
    CommitError, CommitRequest, CursorChange, Durability, Ending, GivenUp, ListenerRecord, Parked, ParkedCause, Paused,
    Position, Settlement, Store,
};

/// How many dead letters, which come with their events, are read and changed at once.
const PAGE: usize = 16;

/// Changes what is kept for durable listeners of a store that no bus has: one that has would not know of it.
///
/// Nobody is called. What is asked for here a bus takes up when it starts on the store.
#[derive(Clone)]
pub struct Offline {
    store: Arc<dyn Store>,
    now: Timestamp,
}

/// What became of asking for dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Asked {
    /// How many will be called again once their listener runs.
    pub asked: u64,
    /// How many stay as they are, because they wait behind another of their sequence that was not asked for.
    pub behind: u64,
}

impl Offline {
    /// Changes `store`; what is noted is of this moment.
    pub fn new(store: Arc<dyn Store>, now: Timestamp) -> Self {
        Self { store, now }
    }

    /// Asks for the dead letters that `query` wants to be called again once their listeners run, whatever states it names.
    ///
    /// They are then called in order within their sequence, as far as those before them are: one that fails again stays dead with
    /// its new cause, and so does what follows it, and was asked for once. Asked for twice is asked for once.
    ///
    /// # Errors
    /// The store's; those before stay asked for.
    pub async fn replay(&self, query: &Query) -> Result<Asked, StoreError> {
        let mut asked = Asked::default();
        for listener in self.listeners(query).await? {
            // The heads of sequences that stay as they are.
            let mut staying: BTreeSet<Position> = BTreeSet::new();
            let mut from = Position(0);
            loop {
                let page = self.store.parked_from(&listener, from, PAGE).await?;
                let Some(last) = page.last() else { break };
                from = last.position.next();
                let mut changes = Vec::new();
                for parked in page {
                    let (head, is_behind) = match parked.cause {
                        ParkedCause::Behind(first) => (first, staying.contains(&first)),
                        _ => (parked.position, false),
                    };
                    if !query.wants_parked(&parked) {
                        if parked.asked.is_none() {
                            staying.insert(head);
                        }
                    } else if is_behind {
                        asked.behind += 1;
                    } else {
                        asked.asked += 1;
                        changes.push(CursorChange::StillParked(Parked { asked: Some(self.now), ..parked }));
                    }
                }
                self.commit(&listener, changes).await?;
            }
        }
        Ok(asked)
    }

    /// Removes the dead letters that `query` wants for good, whatever states it names, with a note of why. Answers how many.
    ///
    /// What is parked behind them stays parked.
    ///
    /// # Errors
    /// The store's; those before are gone.
    pub async fn discard(&self, query: &Query, reason: &str) -> Result<u64, StoreError> {
        let mut discarded = 0;
        for listener in self.listeners(query).await? {
            let mut from = Position(0);
            loop {
                let page = self.store.parked_from(&listener, from, PAGE).await?;
                let Some(last) = page.last() else { break };
                from = last.position.next();
                let wanted = page.into_iter().filter(|parked| query.wants_parked(parked));
                let changes: Vec<CursorChange> = wanted.map(|parked| self.discarded(parked, reason)).collect();
                discarded += changes.len() as u64;
                self.commit(&listener, changes).await?;
            }
        }
        Ok(discarded)
    }

    fn discarded(&self, parked: Parked, reason: &str) -> CursorChange {
        let Parked { listener, position, attempts, envelope, .. } = parked;
        let (how, reason, header) = (Ending::Discarded, reason.to_owned(), envelope.header);
        let given_up = GivenUp { listener, position, attempts, how, reason, at: self.now, header };
        CursorChange::GiveUp { given_up, covers: position.0..position.next().0 }
    }

    /// Pauses a durable listener, or with `None` resumes it: from the next start on it is not called, or called again. Answers what
    /// was there before; `None` if the store does not know the listener.
    ///
    /// # Errors
    /// The store's.
    pub async fn pause(&self, listener: &str, reason: Option<&str>) -> Result<Option<Option<Paused>>, StoreError> {
        let Some((_, cursor)) = self.store.cursors().await?.into_iter().find(|(id, _)| id == listener) else {
            return Ok(None);
        };
        let known = self.store.listener_records().await?.into_iter().find(|(id, _)| id == listener);
        let known = known.map(|(_, known)| known);
        let known = known.unwrap_or_else(|| ListenerRecord::new(Vec::new(), Position(cursor.low())));
        let before = known.paused.clone();
        let paused = reason.map(|reason| Paused { since: self.now, reason: reason.to_owned() });
        if paused.is_some() || before.is_some() {
            self.commit(listener, vec![CursorChange::Describe(ListenerRecord { paused, ..known })]).await?;
        }
        Ok(Some(before))
    }

    async fn listeners(&self, query: &Query) -> Result<Vec<String>, StoreError> {
        let cursors = self.store.cursors().await?;
        Ok(cursors.into_iter().map(|(id, _)| id).filter(|id| query.wants_listener(id)).collect())
    }

    async fn commit(&self, listener: &str, changes: Vec<CursorChange>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let listener: Arc<str> = Arc::from(listener);
        let settlements = changes.into_iter().map(|change| Settlement { listener: listener.clone(), change }).collect();
        let unit = self.store.begin().await?;
        let request = CommitRequest { durability: Durability::Sync, events: Vec::new(), settlements };
        match unit.commit(request).boxed().await {
            Ok(_) => Ok(()),
            // Somebody else has the store after all.
            Err(CommitError::Refused(Error::Unit(error @ UnitError::AlreadySettled { .. }))) => {
                Err(StoreError::backend("change what a bus changes too", error))
            }
            Err(CommitError::Refused(Error::Store(cause)) | CommitError::InDoubt(cause)) => Err(cause),
            Err(CommitError::Refused(error)) => Err(StoreError::backend("change what is kept for a listener", error)),
        }
    }
}

impl std::fmt::Debug for Offline {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Offline").field("store", &self.store.kind()).field("now", &self.now).finish_non_exhaustive()
    }
}
