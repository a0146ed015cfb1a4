//! Locks of a unit of work, held until its outcome is durable; and the bus's own keyed locks.

use std::fmt::Debug;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::Bus;
use crate::error::{Error, LockError};
use crate::key::Key;
use crate::lock::{AnyKey, KeyedLock, Locked, Obtained, OwnedGuard, Request};
use crate::table::Table;
use crate::transaction::Tx;

type Asking = Request<AnyKey, Arc<KeyedLock<AnyKey>>>;

impl Tx {
    /// Waits for the lock of `key` and holds it until the outcome of this unit is durable. Asked for again, it is held already.
    ///
    /// First come, first served. Waits at most as long as the builder's `lock_wait` says, 30 s by default.
    ///
    /// # Errors
    /// [`LockError::Timeout`]; [`LockError::Deadlock`] if units wait for each other in a circle that this wait would close: roll
    /// back, so that the others get on, and run again; [`LockError::Upgrade`] if this unit holds it shared.
    /// After any of them the unit may go on without the lock.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    #[track_caller]
    pub fn lock<K: Key + Debug>(&mut self, key: K) -> impl Future<Output = Result<(), Error>> {
        self.locking().key(key)
    }

    /// As [`lock`](Self::lock), waiting at most `wait`.
    #[track_caller]
    pub fn lock_within<K: Key + Debug>(&mut self, key: K, wait: Duration) -> impl Future<Output = Result<(), Error>> {
        self.locking().within(wait).key(key)
    }

    /// As [`lock`](Self::lock), together with others who share the key; whoever wants it alone waits for all of them.
    #[track_caller]
    pub fn lock_shared<K: Key + Debug>(&mut self, key: K) -> impl Future<Output = Result<(), Error>> {
        self.locking().shared().key(key)
    }

    /// As [`lock`](Self::lock), for several keys, one after another in an order that is the same for every unit: units that take
    /// all their locks so never wait for each other in a circle. The wait is that of each key.
    #[track_caller]
    pub fn lock_all<K: Key + Debug + Ord>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> impl Future<Output = Result<(), Error>> {
        self.locking().keys(keys)
    }

    /// Begins to lock, with more to say: `tx.locking().shared().within(wait).key(7).await?`.
    #[track_caller]
    pub fn locking(&mut self) -> Locking<'_> {
        let wait = self.core().lock_wait;
        Locking { tx: self, shared: false, wait, at: Location::caller() }
    }

    /// As [`lock`](Self::lock), without waiting: whether it is held now.
    ///
    /// # Errors
    /// [`LockError::Upgrade`].
    #[track_caller]
    pub fn try_lock<K: Key + Debug>(&mut self, key: K) -> Result<bool, Error> {
        let asking = self.locking().asking(&key);
        match asking.try_obtain()? {
            None => Ok(false),
            Some(obtained) => self.keep(Ok(obtained)).map(|()| true),
        }
    }

    /// As [`lock`](Self::lock), for the closure of [`transaction_blocking`](Bus::transaction_blocking): the thread is blocked
    /// meanwhile, in real time. On a thread that drives asynchronous tasks it holds all of them up, its holder's perhaps too.
    ///
    /// # Errors
    /// As for [`lock`](Self::lock).
    #[track_caller]
    pub fn lock_blocking<K: Key + Debug>(&mut self, key: K) -> Result<(), Error> {
        self.locking().key_blocking(key)
    }

    fn keep(&mut self, obtained: Result<Obtained<OwnedGuard<AnyKey>>, LockError>) -> Result<(), Error> {
        match obtained? {
            Obtained::Now(guard) => self.hold(Box::new(guard)),
            Obtained::Before => {}
        }
        Ok(())
    }
}

/// A lock of a unit of work that is about to be asked for; from [`Tx::locking`].
#[must_use = "nothing is asked for before `key` or `keys`"]
pub struct Locking<'a> {
    tx: &'a mut Tx,
    shared: bool,
    wait: Duration,
    at: &'static Location<'static>,
}

impl Locking<'_> {
    /// Shares the key with other units that do so.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Waits at most so long, for each key.
    pub fn within(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Waits for the key; as [`Tx::lock`].
    ///
    /// # Errors
    /// As for [`Tx::lock`].
    pub async fn key<K: Key + Debug>(mut self, key: K) -> Result<(), Error> {
        let asking = self.asking(&key);
        self.tx.keep(asking.obtain().await)
    }

    /// Waits for the keys, one after another; as [`Tx::lock_all`].
    ///
    /// # Errors
    /// As for [`Tx::lock`]; those that were obtained before are held.
    pub fn keys<K: Key + Debug + Ord>(
        mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> impl Future<Output = Result<(), Error>> {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort();
        async move {
            for key in keys {
                let asking = self.asking(&key);
                self.tx.keep(asking.obtain().await)?;
            }
            Ok(())
        }
    }

    /// As [`key`](Self::key), blocking the thread; as [`Tx::lock_blocking`].
    ///
    /// # Errors
    /// As for [`Tx::lock`].
    pub fn key_blocking<K: Key + Debug>(mut self, key: K) -> Result<(), Error> {
        let asking = self.asking(&key);
        self.tx.keep(asking.obtain_blocking())
    }

    /// As [`keys`](Self::keys), blocking the thread.
    ///
    /// # Errors
    /// As for [`Tx::lock`].
    pub fn keys_blocking<K: Key + Debug + Ord>(mut self, keys: impl IntoIterator<Item = K>) -> Result<(), Error> {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort();
        keys.iter().try_for_each(|key| {
            let asking = self.asking(key);
            self.tx.keep(asking.obtain_blocking())
        })
    }

    fn asking<K: Key + Debug>(&mut self, key: &K) -> Asking {
        let locks = self.tx.core().locks.clone();
        let asking = locks.request_owned(AnyKey::of(key)).at(self.at).within(self.wait).by(self.tx.owner());
        if self.shared { asking.shared() } else { asking }
    }
}

impl Bus {
    /// The bus's keyed locks, which are those of its units of work: for what is to be locked beside them.
    ///
    /// ```
    /// use aftercommit::lock::AnyKey;
    /// use aftercommit::prelude::*;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let bus = Bus::builder().start().await.expect("the bus starts");
    /// let held = bus.locks().lock_owned(AnyKey::of(&7_u32)).await;
    /// bus.transaction(async |tx| {
    ///     assert!(!tx.try_lock(7_u32)?, "it is held outside");
    ///     Ok::<_, Error>(())
    /// })
    /// .await?;
    /// # drop(held);
    /// # Ok(())
    /// # }
    /// ```
    pub fn locks(&self) -> &Arc<KeyedLock<AnyKey>> {
        &self.core.locks
    }

    /// How many keys are locked right now.
    pub fn locked_keys(&self) -> usize {
        self.core.locks.len()
    }

    /// Which keys are locked right now, who holds each, and who waits for it: units of work by their name
    /// ([`Tx::set_name`]) and the place in the source that asked.
    pub fn locked(&self) -> Vec<Locked> {
        self.core.locks.view()
    }
}

/// Refuses writes of those whose lease has ended: the other half of a remote lock.
///
/// It remembers, for each key, the latest [`Fence`](crate::lock::Fence) that was shown in a unit that committed; an earlier one is
/// refused. Shown in the unit that does the work, it makes the work of a holder whose lease another took over impossible.
///
/// ```
/// use aftercommit::bus::Fences;
/// use aftercommit::lock::Fence;
/// use aftercommit::prelude::*;
///
/// const FENCES: Fences<u32> = Fences::new("shop.product-fences");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bus = Bus::builder().start().await?;
/// bus.transaction(async |tx| FENCES.pass(tx, &7, Fence(34))).await?;
/// let late = bus.transaction(async |tx| FENCES.pass(tx, &7, Fence(33))).await;
/// assert!(late.is_err(), "another has held the lock since");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Fences<K: Key>(Table<K, u64>);

impl<K: Key + Debug> Fences<K> {
    /// The fences that are kept in the table of this name.
    pub const fn new(table: &'static str) -> Self {
        Self(Table::new(table))
    }

    /// Shows the fence of the lease under which this unit does its work.
    ///
    /// # Errors
    /// [`LockError::Fenced`] if a later one was shown before: then the unit should roll back. The store's.
    pub fn pass(&self, tx: &mut Tx, key: &K, fence: crate::lock::Fence) -> Result<(), Error> {
        match self.0.get(tx, key)? {
            Some(latest) if latest > fence.0 => {
                Err(LockError::Fenced { key: format!("{key:?}"), fence: fence.0, latest }.into())
            }
            Some(latest) if latest == fence.0 => Ok(()),
            _ => self.0.put(tx, key, &fence.0),
        }
    }
}
