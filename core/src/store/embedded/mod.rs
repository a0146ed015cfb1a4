//! What every embedded store is made of: everything but the engine.
//!
//! A unit of work is an overlay over committed rows that notes what it reads. Its commit is handed over as plain data to the one
//! that commits, which validates, packs, applies and syncs whole groups. An [`Engine`] is one ordered map of bytes; it knows
//! nothing of units, events or listeners.
//!
//! | file | what |
//! |---|---|
//! | `unit`, `overlay`, `schedule`, `read_set` | a unit of work: its own writes, what it read |
//! | `commit`, `group`, `recent`, `progress`, `prune` | the logic of a group: validation, settlements, removal of what retention lets go of |
//! | `apply` | handing a group to the engine |
//! | `journal`, `journaled` | an engine behind a journal, where a sync is cheaper than the engine's own |
//! | `committer` | the thread that commits, and its queue |
//! | `log`, `waiting`, `record`, `catalogue`, `layout` | what stands on disk |
//! | [`verify`], [`copy`], [`stream`] | operating it: is it whole; backup and move; export and import |

use std::time::Duration;

mod apply;
mod catalogue;
mod commit;
mod committer;
pub mod copy;
mod engine;
mod group;
mod journal;
mod journaled;
mod layout;
mod log;
mod overlay;
mod progress;
mod prune;
mod read_set;
mod recent;
mod record;
mod schedule;
mod shared;
mod store;
pub mod stream;
mod syncer;
mod unit;
pub mod verify;
mod waiting;

pub use engine::{Batch, Engine};
pub use journaled::Journaled;
pub use store::{Embedded, EmbeddedStore, Expired};

/// Sizes an embedded store works with. They may differ from one opening to the next: what is stored says its own sizes.
///
/// The defaults are those measured for sled: its log must not grow by more than some MiB between two full syncs, and it grows
/// with the number of entries as well as with their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// A group of events is packed into entries of about this many bytes; 8 KiB.
    pub pack_bytes: usize,
    /// Larger values and events are cut into pieces of this size; 8 KiB.
    pub chunk_bytes: usize,
    /// What an entry of a batch counts at least, however small; 1 KiB.
    pub entry_bytes: usize,
    /// How many units are committed in one group at most; 256.
    pub group_units: usize,
    /// How many bytes, counted by entries, are applied between two full syncs, whatever durability is asked for; 1 MiB.
    /// Only a single unit may take more.
    pub group_bytes: usize,
    /// How many bytes, counted by entries, one unit may write; 1 MiB, which is about 1024 small rows.
    /// Large values and events are not counted: they are written ahead in pieces.
    pub unit_bytes: usize,
    /// How many units may wait to be committed before further ones wait for room; 1024.
    pub queue_units: usize,
    /// How many bytes of recent write sets are kept to validate reads against; 16 MiB.
    pub recent_bytes: usize,
    /// How often a store that nothing is committed to looks whether something in its log has become of age; a minute.
    pub aging: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack_bytes: 8 * 1024,
            chunk_bytes: 8 * 1024,
            entry_bytes: 1024,
            group_units: 256,
            group_bytes: 1024 * 1024,
            unit_bytes: 1024 * 1024,
            queue_units: 1024,
            recent_bytes: 16 * 1024 * 1024,
            aging: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// What an entry of a batch counts.
    fn cost(&self, bytes: usize) -> usize {
        bytes.max(self.entry_bytes)
    }
}
