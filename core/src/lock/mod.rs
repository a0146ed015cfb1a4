//! Keyed locks: one holder for each key, or several who share it; first come, first served.
//!
//! [`KeyedLock`] is a value of its own and needs no bus. Tasks and threads wait in one queue. A key costs something only while
//! somebody holds or waits for it.
//! A bus has one for keys of any type ([`AnyKey`]): a lock taken through a unit of work is held until the unit's outcome is durable,
//! so that the next holder sees it. That verb, `tx.lock`, is in `bus`.
//!
//! Locks are local to the process. What that means beside a second process, and what to do about it: the guide's page on locks;
//! [`Locker`] is the port for locks that others keep.

mod any_key;
mod guard;
mod keyed;
mod locker;
mod owner;
mod request;
mod sync;
mod table;
mod waits;

pub use any_key::AnyKey;
pub use guard::{Guard, Guards, Hold, Holds, OwnedGuard, OwnedGuards};
pub use keyed::{Handle, KeyedLock, LockCounts, Locked, Waited};
pub use locker::{Fence, Lease, Locker};
pub use owner::Owner;
pub use request::{Request, Requests};
pub use table::Mode;

pub(crate) use request::Obtained;
#[doc(hidden)]
pub use request::obtained;
