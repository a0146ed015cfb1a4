//! Erasing one event: a tombstone in its place, and nothing left of it in what is kept for its deliveries.

use super::{CommitCore, Group};
use crate::error::StoreError;
use crate::store::embedded::layout::{Chunks, chunk_key, free_key};
use crate::store::embedded::log::{self, Found};
use crate::store::{Durability, Erasure, Position};

impl CommitCore {
    /// Erases the event at `position`: it is settled for every durable listener, and no copy of it is left.
    /// Answered once that survives a power cut.
    pub(in super::super) fn erase(&mut self, position: Position) -> Result<Erasure, StoreError> {
        let found = if position < self.next_position { log::find_at(&self.shared, position)? } else { Found::Nothing };
        let mut group = self.group();
        group.durability = Durability::Sync;
        let mut freed: Vec<Chunks> = Vec::new();
        let in_log = match &found {
            Found::Event { pack, index } => {
                let (body, pieces) = pack.without(*index, &self.shared)?;
                group.put(pack.key().to_vec(), &body);
                freed.extend(pieces);
                true
            }
            Found::Erased(_) | Found::Nothing => false,
        };
        let kept = self.progress.kept_of(position);
        // Read before anything changes, so that an error leaves all as it was.
        for key in kept.parked.iter().chain(&kept.given_up) {
            freed.extend(self.old_pieces(&group, key)?);
        }
        if !in_log && kept.parked.is_empty() && kept.given_up.is_empty() {
            return Ok(match found {
                Found::Erased(_) => Erasure::Before,
                _ => Erasure::NotStored,
            });
        }
        let parked = kept.parked.len();
        for key in kept.parked.iter().chain(&kept.given_up).chain(&kept.waiting) {
            group.insert(key.clone(), None);
        }
        for listener in self.progress.erase(position, &kept, in_log) {
            if let Some((key, body)) = self.progress.encoded(&listener) {
                group.put(key, &body);
            }
        }
        for chunks in &freed {
            // Should the process end before they are gone, they are swept at the next opening.
            group.put(free_key(chunks.id), &chunks.encode());
        }
        self.carry_out(group)?;
        for chunks in freed {
            self.remove_pieces(chunks)?;
        }
        Ok(Erasure::Done { parked })
    }

    /// Removes the pieces of a large value at once, in batches of bounded size.
    fn remove_pieces(&mut self, chunks: Chunks) -> Result<(), StoreError> {
        let step = (self.shared.limits.group_bytes / 2 / self.shared.limits.chunk_bytes.max(1)).max(1);
        let numbers: Vec<u32> = (0..chunks.count).collect();
        for some in numbers.chunks(step) {
            let mut group: Group = self.group();
            for number in some {
                group.bytes += self.shared.limits.chunk_bytes;
                group.insert(chunk_key(chunks.id, *number), None);
            }
            self.carry_out(group)?;
        }
        let mut group = self.group();
        group.insert(free_key(chunks.id), None);
        group.durability = Durability::Sync;
        self.carry_out(group)
    }
}
