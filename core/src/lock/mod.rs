//! Keyed locks: one holder per key, first come first served.
//!
//! A lock taken through a unit of work is held until the unit's outcome is durable, so that the next holder sees it.
//! Locks are local to the process and to one bus. An entry exists only while somebody holds or waits for its key.
//! Two units that take the same keys in different orders wait for each other until one of them runs into its timeout.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};

use crate::clock::Clock;
use crate::error::LockError;
use crate::key::{Key, encode_key};

const SHARDS: usize = 64;

/// The locks of one bus.
#[derive(Debug)]
pub(crate) struct Locks {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

type Shard = HashMap<LockName, Entry>;

/// A key's bytes and the type they come from, so that keys of different types never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LockName {
    kind: TypeId,
    key: Box<[u8]>,
}

#[derive(Debug)]
struct Entry {
    lock: Arc<FairMutex<()>>,
    /// Holders and waiters; the entry goes with the last of them.
    interested: usize,
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// Released before the interest, so that an entry is never removed while it is locked.
    _guard: OwnedMutexGuard<()>,
    interest: Interest,
}

impl Held {
    pub(crate) fn is(&self, name: &LockName) -> bool {
        self.interest.name == *name
    }
}

#[derive(Debug)]
struct Interest {
    locks: Arc<Locks>,
    name: LockName,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut shard = self.locks.shard(&self.name).lock();
        if let Some(entry) = shard.get_mut(&self.name) {
            entry.interested -= 1;
            if entry.interested == 0 {
                shard.remove(&self.name);
            }
        }
    }
}

impl LockName {
    pub(crate) fn of<K: Key>(key: &K) -> Self {
        Self { kind: TypeId::of::<K>(), key: encode_key(key).into_boxed_slice() }
    }
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self { shards: [const { None }; SHARDS].map(|_: Option<()>| Mutex::default()), hasher: RandomState::new() }
    }

    fn shard(&self, name: &LockName) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// How many keys are held or waited for.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Waits for the lock, behind all who came before, at most `wait`.
    ///
    /// Cancel safe: dropping the future gives the place in the queue up.
    pub(crate) async fn lock(
        self: &Arc<Self>,
        name: LockName,
        spelled: &(dyn Debug + Sync),
        wait: Duration,
        clock: &dyn Clock,
    ) -> Result<Held, LockError> {
        let lock = {
            let mut shard = self.shard(&name).lock();
            let entry = shard
                .entry(name.clone())
                .or_insert_with(|| Entry { lock: Arc::new(FairMutex::new(())), interested: 0 });
            entry.interested += 1;
            entry.lock.clone()
        };
        let interest = Interest { locks: self.clone(), name };
        // Nobody is overtaken: a released lock goes straight to the first who waits.
        if let Ok(guard) = lock.clone().try_lock_owned() {
            return Ok(Held { _guard: guard, interest });
        }
        tokio::select! {
            biased;
            guard = lock.lock_owned() => Ok(Held { _guard: guard, interest }),
            () = clock.sleep(wait) => Err(LockError::Timeout { key: format!("{spelled:?}"), waited: wait }),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::clock::SystemClock;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn waiters_get_the_lock_in_the_order_they_came_and_no_entry_is_left() {
        let locks = Arc::new(Locks::new());
        let take = |key: u32| {
            let locks = locks.clone();
            async move { locks.lock(LockName::of(&key), &key, LONG, &SystemClock).await }.boxed()
        };
        let first = take(1).await.expect("free");
        let (mut second, mut third) = (take(1), take(1));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        let other = take(2).await.expect("another key is free");
        assert_eq!(locks.len(), 2);
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second came first");
        let held = second.await.expect("its turn");
        drop(third);
        drop(held);
        drop(other);
        assert_eq!(locks.len(), 0);
    }

    #[tokio::test]
    async fn keys_of_different_types_do_not_meet() {
        let locks = Arc::new(Locks::new());
        let small = locks.lock(LockName::of(&1u64), &1, LONG, &SystemClock).await.expect("free");
        let _other =
            locks.lock(LockName::of(&1i64), &1, LONG, &SystemClock).now_or_never().expect("free").expect("free");
        assert!(small.is(&LockName::of(&1u64)) && !small.is(&LockName::of(&1i64)));
    }
}
