//! Keyed locks beside arrays of mutexes, maps of mutexes, and other keyed locks, in one run.
#![allow(missing_docs)]

use std::future::Future;
use std::sync::Arc;

use aftercommit::lock::KeyedLock;
use aftercommit_benches::lock::{
    Striped, StripedTokio, TASKS, THREADS, TaskLock, ThreadLock, by_tasks, by_threads, two_threads,
};
use criterion::{Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use lockable::{LockPool, Lockable};

/// A map of mutexes, which stay.
#[derive(Default)]
struct Mapped(DashMap<u64, Arc<parking_lot::Mutex<()>>>);

impl ThreadLock for Mapped {
    type Held<'a> = parking_lot::ArcMutexGuard<parking_lot::RawMutex, ()>;

    fn lock(&self, key: u64) -> Self::Held<'_> {
        let lock = self.0.entry(key).or_default().clone();
        lock.lock_arc()
    }
}

/// A map of mutexes for tasks, which stay.
#[derive(Default)]
struct MappedTokio(DashMap<u64, Arc<tokio::sync::Mutex<()>>>);

impl TaskLock for MappedTokio {
    type Held<'a> = tokio::sync::OwnedMutexGuard<()>;

    async fn lock(&self, key: u64) -> Self::Held<'_> {
        let lock = self.0.entry(key).or_default().clone();
        lock.lock_owned().await
    }
}

struct Pool(LockPool<u64>);

impl ThreadLock for Pool {
    type Held<'a> = <LockPool<u64> as Lockable<u64, ()>>::Guard<'a>;

    fn lock(&self, key: u64) -> Self::Held<'_> {
        self.0.blocking_lock(key)
    }
}

impl TaskLock for Pool {
    type Held<'a> = <LockPool<u64> as Lockable<u64, ()>>::Guard<'a>;

    fn lock(&self, key: u64) -> impl Future<Output = Self::Held<'_>> + Send {
        self.0.async_lock(key)
    }
}

struct Keyed(keyed_lock::sync::KeyedLock<u64>);

impl ThreadLock for Keyed {
    type Held<'a> = keyed_lock::sync::Guard<'a, u64>;

    fn lock(&self, key: u64) -> Self::Held<'_> {
        self.0.lock(key)
    }
}

struct KeyedAsync(keyed_lock::r#async::KeyedLock<u64>);

impl TaskLock for KeyedAsync {
    type Held<'a> = keyed_lock::r#async::Guard<'a, u64>;

    fn lock(&self, key: u64) -> impl Future<Output = Self::Held<'_>> + Send {
        self.0.lock(key)
    }
}

fn threads(criterion: &mut Criterion) {
    fn add(criterion: &mut Criterion, name: &str, lock: impl ThreadLock) {
        let lock = Arc::new(lock);
        for (load, threads, keys) in THREADS {
            criterion.benchmark_group(load).bench_function(name, |bencher| {
                bencher.iter_custom(|visits| by_threads(&lock, threads, keys, visits));
            });
        }
    }
    add(criterion, "striped parking_lot", Striped::default());
    add(criterion, "keyed lock", KeyedLock::<u64>::new());
    add(criterion, "DashMap of mutexes", Mapped::default());
    add(criterion, "lockable", Pool(LockPool::new()));
    add(criterion, "keyed-lock", Keyed(keyed_lock::sync::KeyedLock::new()));
}

fn tasks(criterion: &mut Criterion) {
    fn add(criterion: &mut Criterion, name: &str, lock: impl TaskLock) {
        let (runtime, lock) = (two_threads(), Arc::new(lock));
        for (name_of_load, load) in TASKS {
            criterion.benchmark_group(name_of_load).bench_function(name, |bencher| {
                bencher.iter_custom(|visits| by_tasks(&runtime, &lock, load, visits));
            });
        }
    }
    add(criterion, "striped tokio", StripedTokio::default());
    add(criterion, "keyed lock", KeyedLock::<u64>::new());
    add(criterion, "DashMap of tokio mutexes", MappedTokio::default());
    add(criterion, "lockable", Pool(LockPool::new()));
    add(criterion, "keyed-lock", KeyedAsync(keyed_lock::r#async::KeyedLock::new()));
}

criterion_group!(benches, threads, tasks);
criterion_main!(benches);
