//! What an application imports every day.

pub use crate::adapters::memory::MemoryStore;
#[cfg(feature = "redb")]
pub use crate::adapters::redb::RedbStore;
#[cfg(feature = "sled")]
pub use crate::adapters::sled::SledStore;
pub use crate::bus::{Ack, Bus, Delivery};
pub use crate::error::Error;
pub use crate::event::{Event, Metadata, StoredEvent};
pub use crate::key::Key;
pub use crate::listed;
pub use crate::listener::{Decision, Delivered, Publish, Settled, State, StopSignal};
pub use crate::store::{Durability, Retention};
pub use crate::table::{Counters, Table};
pub use crate::transaction::{Committed, Outcome, Phase, Tx};
#[cfg(feature = "macros")]
pub use aftercommit_macros::{Event, Key, idempotent, listener, listeners, locked, metered};
