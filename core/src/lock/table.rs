//! The table of keys: who holds each, and who waits for it in which order. Nothing here waits.
//!
//! A key is an entry of its bucket while somebody holds or waits for it, and gone after. Everything about one key happens under
//! the lock of its bucket, so that a release hands the key to the first who waits in the step that gives it up: nobody comes
//! between, and who leaves the queue is found in it, or holds the key and passes it on.
//!
//! It stands on nothing but a mutex, so that every order of its steps can be tried (`core/lockcheck`).

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::ops::DerefMut;
use std::task::Waker;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::sync::Mutex;

/// How many may hold a key at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One.
    Exclusive,
    /// Any number, as long as none of them is exclusive.
    Shared,
}

/// Who holds or waits, as far as the table must know.
pub(crate) trait Party {
    /// Whether both are one that would wait for itself.
    fn is_same(&self, other: &Self) -> bool;
}

/// Where somebody holds or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    bucket: usize,
    entry: u64,
    ticket: u64,
}

/// What asking for a key came to.
#[derive(Debug)]
pub(crate) enum Asked<K> {
    /// It is held.
    Held(Place),
    /// Others hold it; a place in the queue is taken.
    Queued(Place),
    /// Others hold it, and no place was asked for.
    Busy(K),
    /// The same party holds it, in this mode.
    Own(K, Mode),
}

/// How leaving a queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The place in the queue is given up.
    Queue,
    /// Too late: the key was handed over already, and is held.
    Held,
}

/// What the table has counted since it was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) taken: u64,
    pub(crate) queued: u64,
    pub(crate) left: u64,
}

/// A key that is held or waited for.
#[derive(Debug)]
pub(crate) struct Seen<W> {
    pub(crate) key: String,
    pub(crate) mode: Mode,
    pub(crate) holders: Vec<W>,
    pub(crate) waiters: Vec<(Mode, W)>,
}

/// The keys that are held or waited for.
pub(crate) struct Table<K, W> {
    buckets: Box<[Bucket<K, W>]>,
    hasher: RandomState,
}

/// On a cache line of its own, so that neighbours do not slow each other down.
#[repr(align(64))]
struct Bucket<K, W>(Mutex<Entries<K, W>>);

struct Entries<K, W> {
    /// Of the next who asks here; ascends, so that a queue is sorted by it.
    ticket: u64,
    queued: u64,
    left: u64,
    /// A key that is as most keys are: one party has it, nobody waits, and it came when there was no other here.
    plain: Option<Plain<K, W>>,
    list: Vec<Entry<K, W>>,
}

struct Plain<K, W> {
    key: K,
    ticket: u64,
    mode: Mode,
    who: W,
}

struct Entry<K, W> {
    key: K,
    /// The ticket of who made it.
    id: u64,
    mode: Mode,
    /// Never empty while the bucket is not locked.
    holders: SmallVec<[Holder<W>; 1]>,
    /// Made once somebody waits; in a box, as most keys have none and it would be half of their entry.
    #[allow(clippy::box_collection)]
    queue: Option<Box<VecDeque<Waiter<W>>>>,
}

struct Holder<W> {
    ticket: u64,
    who: W,
}

struct Waiter<W> {
    ticket: u64,
    mode: Mode,
    who: W,
    waker: Waker,
}

type Wakers = SmallVec<[Waker; 2]>;

impl<K: Eq + Hash, W: Party> Table<K, W> {
    /// So many buckets, rounded up to a power of two.
    pub(crate) fn new(buckets: usize) -> Self {
        let bucket = || Bucket(Mutex::new(Entries { ticket: 0, queued: 0, left: 0, plain: None, list: Vec::new() }));
        let buckets = std::iter::repeat_with(bucket).take(buckets.max(1).next_power_of_two()).collect();
        Self { buckets, hasher: RandomState::default() }
    }

    /// Takes `key` if it is free, or its place in the queue if a waker is given, which is woken when the key is handed over.
    #[inline]
    pub(crate) fn ask(&self, key: K, mode: Mode, who: W, waker: Option<&Waker>) -> Asked<K> {
        let bucket = self.hasher.hash_one(&key) as usize & (self.buckets.len() - 1);
        let mut entries = self.buckets[bucket].0.lock();
        if entries.is_empty() {
            return Asked::Held(entries.take(bucket, key, mode, who));
        }
        entries.ask_otherwise(bucket, key, mode, who, waker)
    }

    /// Whether who waits at `place` holds the key by now; if not, `waker` is woken once it does.
    pub(crate) fn is_held(&self, place: Place, waker: &Waker) -> bool {
        let mut entries = self.buckets[place.bucket].0.lock();
        let Some(entry) = entries.entry(place) else { return false };
        if entry.holders.iter().any(|holder| holder.ticket == place.ticket) {
            return true;
        }
        let waiter = entry.waiter(place.ticket);
        let outdated = waiter.filter(|waiter| !waiter.waker.will_wake(waker));
        let _outdated = outdated.map(|waiter| std::mem::replace(&mut waiter.waker, waker.clone()));
        drop(entries);
        false
    }

    /// Gives the key up, and hands it to the first who waits.
    #[inline]
    pub(crate) fn release(&self, place: Place) {
        let mut entries = self.buckets[place.bucket].0.lock();
        if entries.plain.as_ref().is_some_and(|plain| plain.ticket == place.ticket) {
            // Dropped outside, as a key's end is its own affair.
            let gone = entries.plain.take();
            drop(entries);
            drop(gone);
            return;
        }
        Self::release_otherwise(entries, place);
    }

    #[inline(never)]
    fn release_otherwise(mut entries: impl DerefMut<Target = Entries<K, W>>, place: Place) {
        let Some(at) = entries.list.iter().position(|entry| entry.id == place.entry) else { return };
        let entry = &mut entries.list[at];
        let holder = entry.holders.iter().position(|holder| holder.ticket == place.ticket);
        let holder = holder.map(|at| entry.holders.swap_remove(at));
        let (gone, wakers) = entries.hand_on(at);
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
        drop((holder, gone));
    }

    /// Leaves the queue, unless the key was handed over already.
    pub(crate) fn leave(&self, place: Place) -> Left {
        let mut entries = self.buckets[place.bucket].0.lock();
        let Some(at) = entries.list.iter().position(|entry| entry.id == place.entry) else { return Left::Queue };
        let Some(waiter) = entries.list[at].take_waiter(place.ticket) else { return Left::Held };
        entries.left += 1;
        // Those behind it may fit in beside the holders now.
        let (gone, wakers) = entries.hand_on(at);
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
        drop((waiter, gone));
        Left::Queue
    }

    /// How many keys are held or waited for.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.0.lock().len()).sum()
    }

    pub(crate) fn counted(&self) -> Counted {
        self.buckets.iter().fold(Counted::default(), |sum, bucket| {
            let entries = bucket.0.lock();
            Counted {
                taken: sum.taken + entries.ticket - entries.left - entries.waiting(),
                queued: sum.queued + entries.queued,
                left: sum.left + entries.left,
            }
        })
    }
}

impl<K: Eq + Hash + Debug, W: Party + Clone> Table<K, W> {
    /// Every key that is held, bucket by bucket.
    pub(crate) fn seen(&self) -> Vec<Seen<W>> {
        let buckets = self.buckets.iter().flat_map(|bucket| {
            let entries = bucket.0.lock();
            let plain = entries.plain.iter().map(Plain::seen);
            plain.chain(entries.list.iter().map(Entry::seen)).collect::<Vec<_>>()
        });
        buckets.collect()
    }

    /// The key at `place`, and who holds it.
    pub(crate) fn look(&self, place: Place) -> Option<Seen<W>> {
        let mut entries = self.buckets[place.bucket].0.lock();
        entries.entry(place).map(|entry| entry.seen())
    }

    /// Those who hold the key at `place`.
    pub(crate) fn holders(&self, place: Place) -> SmallVec<[W; 1]> {
        let mut entries = self.buckets[place.bucket].0.lock();
        let holders = entries.entry(place).map(|entry| entry.holders.iter().map(|holder| holder.who.clone()).collect());
        holders.unwrap_or_default()
    }
}

impl<K: Eq, W: Party> Entries<K, W> {
    fn draw(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    fn is_empty(&self) -> bool {
        self.plain.is_none() && self.list.is_empty()
    }

    fn len(&self) -> usize {
        usize::from(self.plain.is_some()) + self.list.len()
    }

    /// A key that nobody holds, where there is no other.
    #[inline]
    fn take(&mut self, bucket: usize, key: K, mode: Mode, who: W) -> Place {
        let ticket = self.draw();
        self.plain = Some(Plain { key, ticket, mode, who });
        Place { bucket, entry: ticket, ticket }
    }

    /// A key beside others, or one that somebody holds.
    #[inline(never)]
    fn ask_otherwise(&mut self, bucket: usize, key: K, mode: Mode, who: W, waker: Option<&Waker>) -> Asked<K> {
        if self.plain.as_ref().is_some_and(|plain| plain.key == key) {
            self.unfold();
        }
        if let Some(at) = self.list.iter().position(|entry| entry.key == key) {
            return self.ask_of(bucket, at, key, mode, who, waker);
        }
        let ticket = self.draw();
        self.list.push(Plain { key, ticket, mode, who }.into());
        Asked::Held(Place { bucket, entry: ticket, ticket })
    }

    /// Puts the plain key among the others: somebody joins it, waits for it, or looks at it.
    fn unfold(&mut self) {
        self.list.extend(self.plain.take().map(Entry::from));
    }

    /// A key that somebody holds.
    fn ask_of(&mut self, bucket: usize, at: usize, key: K, mode: Mode, who: W, waker: Option<&Waker>) -> Asked<K> {
        let entry = &mut self.list[at];
        if entry.holders.iter().any(|holder| holder.who.is_same(&who)) {
            return Asked::Own(key, entry.mode);
        }
        let id = entry.id;
        let joins = mode == Mode::Shared && entry.mode == Mode::Shared && entry.queue.is_none();
        if !joins && waker.is_none() {
            return Asked::Busy(key);
        }
        let ticket = self.draw();
        let place = Place { bucket, entry: id, ticket };
        match waker {
            Some(waker) if !joins => {
                let waiter = Waiter { ticket, mode, who, waker: waker.clone() };
                self.list[at].queue.get_or_insert_default().push_back(waiter);
                self.queued += 1;
                Asked::Queued(place)
            }
            _ => {
                self.list[at].holders.push(Holder { ticket, who });
                Asked::Held(place)
            }
        }
    }

    fn entry(&mut self, place: Place) -> Option<&mut Entry<K, W>> {
        if self.plain.as_ref().is_some_and(|plain| plain.ticket == place.entry) {
            self.unfold();
        }
        self.list.iter_mut().find(|entry| entry.id == place.entry)
    }

    /// How many wait.
    fn waiting(&self) -> u64 {
        self.list.iter().filter_map(|entry| entry.queue.as_ref()).map(|queue| queue.len() as u64).sum()
    }

    /// Hands the key to those in front of its queue who fit, and removes its entry if nobody holds it then.
    fn hand_on(&mut self, at: usize) -> (Option<Entry<K, W>>, Wakers) {
        let entry = &mut self.list[at];
        let mut wakers = Wakers::new();
        if let Some(queue) = &mut entry.queue {
            while let Some(front) = queue.front() {
                let fits = entry.holders.is_empty() || (entry.mode == Mode::Shared && front.mode == Mode::Shared);
                let Some(front) = fits.then(|| queue.pop_front()).flatten() else { break };
                entry.mode = front.mode;
                entry.holders.push(Holder { ticket: front.ticket, who: front.who });
                wakers.push(front.waker);
            }
            if queue.is_empty() {
                entry.queue = None;
            }
        }
        let gone = entry.holders.is_empty().then(|| self.list.swap_remove(at));
        if self.list.is_empty() {
            self.list = Vec::new();
        }
        (gone, wakers)
    }
}

impl<K, W> From<Plain<K, W>> for Entry<K, W> {
    fn from(plain: Plain<K, W>) -> Self {
        let Plain { key, ticket, mode, who } = plain;
        let mut holders = SmallVec::new();
        holders.push(Holder { ticket, who });
        Self { key, id: ticket, mode, holders, queue: None }
    }
}

impl<K, W> Entry<K, W> {
    fn waiter(&mut self, ticket: u64) -> Option<&mut Waiter<W>> {
        let queue = self.queue.as_mut()?;
        let at = queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        queue.get_mut(at)
    }

    fn take_waiter(&mut self, ticket: u64) -> Option<Waiter<W>> {
        let queue = self.queue.as_mut()?;
        let at = queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        queue.remove(at)
    }
}

impl<K: Debug, W: Clone> Plain<K, W> {
    fn seen(&self) -> Seen<W> {
        let Self { key, mode, who, .. } = self;
        Seen { key: format!("{key:?}"), mode: *mode, holders: vec![who.clone()], waiters: Vec::new() }
    }
}

impl<K: Debug, W: Clone> Entry<K, W> {
    fn seen(&self) -> Seen<W> {
        let waiters = self.queue.iter().flat_map(|queue| queue.iter());
        Seen {
            key: format!("{:?}", self.key),
            mode: self.mode,
            holders: self.holders.iter().map(|holder| holder.who.clone()).collect(),
            waiters: waiters.map(|waiter| (waiter.mode, waiter.who.clone())).collect(),
        }
    }
}
