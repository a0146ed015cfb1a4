//! A rate for each key: for users, tenants, addresses.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;

use super::cycle::{Cycle, Moment, Reserved, pack, refreshed};
use super::settings::RateSettings;
use crate::clock::{Clock, SystemClock};
use crate::error::{InvalidPolicy, PolicyError};
use crate::resilience::settings::checked;

const SHARDS: usize = 64;

/// A rate limiter for each key; clones are the same ones.
///
/// A key takes memory only while permits of it are used: what has all its permits back is let go of as others come.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::resilience::{KeyedRateLimiter, RateSettings};
///
/// let per_user = KeyedRateLimiter::new("orders-per-user", RateSettings::new(1, Duration::from_secs(60)))?;
/// assert!(per_user.try_acquire(&7));
/// assert!(!per_user.try_acquire(&7), "this user must wait");
/// assert!(per_user.try_acquire(&8), "another need not");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeyedRateLimiter<K>(Arc<Inner<K>>);

struct Inner<K> {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    cycle: Cycle,
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
    refused: AtomicU64,
}

struct Shard<K> {
    states: HashTable<(K, u64)>,
    /// At how many keys those that have all their permits are looked for.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 64;

impl<K: Eq + Hash + Clone> KeyedRateLimiter<K> {
    /// A limiter on the machine's clock.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(name: impl Into<Arc<str>>, settings: RateSettings) -> Result<Self, InvalidPolicy> {
        Self::on_clock(name, settings, Arc::new(SystemClock))
    }

    /// A limiter on another clock.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn on_clock(
        name: impl Into<Arc<str>>,
        settings: RateSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidPolicy> {
        let name = name.into();
        let settings = checked(&name, settings)?;
        let shard = || Mutex::new(Shard { states: HashTable::new(), sweep_at: FIRST_SWEEP });
        Ok(Self(Arc::new(Inner {
            cycle: Cycle::new(&settings, clock.ticks()),
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            refused: AtomicU64::new(0),
            name,
            clock,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Takes a permit of `key` if its present cycle has one.
    pub fn try_acquire(&self, key: &K) -> bool {
        self.reserve_within(key, 1, 0) == Reserved::Now
    }

    /// Takes a permit of `key`, waiting for one of a later cycle if that is soon enough.
    ///
    /// # Errors
    /// [`PolicyError::RateLimited`], at once.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it gives its permit back.
    pub async fn acquire(&self, key: &K) -> Result<(), PolicyError> {
        match self.reserve(key)? {
            0 => Ok(()),
            wait => {
                let waiting = Waiting { limiter: self, key, permits: 1 };
                self.0.clock.sleep(Duration::from_nanos(wait)).await;
                waiting.end();
                Ok(())
            }
        }
    }

    /// As [`acquire`](Self::acquire), for a thread that drives no tasks: it is blocked meanwhile.
    ///
    /// # Errors
    /// As for `acquire`.
    pub fn acquire_blocking(&self, key: &K) -> Result<(), PolicyError> {
        match self.reserve(key)? {
            0 => Ok(()),
            wait => {
                let waiting = Waiting { limiter: self, key, permits: 1 };
                crate::clock::pause(&*self.0.clock, Duration::from_nanos(wait));
                waiting.end();
                Ok(())
            }
        }
    }

    /// Takes a permit of `key`; answers in how many nanoseconds it is there.
    fn reserve(&self, key: &K) -> Result<u64, PolicyError> {
        let timeout = self.0.cycle.timeout.load(Ordering::Relaxed);
        self.reserve_within(key, 1, timeout).or_refusal(&self.0.name, timeout)
    }

    /// Permits that `key` has left in the present cycle; below zero if some of later ones are reserved.
    pub fn available(&self, key: &K) -> i32 {
        let moment = self.0.cycle.moment(&*self.0.clock);
        let hash = self.0.hasher.hash_one(key);
        let shard = self.shard(hash).lock();
        let state = shard.states.find(hash, |(known, _)| known == key);
        state.map_or(moment.permits, |(_, state)| refreshed(*state, moment.cycle, moment.permits))
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.lock().states.len()).sum()
    }

    /// Whether no key is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls it refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The present settings.
    pub fn settings(&self) -> RateSettings {
        self.0.cycle.settings()
    }

    /// Another number of permits from the next cycle on, and another timeout at once; the length of a cycle stays.
    ///
    /// # Errors
    /// If they cannot work, or if the length of a cycle is another; the present ones stay.
    pub fn change(&self, settings: RateSettings) -> Result<(), InvalidPolicy> {
        let settings = checked(&self.0.name, settings)?;
        if settings.per != self.settings().per {
            let reason = "the cycles of all its keys have one length, which stays: make another limiter";
            return Err(InvalidPolicy::new(format!("rate limiter `{}`", self.0.name), reason));
        }
        self.0.cycle.set(&settings);
        Ok(())
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Mutex<Shard<K>> {
        // The table itself goes by the lowest and the highest bits.
        &self.0.shards[(hash >> 32) as usize % SHARDS]
    }

    fn reserve_within(&self, key: &K, permits: u32, timeout: u64) -> Reserved {
        let hash = self.0.hasher.hash_one(key);
        let moment = self.0.cycle.moment(&*self.0.clock);
        let mut shard = self.shard(hash).lock();
        if let Some((_, state)) = shard.states.find_mut(hash, |(known, _)| known == key) {
            return self.taken(moment.take(*state, permits, timeout).map(|(after, wait)| {
                *state = after;
                wait
            }));
        }
        let taken = moment.take(pack(moment.cycle, moment.permits), permits, timeout);
        if let Ok((state, _)) = taken {
            shard.keep(key.clone(), state, moment, &self.0.hasher, hash);
        }
        self.taken(taken.map(|(_, wait)| wait))
    }

    fn taken(&self, wait: Result<u64, u64>) -> Reserved {
        match wait {
            Ok(0) => Reserved::Now,
            Ok(wait) => Reserved::In(wait),
            Err(wait) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                Reserved::Refused(wait)
            }
        }
    }
}

impl<K: Eq + Hash> Shard<K> {
    fn keep(&mut self, key: K, state: u64, moment: Moment, hasher: &RandomState, hash: u64) {
        if self.states.len() >= self.sweep_at {
            self.states.retain(|(_, state)| refreshed(*state, moment.cycle, moment.permits) < moment.permits);
            self.sweep_at = (self.states.len() * 2).max(FIRST_SWEEP);
            self.states.shrink_to(self.sweep_at, |(key, _)| hasher.hash_one(key));
        }
        if let Entry::Vacant(place) =
            self.states.entry(hash, |(known, _)| *known == key, |(known, _)| hasher.hash_one(known))
        {
            place.insert((key, state));
        }
    }
}

impl<K> std::fmt::Debug for KeyedRateLimiter<K> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("KeyedRateLimiter").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Somebody who waits for a permit that is reserved.
struct Waiting<'a, K: Eq + Hash + Clone> {
    limiter: &'a KeyedRateLimiter<K>,
    key: &'a K,
    permits: u32,
}

impl<K: Eq + Hash + Clone> Waiting<'_, K> {
    fn end(mut self) {
        self.permits = 0;
    }
}

impl<K: Eq + Hash + Clone> Drop for Waiting<'_, K> {
    fn drop(&mut self) {
        if self.permits == 0 {
            return;
        }
        let inner = &self.limiter.0;
        let hash = inner.hasher.hash_one(self.key);
        let moment = inner.cycle.moment(&*inner.clock);
        let mut shard = self.limiter.shard(hash).lock();
        if let Some((_, state)) = shard.states.find_mut(hash, |(known, _)| known == self.key) {
            *state = moment.give_back(*state, self.permits);
        }
    }
}
