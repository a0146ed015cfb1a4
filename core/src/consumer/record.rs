//! Commits of a listener's progress by itself: all changes at once, or in commits of bounded size.

use std::sync::Arc;

use futures::FutureExt;

use super::Ground;
use crate::error::{StoreError, UnitError};
use crate::store::{CommitError, CommitRequest, CursorChange, Durability, Settlement};

/// How many changes, and how many bytes of parked events, go into one commit, which the store applies as a whole.
const CHANGES: usize = 64;
const BYTES: usize = 64 << 10;

/// Commits changes of a listener's progress; answers `false` if one of them was settled before, and none was made.
pub(super) async fn record(
    ground: &Ground,
    listener: &Arc<str>,
    changes: Vec<CursorChange>,
    durability: Durability,
) -> Result<bool, StoreError> {
    let settlements = changes.into_iter().map(|change| Settlement { listener: listener.clone(), change }).collect();
    let unit = ground.store.begin().await?;
    let request = CommitRequest { durability, events: Vec::new(), settlements };
    match unit.commit(request).boxed().await {
        Ok(_) => Ok(true),
        Err(CommitError::Refused(crate::Error::Unit(UnitError::AlreadySettled { .. }))) => Ok(false),
        Err(CommitError::Refused(crate::Error::Store(cause)) | CommitError::InDoubt(cause)) => Err(cause),
        Err(CommitError::Refused(error)) => Err(StoreError::backend("record a listener's progress", error)),
    }
}

/// Commits changes in their order, in commits of bounded size; answers those that were not made, because they were settled before.
pub(super) async fn record_each(
    ground: &Ground,
    listener: &Arc<str>,
    changes: Vec<CursorChange>,
    durability: Durability,
) -> Result<Vec<CursorChange>, StoreError> {
    let mut refused = Vec::new();
    for portion in portions(changes) {
        if record(ground, listener, portion.clone(), durability).await? {
            continue;
        }
        // One of them was settled before, so that none was made: each by itself.
        for change in portion {
            if !record(ground, listener, vec![change.clone()], durability).await? {
                refused.push(change);
            }
        }
    }
    Ok(refused)
}

fn portions(changes: Vec<CursorChange>) -> Vec<Vec<CursorChange>> {
    let mut portions = Vec::new();
    let (mut portion, mut bytes) = (Vec::new(), 0);
    for change in changes {
        let weight = match &change {
            CursorChange::Park { parked, .. } => parked.envelope.weight(),
            _ => 0,
        };
        if !portion.is_empty() && (portion.len() == CHANGES || bytes + weight > BYTES) {
            portions.push(std::mem::take(&mut portion));
            bytes = 0;
        }
        bytes += weight;
        portion.push(change);
    }
    portions.push(portion);
    portions.retain(|portion| !portion.is_empty());
    portions
}
