//! A lock for each key.

use std::fmt::{self, Debug};
use std::future::poll_fn;
use std::hash::Hash;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::guard::{Guard, OwnedGuard};
use super::owner::Who;
use super::request::{Obtained, Request, Requests, Standing, obtained, stand_in_line};
use super::table::{Asked, Mode, Seen, Table};
use super::waits::Waiting;
use crate::clock::{Clock, SystemClock};

/// How many buckets there are unless it is said.
const BUCKETS: usize = 1024;

/// A lock for each key of type `K`: nobody else holds the key while you do.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::lock::KeyedLock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aftercommit::Error> {
/// let accounts: KeyedLock<u64> = KeyedLock::new();
/// let held = accounts.lock(7).await; // a thread says `lock_blocking(7)`
/// assert!(accounts.try_lock(7).is_none());
/// assert!(accounts.try_lock(8).is_some(), "other keys are free");
/// drop(held);
///
/// let both = accounts.request_all([9, 7]).within(Duration::from_secs(1)).wait().await?; // never in a circle with [7, 9]
/// drop(both);
/// assert_eq!(accounts.len(), 0, "nothing is left behind");
/// # Ok(())
/// # }
/// ```
///
/// # Order
/// Who waits is served in the order of asking, tasks and threads alike; nobody overtakes who waits, not even to share a key with
/// its holders. A thread that finds the key held looks again for a tenth of a millisecond before it stands in the queue.
///
/// # Reentrance
/// There is none: who asks for a key that it holds waits for itself. Say [`within`](Request::within), or name an
/// [`Owner`](super::Owner), which is told. A unit of work may ask again.
///
/// # Costs
/// Made for up to some 100,000 keys held at the same time; of how many there are altogether it knows nothing. Memory: about 130 KiB,
/// or less with [`with_buckets`](Self::with_buckets).
pub struct KeyedLock<K> {
    pub(super) table: Table<K, Who>,
    pub(super) waiting: Waiting,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watcher: Option<Box<Watcher>>,
    pub(super) late: AtomicU64,
    pub(super) deadlocks: AtomicU64,
}

type Watcher = dyn Fn(&Waited) + Send + Sync;

/// A wait for a key that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waited {
    /// How long it took, in real time.
    pub took: Duration,
    /// Whether the key was obtained in the end.
    pub obtained: bool,
}

/// What was counted since the value was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockCounts {
    /// Locks taken.
    pub taken: u64,
    /// Requests that had to wait.
    pub waited: u64,
    /// Of these, given up: timed out, refused for a deadlock, or dropped.
    pub given_up: u64,
    /// Of these, because their time was over.
    pub timed_out: u64,
    /// Of these, because owners waited for each other in a circle.
    pub deadlocks: u64,
}

/// A key that somebody holds, and who waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locked {
    /// The key, as its type spells it.
    pub key: String,
    /// How it is held.
    pub mode: Mode,
    /// Who holds it: the name of the owner, if there is one, and where it was asked for.
    pub holders: Vec<String>,
    /// Who waits, in the order of the queue.
    pub waiters: Vec<String>,
}

impl<K: Eq + Hash + Debug> KeyedLock<K> {
    /// A lock for each key; none is held.
    pub fn new() -> Self {
        Self::with_buckets(BUCKETS)
    }

    /// As [`new`](Self::new), over so many buckets, rounded up to a power of two, instead of 1024: 128 bytes and a few more each.
    /// What two threads do with different keys meets only within a bucket.
    pub fn with_buckets(buckets: usize) -> Self {
        Self {
            table: Table::new(buckets),
            waiting: Waiting::default(),
            clock: Arc::new(SystemClock),
            watcher: None,
            late: AtomicU64::new(0),
            deadlocks: AtomicU64::new(0),
        }
    }

    /// Tells how long a task has waited; the machine's clock, which is tokio's timer, unless said here.
    /// Threads wait in real time, whatever the clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Is told of each wait that came to its end, and of nothing else: a key that was free costs nothing. Must be quick.
    pub fn watcher(mut self, watcher: impl Fn(&Waited) + Send + Sync + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// Waits for `key`, as long as it takes.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the queue up.
    #[track_caller]
    pub fn lock(&self, key: K) -> impl Future<Output = Guard<'_, K>> {
        let at = Location::caller();
        let mut key = Some(key);
        // As a request does, with nothing but the key to carry.
        async move {
            let who = || Who { owner: None, at };
            let asked = poll_fn(|context| match key.take() {
                Some(key) => Poll::Ready(self.table.ask(key, Mode::Exclusive, who(), Some(context.waker()))),
                None => Poll::Pending,
            });
            match asked.await {
                Asked::Held(place) => Guard { lock: self, place },
                Asked::Queued(place) => {
                    let standing = Standing { lock: self, place, wait: None, who: who() };
                    obtained(Box::pin(stand_in_line(standing)).await.and_then(Obtained::or_deadlock))
                }
                Asked::Own(..) | Asked::Busy(_) => unreachable!("it has no name, and asked for a place"),
            }
        }
    }

    /// As [`lock`](Self::lock), for a thread that drives no tasks: it is blocked meanwhile.
    #[track_caller]
    pub fn lock_blocking(&self, key: K) -> Guard<'_, K> {
        obtained(self.request(key).wait_blocking())
    }

    /// `key`, if nobody holds it.
    #[track_caller]
    #[inline]
    pub fn try_lock(&self, key: K) -> Option<Guard<'_, K>> {
        self.request(key).now()
    }

    /// As [`lock`](Self::lock), with a guard that borrows nothing.
    #[track_caller]
    pub fn lock_owned(self: &Arc<Self>, key: K) -> impl Future<Output = OwnedGuard<K>> + use<K> {
        let request = self.request_owned(key);
        async move { obtained(request.wait().await) }
    }

    /// Begins to ask for `key`: shared, within a time, for an owner.
    #[track_caller]
    #[inline]
    pub fn request(&self, key: K) -> Request<K, &Self> {
        Request::new(self, key, Location::caller())
    }

    /// As [`request`](Self::request), for a guard that borrows nothing.
    #[track_caller]
    pub fn request_owned(self: &Arc<Self>, key: K) -> Request<K, Arc<Self>> {
        Request::new(self.clone(), key, Location::caller())
    }

    /// Begins to ask for several keys, which are taken one after another in their own order, the same for everybody who asks so:
    /// two that ask for the same keys never wait for each other in a circle. A key that is given twice is taken once.
    #[track_caller]
    pub fn request_all(&self, keys: impl IntoIterator<Item = K>) -> Requests<K, &Self>
    where
        K: Ord,
    {
        Requests::new(self, keys, Location::caller())
    }

    /// As [`request_all`](Self::request_all), for guards that borrow nothing.
    #[track_caller]
    pub fn request_all_owned(self: &Arc<Self>, keys: impl IntoIterator<Item = K>) -> Requests<K, Arc<Self>>
    where
        K: Ord,
    {
        Requests::new(self.clone(), keys, Location::caller())
    }

    /// How many keys are held. Looks into every bucket.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key that is held, with who holds it and who waits, in no particular order. Each is seen as it was at one moment, all
    /// of them not at the same. Looks into every bucket, and spells every key.
    pub fn view(&self) -> Vec<Locked> {
        self.table.seen().into_iter().map(Locked::from).collect()
    }

    /// What was counted so far. Looks into every bucket.
    pub fn counts(&self) -> LockCounts {
        let counted = self.table.counted();
        LockCounts {
            taken: counted.taken,
            waited: counted.queued,
            given_up: counted.left,
            timed_out: self.late.load(Ordering::Relaxed),
            deadlocks: self.deadlocks.load(Ordering::Relaxed),
        }
    }
}

impl From<Seen<Who>> for Locked {
    fn from(seen: Seen<Who>) -> Self {
        let waiting = |(mode, who): &(Mode, Who)| match mode {
            Mode::Exclusive => who.to_string(),
            Mode::Shared => format!("{who} (shared)"),
        };
        Self {
            key: seen.key,
            mode: seen.mode,
            holders: seen.holders.iter().map(Who::to_string).collect(),
            waiters: seen.waiters.iter().map(waiting).collect(),
        }
    }
}

impl<K: Eq + Hash + Debug> Default for KeyedLock<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Debug for KeyedLock<K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeyedLock").finish_non_exhaustive()
    }
}

/// A handle of a [`KeyedLock`]: a reference, or an `Arc`.
pub trait Handle<K>: Deref<Target = KeyedLock<K>> + Clone {}

impl<K, H: Deref<Target = KeyedLock<K>> + Clone> Handle<K> for H {}
