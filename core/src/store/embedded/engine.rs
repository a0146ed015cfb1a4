//! What an embedded store needs of the engine below it: one ordered map of bytes that takes whole batches.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::StoreError;
use crate::store::{Direction, Durability, Row};

/// Keys and their new values; `None` removes the key.
pub type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// An ordered map of bytes on some medium.
///
/// Reads come from any thread, [`apply`](Self::apply) only from the one that commits. [`sync`](Self::sync) comes from there or from
/// a thread beside it, while further batches may be applied; one at a time.
/// Whatever it answers with an error, or a panic, at `apply` or `sync` stops the store for good.
pub trait Engine: Send + Sync + 'static {
    /// What kind of engine this is, for messages.
    fn kind(&self) -> &'static str;

    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` entries of `range`, from the end that `direction` names.
    /// It need not be a snapshot: each entry is one that stood at some moment since the call.
    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Takes all of `batch`, or nothing of it, also across a crash.
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// [`apply`](Self::apply) of a batch that others still read.
    fn apply_shared(&self, batch: &Batch) -> Result<(), StoreError> {
        self.apply(batch.clone())
    }

    /// Makes everything applied before the call survive what `durability` says. What a crash leaves of later batches is the first of them,
    /// up to some one.
    fn sync(&self, durability: Durability) -> Result<(), StoreError>;

    /// How many bytes it takes on its medium; `None` if it is on none, or does not know.
    fn size(&self) -> Option<u64> {
        None
    }
}
