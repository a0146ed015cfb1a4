//! What is held, until it is dropped.

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use super::keyed::KeyedLock;
use super::table::Place;

/// A held key, borrowed from its [`KeyedLock`]; released when dropped.
pub type Guard<'a, K> = Hold<K, &'a KeyedLock<K>>;

/// A held key that borrows nothing; released when dropped. It can be kept, and sent to another thread.
pub type OwnedGuard<K> = Hold<K, Arc<KeyedLock<K>>>;

/// Several held keys; released when dropped, the last one first.
pub type Guards<'a, K> = Holds<K, &'a KeyedLock<K>>;

/// Several held keys that borrow nothing; released when dropped, the last one first.
pub type OwnedGuards<K> = Holds<K, Arc<KeyedLock<K>>>;

/// A held key of the [`KeyedLock`] that `H` points to; released when dropped.
#[must_use = "a lock is released when its guard is dropped"]
pub struct Hold<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>> {
    pub(super) lock: H,
    pub(super) place: Place,
}

impl<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>> Drop for Hold<K, H> {
    #[inline]
    fn drop(&mut self) {
        self.lock.table.release(self.place);
    }
}

impl<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>> Debug for Hold<K, H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.lock.table.look(self.place).map(|seen| seen.key);
        write!(out, "Guard({})", key.as_deref().unwrap_or_default())
    }
}

/// Held keys of the [`KeyedLock`] that `H` points to.
#[must_use = "locks are released when their guards are dropped"]
pub struct Holds<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>>(pub(super) Vec<Hold<K, H>>);

impl<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>> Holds<K, H> {
    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>> Drop for Holds<K, H> {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

impl<K: Eq + Hash + Debug, H: Deref<Target = KeyedLock<K>>> Debug for Holds<K, H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(&self.0).finish()
    }
}
