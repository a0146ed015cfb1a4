//! Durable listeners that the store knows and nobody registered: kept with a warning, or forgotten after a declared time.
//!
//! Since when nobody registered one stands in the store, so that restarts do not begin the time anew; a start with the listener
//! clears it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Core;
use crate::clock::Timestamp;
use crate::error::{StoreError, Warning};
use crate::observe::Notice;
use crate::store::{CommitError, CommitRequest, Cursor, CursorChange, ListenerRecord, Position, Settlement};

/// A listener that nobody registered.
struct Orphan {
    listener: String,
    cursor: Cursor,
    record: ListenerRecord,
}

/// Notes and warns of orphans, and forgets those whose time has come; answers whether some are left to be forgotten later.
pub(super) async fn look(core: &Core) -> Result<bool, StoreError> {
    let now = core.clock().now();
    let mut left = false;
    for orphan in orphans(core).await? {
        let since = match orphan.record.orphaned {
            Some(since) => since,
            None => {
                note(core, &orphan, now).await?;
                now
            }
        };
        if is_due(core, since, now) {
            forget(core, orphan).await?;
            continue;
        }
        left |= core.forget_orphans_after.is_some();
        let behind = behind(core, &orphan.cursor);
        let bytes = match core.store.as_embedded() {
            Some(store) => Some(store.log_bytes_from(Position(orphan.cursor.low()))?),
            None => None,
        };
        let warning = Warning::OrphanedCursor { listener: orphan.listener, behind, bytes, missing: now.since(since) };
        core.watch().tell(&Notice::Warning(&warning));
    }
    Ok(left)
}

/// Forgets those whose time has come.
pub(super) async fn forget_due(core: &Core) -> Result<(), StoreError> {
    if core.forget_orphans_after.is_none() {
        return Ok(());
    }
    let now = core.clock().now();
    for orphan in orphans(core).await? {
        if orphan.record.orphaned.is_some_and(|since| is_due(core, since, now)) {
            forget(core, orphan).await?;
        }
    }
    Ok(())
}

fn is_due(core: &Core, since: Timestamp, now: Timestamp) -> bool {
    core.forget_orphans_after.is_some_and(|time: Duration| since.saturating_add(time) <= now)
}

/// How many log positions it has not settled.
fn behind(core: &Core, cursor: &Cursor) -> u64 {
    core.store.delivered_up_to().borrow().next().0.saturating_sub(cursor.low())
}

async fn orphans(core: &Core) -> Result<Vec<Orphan>, StoreError> {
    let descriptors = core.registry.descriptors();
    // A former id is about to be taken over.
    let is_known = |listener: &String| {
        let mut durable = descriptors.iter().filter(|one| one.durable.is_some());
        durable.any(|one| one.id == *listener || one.formerly.contains(listener))
    };
    let cursors = core.store.cursors().await?;
    let unknown: Vec<_> = cursors.into_iter().filter(|(listener, _)| !is_known(listener)).collect();
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    let mut records: HashMap<String, ListenerRecord> = core.store.listener_records().await?.into_iter().collect();
    let orphan = |(listener, cursor): (String, Cursor)| {
        let record = records.remove(&listener);
        let record = record.unwrap_or_else(|| ListenerRecord::new(Vec::new(), Position(cursor.low())));
        Orphan { listener, cursor, record }
    };
    Ok(unknown.into_iter().map(orphan).collect())
}

/// Writes down that nobody has registered it since `now`.
async fn note(core: &Core, orphan: &Orphan, now: Timestamp) -> Result<(), StoreError> {
    let record = ListenerRecord { orphaned: Some(now), ..orphan.record.clone() };
    let listener = Arc::from(orphan.listener.as_str());
    let settlements = vec![Settlement { listener, change: CursorChange::Describe(record) }];
    let request = CommitRequest { durability: core.durability, events: Vec::new(), settlements };
    match core.store.begin().await?.commit(request).await {
        Ok(_) => Ok(()),
        Err(CommitError::InDoubt(cause)) => Err(cause),
        Err(CommitError::Refused(error)) => Err(StoreError::backend("note that a listener is not registered", error)),
    }
}

async fn forget(core: &Core, orphan: Orphan) -> Result<(), StoreError> {
    let Orphan { listener, cursor, .. } = orphan;
    let mut parked = 0;
    let mut from = Position(0);
    loop {
        let page = core.store.parked_from(&listener, from, PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.position.next();
        parked += page.len() as u64;
    }
    let behind = behind(core, &cursor);
    core.store.forget(&listener).await?;
    core.watch().tell(&Notice::Warning(&Warning::OrphanForgotten { listener, behind, parked }));
    Ok(())
}

/// How many parked events are counted at once.
const PAGE: usize = 64;
