//! Loads for locks: visits of keys by threads and by tasks, each of which checks that it is alone.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aftercommit::lock::{Guard, KeyedLock};
use tokio::runtime::Runtime;

use crate::share;

/// How many keys there are.
pub const KEYS: u64 = 10_000;
/// How many keys are fought for.
pub const HOT: u64 = 16;
/// How many mutexes the arrays have.
pub const STRIPES: usize = 1024;

/// The mutex of a key in an array.
#[inline]
pub fn stripe(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % STRIPES
}

/// A lock for threads.
pub trait ThreadLock: Send + Sync + 'static {
    /// What holds a key.
    type Held<'a>;
    /// Holds `key`.
    fn lock(&self, key: u64) -> Self::Held<'_>;
}

/// A lock for tasks.
pub trait TaskLock: Send + Sync + 'static {
    /// What holds a key.
    type Held<'a>: Send;
    /// Holds `key`.
    fn lock(&self, key: u64) -> impl Future<Output = Self::Held<'_>> + Send;
}

impl ThreadLock for KeyedLock<u64> {
    type Held<'a> = Guard<'a, u64>;

    #[inline]
    fn lock(&self, key: u64) -> Guard<'_, u64> {
        self.lock_blocking(key)
    }
}

impl TaskLock for KeyedLock<u64> {
    type Held<'a> = Guard<'a, u64>;

    #[inline]
    fn lock(&self, key: u64) -> impl Future<Output = Guard<'_, u64>> + Send {
        KeyedLock::lock(self, key)
    }
}

/// The yardstick for threads: an array of mutexes, each for many keys.
pub struct Striped(Vec<parking_lot::Mutex<()>>);

impl Default for Striped {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| parking_lot::Mutex::default()).collect())
    }
}

impl ThreadLock for Striped {
    type Held<'a> = parking_lot::MutexGuard<'a, ()>;

    #[inline]
    fn lock(&self, key: u64) -> Self::Held<'_> {
        self.0[stripe(key)].lock()
    }
}

/// The yardstick for tasks.
pub struct StripedTokio(Vec<tokio::sync::Mutex<()>>);

impl Default for StripedTokio {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl TaskLock for StripedTokio {
    type Held<'a> = tokio::sync::MutexGuard<'a, ()>;

    #[inline]
    fn lock(&self, key: u64) -> impl Future<Output = Self::Held<'_>> + Send {
        self.0[stripe(key)].lock()
    }
}

/// What the keys protect: each a counter that is not added to atomically.
struct Visited(Vec<AtomicU64>);

impl Visited {
    fn new(keys: u64) -> Arc<Self> {
        Arc::new(Self((0..keys).map(|_| AtomicU64::new(0)).collect()))
    }

    #[inline]
    fn visit(&self, key: u64) {
        let count = &self.0[key as usize];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn check(&self, visits: u64) {
        let sum: u64 = self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, visits, "two were inside at once");
    }
}

/// The key that somebody visits at his so-and-so-manieth visit.
#[inline]
fn key(who: u64, visit: u64, keys: u64) -> u64 {
    (who.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ visit).wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys
}

/// The time of so many visits of `keys` keys by `threads` threads.
///
/// # Panics
/// If two were inside at once.
pub fn by_threads(lock: &Arc<impl ThreadLock>, threads: u64, keys: u64, visits: u64) -> Duration {
    let (visited, each) = (Visited::new(keys), visits.div_ceil(threads));
    let run = |who: u64, visited: &Visited| {
        for visit in 0..each {
            let key = key(who, visit, keys);
            let held = lock.lock(key);
            visited.visit(key);
            drop(held);
        }
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for who in 1..threads {
            let (visited, run) = (&visited, &run);
            scope.spawn(move || run(who, visited));
        }
        run(0, &visited);
    });
    let took = begun.elapsed();
    visited.check(each * threads);
    share(took, visits, each * threads)
}

/// How tasks visit keys.
#[derive(Debug, Clone, Copy)]
pub struct Tasks {
    /// How many tasks.
    pub tasks: u64,
    /// How many keys.
    pub keys: u64,
    /// Whether they let others run while they are inside.
    pub yields: bool,
}

/// The time of so many visits by tasks.
///
/// # Panics
/// If two were inside at once.
pub fn by_tasks(runtime: &Runtime, lock: &Arc<impl TaskLock>, load: Tasks, visits: u64) -> Duration {
    let Tasks { tasks, keys, yields } = load;
    let (visited, each) = (Visited::new(keys), visits.div_ceil(tasks));
    let begun = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..tasks)
            .map(|who| {
                let (lock, visited) = (lock.clone(), visited.clone());
                tokio::spawn(async move {
                    for visit in 0..each {
                        let key = key(who, visit, keys);
                        let held = lock.lock(key).await;
                        visited.visit(key);
                        if yields {
                            tokio::task::yield_now().await;
                        }
                        drop(held);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    let took = begun.elapsed();
    visited.check(each * tasks);
    share(took, visits, each * tasks)
}

/// The loads of threads: name, threads, keys.
pub const THREADS: [(&str, u64, u64); 3] =
    [("lock, 1 thread", 1, KEYS), ("lock, 2 threads", 2, KEYS), ("lock, 2 threads, 1 key", 2, 1)];

/// The loads of tasks.
pub const TASKS: [(&str, Tasks); 3] = [
    ("lock, 1 task", Tasks { tasks: 1, keys: KEYS, yields: false }),
    ("lock, 64 tasks", Tasks { tasks: 64, keys: KEYS, yields: false }),
    ("lock, 64 tasks, 16 keys, yielding", Tasks { tasks: 64, keys: HOT, yields: true }),
];

/// A runtime of two threads.
///
/// # Panics
/// If there is none to be had.
pub fn two_threads() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
