//! The first step of a durable listener: a cursor of its own, with everything it had under a former id.

use std::collections::HashMap;
use std::sync::Arc;

use super::Ground;
use super::record::{record, record_each};
use crate::error::{StoreError, Warning};
use crate::listener::StartAt;
use crate::observe::Notice;
use crate::store::{Cursor, CursorChange, GivenUp, ListenerRecord, Parked, Position, Store, Suspect};

/// Sees to it that `listener` has a cursor, which knows that it takes events of these names; answers it once it stands in the store.
/// Of the names it took before what it is owed stays owed.
///
/// It takes over from all of `formerly` that have a cursor: what was done, what waits to be called again, what is parked.
/// This takes several commits; the former cursor goes last, so that a start that was cut off in between is taken up by the next.
/// Without any it begins where `start` says.
pub(super) async fn introduce(
    ground: &Ground,
    listener: &Arc<str>,
    formerly: &[String],
    events: &[&'static str],
    start: StartAt,
) -> Result<Cursor, StoreError> {
    let cursor = find_or_begin(ground, listener, formerly, start).await?;
    if events.is_empty() {
        return Ok(cursor);
    }
    let end = ground.store.delivered_up_to().borrow().next();
    let takes = cursor.takes().changed_to(events.iter().copied(), Position(cursor.low()), end);
    for (name, _) in takes.before() {
        let warning = Warning::EventNotTaken { listener: listener.to_string(), name: name.clone() };
        ground.watch.tell(&Notice::Warning(&warning));
    }
    if takes == **cursor.takes() {
        return Ok(cursor);
    }
    let takes = Arc::new(takes);
    record(ground, listener, vec![CursorChange::Takes(takes.clone())], ground.durability).await?;
    Ok(cursor.taking(takes))
}

async fn find_or_begin(
    ground: &Ground,
    listener: &Arc<str>,
    formerly: &[String],
    start: StartAt,
) -> Result<Cursor, StoreError> {
    let mut cursors = cursors(ground).await?;
    let former: Vec<_> = formerly.iter().filter_map(|id| cursors.remove_entry(id)).collect();
    if former.is_empty() {
        if let Some(known) = cursors.remove(&**listener) {
            return Ok(known);
        }
        let (from, unasked_below) = place(&*ground.store, start).await?;
        record(ground, listener, vec![CursorChange::Start { from, unasked_below }], ground.durability).await?;
        return Ok(Cursor::at(from.0).unasked_below(unasked_below.0));
    }
    for (former, cursor) in former {
        take_over(ground, listener, &former, &cursor).await?;
        // It would hold back the log for ever.
        ground.store.forget(&former).await?;
    }
    let taken = self::cursors(ground).await?.remove(&**listener);
    taken.ok_or_else(|| StoreError::backend("find the cursor that was just taken over", "a bug in the store"))
}

/// Sees to it that the store knows since when `listener`, whose cursor is `cursor`, is owed events; answers what it knows.
pub(super) async fn describe(
    ground: &Ground,
    listener: &Arc<str>,
    formerly: &[String],
    cursor: &Cursor,
) -> Result<ListenerRecord, StoreError> {
    let known = known(ground, listener).await?;
    let low = Position(cursor.low());
    // It may have been put back to before the first event it was owed.
    let from = known.as_ref().map_or(low, |known| known.from.min(low));
    let mut described = ListenerRecord::new(formerly.to_vec(), from);
    described.paused = known.as_ref().and_then(|known| known.paused.clone());
    if known.as_ref() != Some(&described) {
        record(ground, listener, vec![CursorChange::Describe(described.clone())], ground.durability).await?;
    }
    Ok(described)
}

async fn known(ground: &Ground, listener: &str) -> Result<Option<ListenerRecord>, StoreError> {
    let all = ground.store.listener_records().await?;
    Ok(all.into_iter().find(|(id, _)| id == listener).map(|(_, known)| known))
}

/// The place in the log that `start` means, and the end of the log, up to where the listener's condition was not asked.
pub(super) async fn place(store: &dyn Store, start: StartAt) -> Result<(Position, Position), StoreError> {
    let end = store.delivered_up_to().borrow().next();
    let mut from = match start {
        StartAt::Now => end,
        StartAt::Beginning | StartAt::Time(_) => Position(1),
    };
    if let StartAt::Time(time) = start {
        while from < end {
            let page = store.read_log(from, PAGE, PAGE_BYTES).await?;
            let Some(last) = page.last().map(|event| event.position) else { return Ok((end, end)) };
            if let Some(event) = page.iter().find(|event| event.envelope.header.metadata.time >= time) {
                return Ok((event.position, end));
            }
            from = last.next();
        }
    }
    Ok((from, end))
}

/// How much of the log is looked at at once in search of a moment.
const PAGE: usize = 1024;
const PAGE_BYTES: usize = 1 << 20;

async fn cursors(ground: &Ground) -> Result<HashMap<String, Cursor>, StoreError> {
    Ok(ground.store.cursors().await?.into_iter().collect())
}

/// Gives `listener` what `former` had. Done twice, or after a part of it, it comes to the same: what is settled stays as it is.
async fn take_over(ground: &Ground, listener: &Arc<str>, former: &str, cursor: &Cursor) -> Result<(), StoreError> {
    let parked = ground.store.parked(Some(former)).await?;
    let given_up = ground.store.given_up_from(former, Position(0), GivenUp::MOST).await?;
    // What is parked or given up counts as done, so it comes before everything that makes it so.
    let kept = parked.iter().map(|one| one.position).chain(given_up.iter().map(|one| one.position));
    let from = kept.map(|position| position.0).fold(cursor.low(), u64::min);
    let unasked_below = Position(cursor.unasked());
    let own = self::cursors(ground).await?.remove(&**listener).unwrap_or_default();
    let takes = Arc::new(own.takes().joined(cursor.takes()));
    let mut changes = vec![CursorChange::Start { from: Position(from), unasked_below }, CursorChange::Takes(takes)];
    for one in parked {
        let covers = one.position.0..one.position.0 + 1;
        changes.push(CursorChange::Park { parked: Parked { listener: listener.to_string(), ..one }, covers });
    }
    for one in given_up {
        let covers = one.position.0..one.position.0 + 1;
        changes.push(CursorChange::GiveUp { given_up: GivenUp { listener: listener.to_string(), ..one }, covers });
    }
    changes.extend(known(ground, former).await?.map(CursorChange::Describe));
    changes.push(CursorChange::Skip { covers: 0..cursor.low() });
    changes.extend(cursor.done_above().iter().map(|range| CursorChange::Skip { covers: range.clone() }));
    changes.extend(ground.store.redeliveries(former).await?.into_iter().map(CursorChange::Redeliver));
    let suspects = ground.suspects.iter().filter(|one| one.listener == former);
    changes.extend(suspects.map(|&Suspect { position, count, .. }| CursorChange::Suspect { position, count }));
    // Refused are those of a start that was cut off: they stand.
    record_each(ground, listener, changes, ground.durability).await.map(drop)
}
