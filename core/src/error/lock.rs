//! A keyed lock that was not obtained.

use std::time::Duration;

/// Why a keyed lock was not obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another holder kept it for longer than the caller would wait.
    #[error("lock `{key}` was not free within {waited:?}")]
    Timeout {
        /// The key, as its type spells it.
        key: String,
        /// How long the caller waited.
        waited: Duration,
    },
}
