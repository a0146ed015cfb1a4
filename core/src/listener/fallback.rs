//! What a listener is told about a delivery that is out of attempts.

use std::sync::Arc;

/// A delivery that will not be called again, as its listener's fallback sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GivenUp {
    /// How many calls failed.
    pub attempts: u32,
    /// What the last call answered, with its causes.
    pub error: Arc<str>,
}

impl GivenUp {
    pub(crate) fn new(attempts: u32, error: &str) -> Self {
        Self { attempts, error: Arc::from(error) }
    }
}
