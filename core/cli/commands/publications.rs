//! What is owed to whom: looking at it on the engine alone, changing it on the opened store.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::Kind;
use aftercommit::clock::{Clock, SystemClock, Timestamp};
use aftercommit::error::StoreError;
use aftercommit::publication::{Mark, Offline, Query, Status, View};
use aftercommit::store::embedded::EmbeddedStore;
use aftercommit::store::{Position, Store};
use futures::executor::block_on;
use uuid::Uuid;

use super::{Failure, What};
use crate::args::Which;

/// What is said on the command line, as a query.
fn query(which: &Which, now: Timestamp) -> Query {
    let mut query = Query::new();
    if let Some(listener) = &which.listener {
        query = query.listener(listener);
    }
    if let Some(position) = which.position {
        query = query.position(Position(position));
    }
    if let Some(event) = which.event {
        query = query.event(event);
    }
    if let Some(name) = &which.name {
        query = query.name(name);
    }
    if let Some(key) = &which.key {
        query = query.key_reads(key);
    }
    if let Some(age) = which.older_than {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        query = query.published_before(Timestamp(now.0.saturating_sub(age)));
    }
    query
}

/// Looks at the store without opening it, so that nothing is noted of it.
fn look(store: &Path, wait: Duration) -> Result<(View, Timestamp), StoreError> {
    let store = EmbeddedStore::look_at(Kind::of(store)?.engine(store, wait)?)?;
    let now = SystemClock.now();
    Ok((View::new(Arc::new(store), now), now))
}

/// Changes the opened store, and closes it as it was found.
fn change<T>(
    store: &Path,
    wait: Duration,
    change: impl AsyncFnOnce(Offline) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let store = Kind::of(store)?.open(store, wait)?;
    let changed = block_on(change(Offline::new(Arc::new(store.clone()), SystemClock.now())));
    let closed = block_on(store.close());
    changed.and_then(|changed| closed.map(|()| changed))
}

pub(super) fn list(
    store: &Path,
    which: &Which,
    states: &[Status],
    after: Option<&Mark>,
    limit: NonZeroUsize,
    wait: Duration,
) -> Result<What, Failure> {
    let (view, now) = look(store, wait)?;
    let open = Status::ALL.into_iter().filter(|status| *status != Status::Done);
    let query = match states {
        [] => query(which, now).statuses(open),
        states => query(which, now).statuses(states.iter().copied()),
    };
    Ok(What::Listed { page: block_on(view.page(&query, after, limit))?, now })
}

pub(super) fn story(store: &Path, event: Uuid, wait: Duration) -> Result<What, Failure> {
    let (view, now) = look(store, wait)?;
    match block_on(view.story(event))? {
        Some(story) => Ok(What::Story { story, now }),
        None => Err(Failure::Nothing(format!("the store knows no event {event}: it was pruned, or never stored"))),
    }
}

pub(super) fn stats(store: &Path, wait: Duration) -> Result<What, Failure> {
    let (view, now) = look(store, wait)?;
    Ok(What::Stats { overview: block_on(view.counts_with_done())?, now })
}

pub(super) fn replay(store: &Path, which: &Which, wait: Duration) -> Result<What, Failure> {
    let asked = change(store, wait, async |offline: Offline| offline.replay(&query(which, SystemClock.now())).await)?;
    match asked.asked + asked.behind {
        0 => Err(no_dead_letter()),
        _ => Ok(What::Asked(asked)),
    }
}

pub(super) fn discard(store: &Path, which: &Which, reason: &str, wait: Duration) -> Result<What, Failure> {
    let wanted = query(which, SystemClock.now());
    match change(store, wait, async |offline: Offline| offline.discard(&wanted, reason).await)? {
        0 => Err(no_dead_letter()),
        discarded => Ok(What::Discarded(discarded)),
    }
}

fn no_dead_letter() -> Failure {
    Failure::Nothing("no dead letter is what was named: `aftercommit list --state dead` shows them".to_owned())
}

pub(super) fn pause(store: &Path, listener: &str, reason: Option<&str>, wait: Duration) -> Result<What, Failure> {
    let before = change(store, wait, async |offline: Offline| offline.pause(listener, reason).await)?;
    let unknown = || Failure::Nothing(format!("the store knows no durable listener `{listener}`"));
    Ok(What::Paused { listener: listener.to_owned(), before: before.ok_or_else(unknown)?, paused: reason.is_some() })
}
