//! Handing groups to the engine, with no more between two full syncs than the limits allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::{Batch, Engine};
use super::group::Group;
use super::layout::{Chunks, frame, free_key};
use super::read_set::Version;
use super::shared::Shared;
use crate::error::StoreError;
use crate::store::Durability;

/// Applies and syncs. Whatever fails here is for the caller to stop the store for.
pub(super) struct Applier {
    shared: Arc<Shared>,
    /// About how many bytes were applied since the last full sync.
    unsynced: usize,
    /// Whether something was applied since the last flush.
    unflushed: bool,
}

impl Applier {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, unsynced: 0, unflushed: false }
    }

    /// Whether everything applied is synced.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced == 0
    }

    /// Applies a group, and answers what is to be synced before it is answered.
    pub(super) fn apply(&mut self, group: Group) -> Result<Option<Durability>, StoreError> {
        let engine = self.shared.engine()?;
        let Group { version, mut batch, pieces, large, mut bytes, durability, .. } = group;
        let pieces_bytes: usize =
            pieces.iter().map(|(key, value)| self.shared.limits.cost(key.len() + value.len())).sum();
        if bytes > self.shared.limits.group_bytes && !pieces.is_empty() {
            self.write_ahead(&*engine, pieces, &large)?;
            bytes = bytes.saturating_sub(pieces_bytes);
            batch.extend(large.iter().map(|chunks| (free_key(chunks.id), None)));
        } else {
            batch.extend(pieces.into_iter().map(|(key, value)| (key, Some(value))));
        }
        if !batch.is_empty() {
            self.shared.versions.begin(version);
            self.pass(&*engine, batch, bytes)?;
            self.shared.versions.publish(version);
        }
        Ok(match durability {
            _ if self.unsynced >= self.shared.limits.group_bytes => Some(Durability::Sync),
            Durability::Sync if self.unsynced > 0 => Some(Durability::Sync),
            Durability::Flush if self.unflushed => Some(Durability::Flush),
            _ => None,
        })
    }

    /// Syncs everything applied so far.
    pub(super) fn sync(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.hand_over(durability)?.run()
    }

    /// What a sync of everything applied so far takes. It counts as done: whoever takes it has it done, or the store stopped.
    pub(super) fn hand_over(&mut self, durability: Durability) -> Result<Syncing, StoreError> {
        let engine = self.shared.engine()?;
        self.unflushed = false;
        if durability == Durability::Sync {
            self.unsynced = 0;
        }
        Ok(Syncing { version: self.shared.versions.current(), shared: self.shared.clone(), engine, durability })
    }

    /// Writes pieces before the batch that refers to them, so that no window between two syncs grows with their size.
    /// Until that batch they stand to be swept.
    fn write_ahead(
        &mut self,
        engine: &dyn Engine,
        pieces: BTreeMap<Vec<u8>, Vec<u8>>,
        large: &[Chunks],
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut bytes = 0;
        for chunks in large {
            let key = free_key(chunks.id);
            let value = frame(&key, &chunks.encode());
            bytes += self.shared.limits.cost(key.len() + value.len());
            batch.insert(key, Some(value));
        }
        for (key, value) in pieces {
            bytes += self.shared.limits.cost(key.len() + value.len());
            batch.insert(key, Some(value));
            if bytes >= self.shared.limits.group_bytes / 2 {
                self.pass(engine, std::mem::take(&mut batch), bytes)?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.pass(engine, batch, bytes)?;
        }
        Ok(())
    }

    fn pass(&mut self, engine: &dyn Engine, batch: Batch, bytes: usize) -> Result<(), StoreError> {
        if self.unsynced > 0 && self.unsynced + bytes > self.shared.limits.group_bytes {
            self.sync(Durability::Sync)?;
        }
        engine.apply(batch)?;
        self.unsynced += bytes;
        self.unflushed = true;
        Ok(())
    }
}

/// A sync of what was applied up to a version.
pub(super) struct Syncing {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    version: Version,
    durability: Durability,
}

impl Syncing {
    /// Does it. The engine is let go of before this answers.
    pub(super) fn run(self) -> Result<(), StoreError> {
        let Self { shared, engine, version, durability } = self;
        engine.sync(durability)?;
        drop(engine);
        shared.versions.settled(version, durability);
        Ok(())
    }
}
