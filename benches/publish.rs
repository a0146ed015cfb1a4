//! What does it cost to publish to immediate listeners, beside calling boxed functions in a loop?
#![allow(missing_docs)]

use aftercommit_benches::{LISTENERS, Sums, boxed_functions, bus, each_batch, each_event, immediate, one_thread};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn publish(criterion: &mut Criterion) {
    let runtime = one_thread();
    let mut group = criterion.benchmark_group("publish");
    for listeners in LISTENERS {
        let sums = Sums::new(listeners);
        let functions = boxed_functions(sums);
        group.bench_function(BenchmarkId::new("loop", listeners), |bencher| {
            each_event(bencher, sums, |event| functions.iter().for_each(|function| function(event)));
        });
        let sums = Sums::new(listeners);
        let bus = bus(&runtime, immediate(sums));
        group.bench_function(BenchmarkId::new("bus", listeners), |bencher| {
            each_event(bencher, sums, |event| bus.publish(event).expect("nobody fails"));
        });
        group.bench_function(BenchmarkId::new("bus, a slice", listeners), |bencher| {
            each_batch(bencher, sums, |batch| bus.publish_all(batch).expect("nobody fails"));
        });
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
