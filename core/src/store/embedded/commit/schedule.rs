//! Scheduled events that come and go with a group.

use uuid::Uuid;

use super::{CommitCore, Group, Write};
use crate::error::{Error, StoreError, UnitError};
use crate::event::Metadata;
use crate::store::Due;
use crate::store::embedded::engine::Batch;
use crate::store::embedded::layout::{
    Chunks, EXPIRY, Framed, NEXT_SCHEDULED, SCHEDULED, damaged, scheduled_id_key, scheduled_key,
};
use crate::store::embedded::shared::Shared;
use crate::store::embedded::waiting::{decode_place, encode_place};

/// A scheduled event that leaves: its key, and where its pieces are.
pub(super) struct Leaving {
    id_key: Vec<u8>,
    key: Vec<u8>,
    pieces: Option<Chunks>,
}

impl Leaving {
    /// The key that says where it stands, which is what units that look for it read.
    pub(super) fn id_key(&self) -> &[u8] {
        &self.id_key
    }
}

/// The order of the next scheduled event.
pub(super) fn next(shared: &Shared) -> Result<u64, StoreError> {
    match shared.get(NEXT_SCHEDULED)? {
        None => Ok(1),
        Some(body) => match body.try_into() {
            Ok(next) => Ok(u64::from_be_bytes(next)),
            Err(_) => Err(damaged(NEXT_SCHEDULED, "it is no number")),
        },
    }
}

/// Whether a batch may change what is due, or free again, first.
pub(super) fn changes_in(batch: &Batch) -> bool {
    [SCHEDULED, EXPIRY].into_iter().any(|kind| batch.range(vec![kind]..vec![kind + 1]).next().is_some())
}

impl CommitCore {
    /// Where the scheduled events stand that are to leave; refused if one of them is gone.
    pub(super) fn leaving(&self, group: &Group, events: &[Uuid]) -> Result<Vec<Leaving>, Error> {
        let gone = || UnitError::Conflict { what: "a scheduled event was taken out".to_owned() };
        let find = |event: &Uuid| {
            let id_key = scheduled_id_key(*event);
            let key = match self.now(group, &id_key)? {
                Some(Framed::Inline(body)) => scheduled_key(decode_place(&id_key, &body)?),
                Some(Framed::Chunked(_)) => return Err(damaged(&id_key, "it is in pieces where it never is").into()),
                None => return Err(gone().into()),
            };
            let pieces = self.old_pieces(group, &key)?;
            Ok(Leaving { id_key, key, pieces })
        };
        events.iter().map(find).collect()
    }

    /// Removes a scheduled event.
    pub(super) fn take_out(&mut self, group: &mut Group, Leaving { id_key, key, pieces }: Leaving) {
        self.write(group, Write { key, value: None, old: pieces });
        group.insert(id_key, None);
    }

    /// Keeps an event until it is due, behind all that are due at the same time.
    pub(super) fn schedule(&mut self, group: &mut Group, metadata: &Metadata, encoded: Vec<u8>) {
        let due = Due { time: metadata.time, order: self.next_scheduled };
        self.next_scheduled += 1;
        group.put(scheduled_id_key(metadata.id), &encode_place(due));
        self.write(group, Write { key: scheduled_key(due), value: Some(encoded), old: None });
    }
}
