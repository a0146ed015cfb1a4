//! What a store keeps about a durable listener beside how far it has come, and about what it gave up for good.

use serde::{Deserialize, Serialize};

use super::Position;
use crate::clock::Timestamp;
use crate::event::EventHeader;

/// What is known of a durable listener beside its cursor, also while its application does not run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListenerRecord {
    /// Its former ids: an event of that time names them where it says who is not owed it.
    pub formerly: Vec<String>,
    /// The first position it was ever owed; what is before was published before it came.
    pub from: Position,
    /// Why it is not called, if it was paused across restarts.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// Since when nobody has registered it, as far as its bus was started meanwhile.
    #[serde(default)]
    pub orphaned: Option<Timestamp>,
}

impl ListenerRecord {
    /// A listener that is owed what stands at `from` and after it.
    pub fn new(formerly: Vec<String>, from: Position) -> Self {
        Self { formerly, from, paused: None, orphaned: None }
    }
}

/// A durable listener that is not called until somebody resumes it, however often its bus starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Timestamp,
    /// Why, in the words of whoever paused it.
    pub reason: String,
}

/// A delivery that was given up for good: done, without having been worked for.
///
/// The newest [`MOST`](Self::MOST) of each listener are kept, without what the event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The durable listener.
    pub listener: String,
    /// The event's place in the log, which may be pruned by now.
    pub position: Position,
    /// How many calls failed.
    pub attempts: u32,
    /// Who gave it up.
    pub how: Ending,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// What is known of the event.
    pub header: EventHeader,
}

impl GivenUp {
    /// How many of each listener are kept: beyond, those of the lowest positions go.
    pub const MOST: usize = 1024;
}

/// How a delivery came to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ending {
    /// The listener decided that there is nothing to do.
    Skipped,
    /// Somebody removed a dead letter, or there was no room for it.
    Discarded,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Ending::Skipped => "skipped",
            Ending::Discarded => "discarded",
        })
    }
}
