//! A keyed lock that was not obtained.

use std::fmt;
use std::time::Duration;

/// Why a keyed lock was not obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another holder kept it for longer than the caller would wait.
    #[error("lock `{key}` was not free within {waited:?}{}", told(.held_by))]
    Timeout {
        /// The key, as its type spells it.
        key: String,
        /// How long the caller waited.
        waited: Duration,
        /// Who held it then; empty where that is not known.
        held_by: Vec<String>,
    },
    /// Whoever holds the lock waits for one that the caller holds, perhaps through others: none of them would ever get on.
    /// The caller is the last of the circle; the others get on once it gives its locks up, as a unit of work does when it ends.
    #[error("deadlock: {}", spelled(.circle))]
    Deadlock {
        /// Who waits for what, each for the next one, the last for the first.
        circle: Vec<Waits>,
    },
    /// The caller holds the key shared, and asked for it exclusively: two who do so would wait for each other.
    #[error("lock `{key}` is held shared, and would have to be exclusive: ask for that first")]
    Upgrade {
        /// The key.
        key: String,
    },
    /// The owner holds the lock, and would wait for itself.
    #[error("the lock is held by the same owner, which would wait for itself")]
    Reentrant,
    /// Whoever keeps remote locks could not be asked.
    #[error("the lock's keeper could not be asked")]
    Keeper(#[source] super::BoxError),
    /// A later holder of a remote lock was here before: the lease had ended.
    #[error("fence {fence} of `{key}` is past: {latest} was here before")]
    Fenced {
        /// What is fenced.
        key: String,
        /// The caller's token.
        fence: u64,
        /// The latest token that passed.
        latest: u64,
    },
}

/// One of a circle that waits for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waits {
    /// Who waits.
    pub who: String,
    /// For which key.
    pub key: String,
    /// Who holds it.
    pub held_by: String,
}

impl fmt::Display for Waits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{}] waits for lock `{}`, which [{}] holds", self.who, self.key, self.held_by)
    }
}

fn told(held_by: &[String]) -> String {
    if held_by.is_empty() { String::new() } else { format!("; it is held by [{}]", held_by.join("], [")) }
}

fn spelled(circle: &[Waits]) -> String {
    circle.iter().map(Waits::to_string).collect::<Vec<_>>().join("; ")
}
