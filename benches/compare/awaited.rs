//! One event to 1, 10 and 100 asynchronous listeners that do not wait: the bus beside static and boxed futures.
//!
//! The bus shows its listeners the event after the commit of a unit of work with many events, whose cost is in the figure.
#![allow(missing_docs)]

use aftercommit_benches::{
    LISTENERS, Sums, awaited, boxed_futures, bus, each_awaited, one_thread, run_boxed, run_static, units,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn awaiting(criterion: &mut Criterion) {
    let runtime = one_thread();
    let mut group = criterion.benchmark_group("awaited");
    for listeners in LISTENERS {
        let sums = Sums::new(listeners);
        group.bench_function(BenchmarkId::new("static futures", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| run_static(sums, events).await);
        });
        let functions = boxed_futures(sums);
        group.bench_function(BenchmarkId::new("boxed futures", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| run_boxed(&functions, events).await);
        });
        let bus = bus(&runtime, awaited(sums));
        group.bench_function(BenchmarkId::new("bus", listeners), |bencher| {
            each_awaited(bencher, &runtime, sums, async |events| units(&bus, events).await);
        });
    }
    group.finish();
}

criterion_group!(benches, awaiting);
criterion_main!(benches);
