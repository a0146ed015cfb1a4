//! What does a keyed lock cost beside an array of mutexes, alone, among others, and for hot keys?
//!
//! The arrays alias keys, so that nested locks can wait for themselves: a yardstick, not a design.
#![allow(missing_docs)]

use std::sync::Arc;

use aftercommit::lock::KeyedLock;
use aftercommit_benches::lock::{Striped, StripedTokio, TASKS, THREADS, by_tasks, by_threads, two_threads};
use criterion::{Criterion, criterion_group, criterion_main};

fn threads(criterion: &mut Criterion) {
    let (striped, ours) = (Arc::new(Striped::default()), Arc::new(KeyedLock::<u64>::new()));
    for (name, threads, keys) in THREADS {
        let mut group = criterion.benchmark_group(name);
        group.bench_function("striped parking_lot", |bencher| {
            bencher.iter_custom(|visits| by_threads(&striped, threads, keys, visits));
        });
        group.bench_function("keyed lock", |bencher| {
            bencher.iter_custom(|visits| by_threads(&ours, threads, keys, visits));
        });
        group.finish();
    }
    assert!(ours.is_empty(), "nothing is left behind");
}

fn tasks(criterion: &mut Criterion) {
    let runtime = two_threads();
    let (striped, ours) = (Arc::new(StripedTokio::default()), Arc::new(KeyedLock::<u64>::new()));
    for (name, load) in TASKS {
        let mut group = criterion.benchmark_group(name);
        group.bench_function("striped tokio", |bencher| {
            bencher.iter_custom(|visits| by_tasks(&runtime, &striped, load, visits));
        });
        group.bench_function("keyed lock", |bencher| {
            bencher.iter_custom(|visits| by_tasks(&runtime, &ours, load, visits));
        });
        group.finish();
    }
    assert!(ours.is_empty(), "nothing is left behind");
}

criterion_group!(benches, threads, tasks);
criterion_main!(benches);
