//! Asking for a key, and waiting for it.

use std::fmt::Debug;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::guard::{Hold, Holds};
use super::keyed::{Handle, KeyedLock, Waited};
use super::owner::{Owner, Who};
use super::table::{Asked, Left, Mode, Place};
use crate::clock::Stopwatch;
use crate::error::LockError;

/// How often a thread looks again before it stands in the queue. Whoever stands there must be woken when its turn comes, which takes
/// far longer than most keys are held, and all others wait for it meanwhile.
const LOOKS: u32 = 64;
/// How many spins the pauses between two looks take: the first, from which they double, and the longest, from which on the thread
/// gives way to others too. Meanwhile the holder is undisturbed.
const PAUSES: (u32, u32) = (4, 32);

/// A key that is about to be asked for; ends with [`wait`](Self::wait), [`wait_blocking`](Self::wait_blocking) or [`now`](Self::now).
#[must_use = "nothing is asked for before `wait`, `wait_blocking` or `now`"]
pub struct Request<K, H> {
    lock: H,
    key: K,
    mode: Mode,
    wait: Option<Duration>,
    who: Who,
}

/// What a request came to.
pub(crate) enum Obtained<G> {
    /// The key is held by this guard.
    Now(G),
    /// The owner held it before.
    Before,
}

impl<K: Eq + Hash + Debug, H: Handle<K>> Request<K, H> {
    #[inline]
    pub(super) fn new(lock: H, key: K, at: &'static Location<'static>) -> Self {
        Self { lock, key, mode: Mode::Exclusive, wait: None, who: Who { owner: None, at } }
    }

    /// Shares the key with others who do so; exclusive unless this is said.
    pub fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// Waits at most so long; without end unless this is said.
    pub fn within(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Asks for an owner: it is named in views and errors, and a circle of waits between owners is an error.
    pub fn by(mut self, owner: &Owner) -> Self {
        self.who.owner = Some(owner.clone());
        self
    }

    /// Where in the source it is said to be asked for.
    pub(crate) fn at(mut self, at: &'static Location<'static>) -> Self {
        self.who.at = at;
        self
    }

    /// Waits for the key.
    ///
    /// # Errors
    /// [`LockError::Timeout`], if a time was said; [`LockError::Deadlock`], if an owner was.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the queue up.
    pub async fn wait(self) -> Result<Hold<K, H>, LockError> {
        self.obtain().await.and_then(Obtained::or_deadlock)
    }

    /// As [`wait`](Self::wait), for a thread that drives no tasks: it is blocked meanwhile, in real time.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn wait_blocking(self) -> Result<Hold<K, H>, LockError> {
        self.obtain_blocking().and_then(Obtained::or_deadlock)
    }

    /// The key, if it is free.
    #[inline]
    pub fn now(self) -> Option<Hold<K, H>> {
        match self.lock.table.ask(self.key, self.mode, self.who, None) {
            Asked::Held(place) => Some(Hold { lock: self.lock, place }),
            _ => None,
        }
    }

    /// As [`now`](Self::now); what the owner holds before counts as obtained.
    pub(crate) fn try_obtain(self) -> Result<Option<Obtained<Hold<K, H>>>, LockError> {
        match self.lock.table.ask(self.key, self.mode, self.who, None) {
            Asked::Held(place) => Ok(Some(Obtained::Now(Hold { lock: self.lock, place }))),
            Asked::Own(key, held) => own(&key, self.mode, held).map(Some),
            Asked::Busy(_) | Asked::Queued(_) => Ok(None),
        }
    }

    /// As [`wait`](Self::wait); what the owner holds before counts as obtained.
    #[inline]
    pub(crate) async fn obtain(self) -> Result<Obtained<Hold<K, H>>, LockError> {
        let Self { lock, key, mode, wait, who } = self;
        let mut key = Some(key);
        // Polled once: it answers at once.
        let asked = poll_fn(|context| match key.take() {
            Some(key) => Poll::Ready(lock.table.ask(key, mode, who.clone(), Some(context.waker()))),
            None => Poll::Pending,
        });
        match asked.await {
            Asked::Held(place) => Ok(Obtained::Now(Hold { lock, place })),
            Asked::Own(key, held) => own(&key, mode, held),
            // In a box, so that who need not wait does not carry what waiting takes.
            Asked::Queued(place) => Box::pin(stand_in_line(Standing { lock, place, wait, who })).await,
            Asked::Busy(_) => unreachable!("a place was asked for"),
        }
    }

    /// As [`wait_blocking`](Self::wait_blocking); what the owner holds before counts as obtained.
    #[inline]
    pub(crate) fn obtain_blocking(self) -> Result<Obtained<Hold<K, H>>, LockError> {
        let Self { lock, key, mode, wait, who } = self;
        match lock.table.ask(key, mode, who.clone(), None) {
            Asked::Held(place) => Ok(Obtained::Now(Hold { lock, place })),
            Asked::Own(key, held) => own(&key, mode, held),
            Asked::Busy(key) => Self { lock, key, mode, wait, who }.look_again(),
            Asked::Queued(_) => unreachable!("a place was taken that nobody asked for"),
        }
    }

    /// Looks again a few times, then stands in the queue, blocking the thread.
    #[cold]
    fn look_again(mut self) -> Result<Obtained<Hold<K, H>>, LockError> {
        let (mut pause, longest) = PAUSES;
        for _ in 0..LOOKS {
            (0..pause).for_each(|_| std::hint::spin_loop());
            if pause < longest {
                pause *= 2;
            } else {
                thread::yield_now();
            }
            self.key = match self.lock.table.ask(self.key, self.mode, self.who.clone(), None) {
                Asked::Held(place) => return Ok(Obtained::Now(Hold { lock: self.lock, place })),
                Asked::Own(key, held) => return own(&key, self.mode, held),
                Asked::Busy(key) => key,
                Asked::Queued(_) => unreachable!("a place was taken that nobody asked for"),
            };
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let Self { lock, key, mode, wait, who } = self;
        let place = match lock.table.ask(key, mode, who.clone(), Some(&waker)) {
            Asked::Held(place) => return Ok(Obtained::Now(Hold { lock, place })),
            Asked::Own(key, held) => return own(&key, mode, held),
            Asked::Queued(place) => place,
            Asked::Busy(_) => unreachable!("a place was asked for"),
        };
        let queued = Queued::begin(&*lock, place, who)?;
        let begun = Stopwatch::start();
        let in_time = loop {
            if lock.table.is_held(place, &waker) {
                break true;
            }
            match wait.map(|wait| wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())) {
                None => thread::park(),
                Some(Some(left)) => thread::park_timeout(left),
                Some(None) => break false,
            }
        };
        queued.end(in_time, wait)?;
        Ok(Obtained::Now(Hold { lock, place }))
    }
}

/// A request that has its place in the queue.
pub(super) struct Standing<H> {
    pub(super) lock: H,
    pub(super) place: Place,
    pub(super) wait: Option<Duration>,
    pub(super) who: Who,
}

/// Waits until the key is handed over, or the time is over.
pub(super) async fn stand_in_line<K: Eq + Hash + Debug, H: Handle<K>>(
    standing: Standing<H>,
) -> Result<Obtained<Hold<K, H>>, LockError> {
    let Standing { lock, place, wait, who } = standing;
    let queued = Queued::begin(&*lock, place, who)?;
    let granted = poll_fn(|context| queued.poll(context));
    let in_time = match wait {
        None => {
            granted.await;
            true
        }
        Some(wait) => {
            tokio::select! {
                biased;
                () = granted => true,
                () = pin!(lock.clock.sleep(wait)) => false,
            }
        }
    };
    queued.end(in_time, wait)?;
    Ok(Obtained::Now(Hold { lock, place }))
}

/// What a request without owner and time came to: nothing can be in its way.
#[inline]
pub fn obtained<G>(waited: Result<G, LockError>) -> G {
    match waited {
        Ok(guard) => guard,
        Err(error) => unreachable!("a wait without end and owner was refused: {error}"),
    }
}

impl<G> Obtained<G> {
    /// An owner that asks again waits for itself.
    pub(super) fn or_deadlock(self) -> Result<G, LockError> {
        match self {
            Obtained::Now(guard) => Ok(guard),
            Obtained::Before => Err(LockError::Reentrant),
        }
    }
}

/// What is said to an owner that holds the key already.
#[cold]
fn own<G>(key: &impl Debug, asked: Mode, held: Mode) -> Result<Obtained<G>, LockError> {
    match (asked, held) {
        (Mode::Exclusive, Mode::Shared) => Err(LockError::Upgrade { key: format!("{key:?}") }),
        _ => Ok(Obtained::Before),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A place in a queue, given up when dropped; or the key, if it was handed over meanwhile, which is released then.
struct Queued<'a, K: Eq + Hash + Debug> {
    lock: &'a KeyedLock<K>,
    place: Place,
    owner: Option<Owner>,
    begun: Option<Stopwatch>,
    ended: bool,
}

impl<'a, K: Eq + Hash + Debug> Queued<'a, K> {
    fn begin(lock: &'a KeyedLock<K>, place: Place, who: Who) -> Result<Self, LockError> {
        let begun = lock.watcher.is_some().then(Stopwatch::start);
        let owner = who.owner.clone();
        let queued = Self { lock, place, owner, begun, ended: false };
        let Some(owner) = &queued.owner else { return Ok(queued) };
        match lock.waiting.begin(&lock.table, owner, who, place) {
            Ok(()) => Ok(queued),
            Err(circle) => {
                lock.deadlocks.fetch_add(1, Ordering::Relaxed);
                Err(LockError::Deadlock { circle })
            }
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.lock.table.is_held(self.place, context.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The key, if it was handed over; else the place is given up.
    fn end(mut self, in_time: bool, wait: Option<Duration>) -> Result<(), LockError> {
        // First: whoever is late must not close a circle for somebody else any more.
        self.end_wait();
        let held_by = || self.lock.table.look(self.place).map(|seen| (seen.key, seen.holders));
        let seen = if in_time { None } else { held_by() };
        if in_time || self.lock.table.leave(self.place) == Left::Held {
            self.close(true);
            return Ok(());
        }
        self.close(false);
        self.lock.late.fetch_add(1, Ordering::Relaxed);
        let (key, holders) = seen.unwrap_or_default();
        let held_by = holders.iter().map(Who::to_string).collect();
        Err(LockError::Timeout { key, waited: wait.unwrap_or_default(), held_by })
    }

    fn end_wait(&self) {
        if let Some(owner) = &self.owner {
            self.lock.waiting.end(owner);
        }
    }

    fn close(&mut self, obtained: bool) {
        self.ended = true;
        if let (Some(begun), Some(watcher)) = (self.begun, &self.lock.watcher) {
            let waited = Waited { took: begun.elapsed(), obtained };
            // A watcher that panics must not keep the key.
            let _ = catch_unwind(AssertUnwindSafe(|| watcher(&waited)));
        }
    }
}

impl<K: Eq + Hash + Debug> Drop for Queued<'_, K> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.end_wait();
        if self.lock.table.leave(self.place) == Left::Held {
            self.lock.table.release(self.place);
        }
        self.close(false);
    }
}

/// Several keys that are about to be asked for.
#[must_use = "nothing is asked for before `wait`, `wait_blocking` or `now`"]
pub struct Requests<K, H> {
    lock: H,
    keys: Vec<K>,
    mode: Mode,
    wait: Option<Duration>,
    who: Who,
}

impl<K: Eq + Hash + Debug, H: Handle<K>> Requests<K, H> {
    pub(super) fn new(lock: H, keys: impl IntoIterator<Item = K>, at: &'static Location<'static>) -> Self
    where
        K: Ord,
    {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        Self { lock, keys, mode: Mode::Exclusive, wait: None, who: Who { owner: None, at } }
    }

    /// As [`Request::shared`], for all of them.
    pub fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// Waits at most so long for each of them.
    pub fn within(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// As [`Request::by`].
    pub fn by(mut self, owner: &Owner) -> Self {
        self.who.owner = Some(owner.clone());
        self
    }

    fn each(self) -> impl Iterator<Item = Request<K, H>> {
        let Self { lock, keys, mode, wait, who } = self;
        keys.into_iter().map(move |key| Request { lock: lock.clone(), key, mode, wait, who: who.clone() })
    }

    /// Waits for all keys, one after another. If one is not obtained, those before it are released.
    ///
    /// # Errors
    /// As for [`Request::wait`].
    ///
    /// # Cancel safety
    /// Dropping the future releases what was obtained, and gives the place in the queue up.
    pub async fn wait(self) -> Result<Holds<K, H>, LockError> {
        let mut held = Holds(Vec::with_capacity(self.keys.len()));
        for request in self.each() {
            held.0.push(request.wait().await?);
        }
        Ok(held)
    }

    /// As [`wait`](Self::wait), for a thread that drives no tasks.
    ///
    /// # Errors
    /// As for [`Request::wait`].
    pub fn wait_blocking(self) -> Result<Holds<K, H>, LockError> {
        let mut held = Holds(Vec::with_capacity(self.keys.len()));
        for request in self.each() {
            held.0.push(request.wait_blocking()?);
        }
        Ok(held)
    }

    /// All keys, if they are free; none otherwise.
    pub fn now(self) -> Option<Holds<K, H>> {
        let mut held = Holds(Vec::with_capacity(self.keys.len()));
        for request in self.each() {
            held.0.push(request.now()?);
        }
        Some(held)
    }
}
