//! The disk of a simulation: what a kill or a power cut leaves of it is what was flushed or synced, and the first of what came later.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use parking_lot::Mutex;

use super::world::World;
use crate::error::StoreError;
use crate::store::embedded::{Batch, EmbeddedStore, Engine};
use crate::store::{Direction, Durability, Row};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// An ordered map that remembers what of it would survive.
#[derive(Debug, Default)]
pub(super) struct SimDisk(Mutex<Medium>);

#[derive(Debug, Default)]
struct Medium {
    entries: Entries,
    /// As it was synced last.
    synced: Entries,
    /// What was applied since, in order.
    later: Vec<Batch>,
    /// How many of those were flushed.
    flushed: usize,
}

impl SimDisk {
    fn of(entries: Entries) -> Self {
        Self(Mutex::new(Medium { synced: entries.clone(), entries, ..Medium::default() }))
    }

    /// Prepares it, if it is empty.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        let is_empty = self.0.lock().entries.is_empty();
        if is_empty { EmbeddedStore::create(self) } else { Ok(()) }
    }

    /// With everything that was applied.
    pub(super) fn as_it_is(&self) -> Self {
        Self::of(self.0.lock().entries.clone())
    }

    /// What a kill or a power cut leaves.
    pub(super) fn after_crash(&self, world: &World) -> Self {
        let medium = self.0.lock();
        let (what, least) = if world.below(2) == 0 { ("kill", medium.flushed) } else { ("power cut", 0) };
        let left = least + world.below((medium.later.len() - least) as u64 + 1) as usize;
        world.note(format!("{what}: {left} of {} batches that were not synced are left", medium.later.len()));
        let mut entries = medium.synced.clone();
        medium.later[..left].iter().for_each(|batch| take(&mut entries, batch.clone()));
        Self::of(entries)
    }
}

fn take(entries: &mut Entries, batch: Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
}

impl Engine for SimDisk {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().entries.get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        let medium = self.0.lock();
        let rows = medium.entries.range::<[u8], _>((Bound::Included(range.start), Bound::Excluded(range.end)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Backward => rows.rev().take(limit).map(owned).collect(),
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut medium = self.0.lock();
        take(&mut medium.entries, batch.clone());
        medium.later.push(batch);
        Ok(())
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        let mut medium = self.0.lock();
        medium.flushed = medium.later.len();
        if durability == Durability::Sync {
            let Medium { synced, later, flushed, .. } = &mut *medium;
            later.drain(..).for_each(|batch| take(synced, batch));
            *flushed = 0;
        }
        Ok(())
    }
}
