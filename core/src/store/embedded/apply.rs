//! Handing groups to the engine, with no more between two full syncs than the limits allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::{Batch, Engine};
use super::group::Group;
use super::layout::{Chunks, frame, free_key};
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

    /// Applies a group and syncs as far as was asked for.
    pub(super) fn store(&mut self, group: Group) -> Result<(), StoreError> {
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
            self.apply(&*engine, batch, bytes)?;
            self.shared.versions.publish(version);
        }
        if self.unsynced >= self.shared.limits.group_bytes {
            return self.sync(&*engine, Durability::Sync);
        }
        match durability {
            Durability::Sync if self.unsynced > 0 => self.sync(&*engine, Durability::Sync),
            Durability::Flush if self.unflushed => self.sync(&*engine, Durability::Flush),
            _ => Ok(()),
        }
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
                self.apply(engine, std::mem::take(&mut batch), bytes)?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.apply(engine, batch, bytes)?;
        }
        Ok(())
    }

    fn apply(&mut self, engine: &dyn Engine, batch: Batch, bytes: usize) -> Result<(), StoreError> {
        if self.unsynced > 0 && self.unsynced + bytes > self.shared.limits.group_bytes {
            self.sync(engine, Durability::Sync)?;
        }
        engine.apply(batch)?;
        self.unsynced += bytes;
        self.unflushed = true;
        Ok(())
    }

    fn sync(&mut self, engine: &dyn Engine, durability: Durability) -> Result<(), StoreError> {
        engine.sync(durability)?;
        self.shared.versions.settled(durability);
        self.unflushed = false;
        if durability == Durability::Sync {
            self.unsynced = 0;
        }
        Ok(())
    }
}
