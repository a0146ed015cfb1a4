//! What does a listener after the commit cost, beside static and boxed futures?
//!
//! A unit of work publishes many events, so that its own cost is a small part of an event's.
#![allow(missing_docs)]

use aftercommit_benches::{
    LISTENERS, Sums, awaited, boxed_futures, bus, called, each_awaited, one_thread, run_boxed, run_static, units,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn after_commit(criterion: &mut Criterion) {
    let runtime = one_thread();
    let mut group = criterion.benchmark_group("after commit");
    for listeners in LISTENERS {
        let sums = Sums::new(listeners);
        group.bench_function(BenchmarkId::new("static futures", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| run_static(sums, events).await);
        });
        let functions = boxed_futures(sums);
        group.bench_function(BenchmarkId::new("boxed futures", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| run_boxed(&functions, events).await);
        });
        let sync = bus(&runtime, called(sums));
        group.bench_function(BenchmarkId::new("bus, fn", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| units(&sync, events).await);
        });
        let sums = Sums::new(listeners);
        let bus = bus(&runtime, awaited(sums));
        group.bench_function(BenchmarkId::new("bus, async fn", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| units(&bus, events).await);
        });
    }
    group.finish();
}

criterion_group!(benches, after_commit);
criterion_main!(benches);
