//! The port for locks that others keep: another process, a database, a lock service.
//!
//! Whoever keeps locks for several processes can lend them only: a holder that is gone must not hold for ever. So a remote lock
//! is a lease, and a holder may believe that it still holds what another was given meanwhile; no clock helps against a process
//! that stood still. Therefore each lease carries a [`Fence`], and what the lock protects must refuse a fence that is older than
//! one it has seen: `bus::Fences` does so for rows of the store.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::error::LockError;

/// A token that grows with every lease of a key: a later holder's is greater than that of every earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

/// Keeps locks outside of this process.
pub trait Locker: Send + Sync + 'static {
    /// Waits at most `wait` for the lock of `key` among those of `scope`, and leases it for `lease`.
    ///
    /// # Obligations
    /// One holder at a time, as long as its lease has not ended. The lease's fence is greater than that of every lease of this key
    /// before it, also across a restart of the keeper. Dropping the future leaves no lock behind, or one that ends with its lease.
    ///
    /// # Errors
    /// [`LockError::Timeout`], [`LockError::Keeper`].
    fn lease<'a>(
        &'a self,
        scope: &'a str,
        key: &'a [u8],
        wait: Duration,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Lease>, LockError>>;
}

/// A remote lock that was leased. Dropped, it is given back as soon as may be, at the latest when its time is over.
pub trait Lease: Send {
    /// What whoever is protected by the lock must be shown.
    fn fence(&self) -> Fence;

    /// Leases it for so long from now on; `false` if it had ended, and another may have had it.
    fn renew(&mut self, lease: Duration) -> BoxFuture<'_, Result<bool, LockError>>;

    /// Gives it back. Does nothing if it had ended.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), LockError>>;
}
