//! One event to 1, 10 and 100 listeners that are called: the bus beside a loop, observers and messages.
#![allow(missing_docs)]

use aftercommit_benches::{
    LISTENERS, Sum, Sums, Ticked, boxed_functions, bus, each_batch, each_event, immediate, one_thread,
};
use bevy_ecs::prelude::*;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[derive(Event, Message, Clone, Copy)]
struct Seen(Ticked);

fn observed(sums: Sums) -> World {
    let mut world = World::new();
    for sum in sums.each() {
        world.add_observer(move |seen: On<Seen>| sum.add(&seen.0));
    }
    world.flush();
    world
}

fn pulled(sums: Sums) -> (World, Schedule) {
    let mut world = World::new();
    world.init_resource::<Messages<Seen>>();
    let mut schedule = Schedule::default();
    schedule.set_executor(bevy_ecs::schedule::SingleThreadedExecutor::new());
    for sum in sums.each() {
        let sum: &'static Sum = sum;
        schedule.add_systems(move |mut reader: MessageReader<Seen>| {
            for seen in reader.read() {
                sum.add(&seen.0);
            }
        });
    }
    (world, schedule)
}

fn dispatch(criterion: &mut Criterion) {
    let runtime = one_thread();
    let mut group = criterion.benchmark_group("dispatch");
    for listeners in LISTENERS {
        let sums = Sums::new(listeners);
        let functions = boxed_functions(sums);
        group.bench_function(BenchmarkId::new("loop", listeners), |bencher| {
            each_event(bencher, sums, |event| functions.iter().for_each(|function| function(event)));
        });
        let bus = bus(&runtime, immediate(sums));
        group.bench_function(BenchmarkId::new("bus", listeners), |bencher| {
            each_event(bencher, sums, |event| bus.publish(event).expect("nobody fails"));
        });
        let mut world = observed(sums);
        group.bench_function(BenchmarkId::new("bevy observers", listeners), |bencher| {
            each_event(bencher, sums, |event| world.trigger(Seen(*event)));
        });
        group.bench_function(BenchmarkId::new("bus, a slice", listeners), |bencher| {
            each_batch(bencher, sums, |batch| bus.publish_all(batch).expect("nobody fails"));
        });
        let (mut world, mut schedule) = pulled(sums);
        group.bench_function(BenchmarkId::new("bevy messages", listeners), |bencher| {
            each_batch(bencher, sums, |batch| {
                let mut messages = world.resource_mut::<Messages<Seen>>();
                messages.update();
                messages.write_batch(batch.iter().map(|event| Seen(*event)));
                schedule.run(&mut world);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
