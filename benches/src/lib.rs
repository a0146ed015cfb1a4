//! What the benchmarks share: an event, listeners whose work can be checked, and loops that are timed and checked.
//! Those that print tables find theirs in the modules.
//!
//! Every listener adds the event's amount to a sum of its own; after each timed loop every sum must be what it ought to be.

pub mod arguments;
pub mod child;
pub mod engine;
pub mod lock;
pub mod measure;
pub mod settling;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aftercommit::event::{Event, EventSlot};
use aftercommit::listener::{self, Registration};
use aftercommit::transaction::CallFuture;
use aftercommit::{Bus, Phase};
use criterion::Bencher;
use tokio::runtime::Runtime;

/// How many listeners each question is asked for.
pub const LISTENERS: [usize; 3] = [1, 10, 100];

/// Events of one slice, or of one batch of messages.
pub const BATCH: usize = 256;

/// Events published in one unit of work, where the unit itself is not in question.
pub const EVENTS_PER_UNIT: u64 = 1000;

/// The event.
#[derive(Debug, Clone, Copy)]
pub struct Ticked {
    /// What every listener adds to its sum.
    pub amount: u64,
}

impl Event for Ticked {
    fn slot() -> Option<&'static EventSlot> {
        static SLOT: EventSlot = EventSlot::new();
        Some(&SLOT)
    }
}

/// The event of every benchmark.
pub const TICK: Ticked = Ticked { amount: 3 };

/// What one listener has added up. One thread adds, so that adding is a load and a store.
#[derive(Debug, Default)]
pub struct Sum(AtomicU64);

impl Sum {
    /// Adds the event's amount: the work of every listener in every benchmark.
    #[inline]
    pub fn add(&self, event: &Ticked) {
        self.0.store(self.0.load(Ordering::Relaxed) + event.amount, Ordering::Relaxed);
    }
}

/// The sums of a benchmark's listeners. They live as long as the process, so that nobody counts references to them.
#[derive(Debug, Clone, Copy)]
pub struct Sums(&'static [Sum]);

impl Sums {
    /// Sums for so many listeners.
    pub fn new(listeners: usize) -> Self {
        Self(Vec::leak((0..listeners).map(|_| Sum::default()).collect()))
    }

    /// The sum of each listener.
    pub fn each(self) -> impl Iterator<Item = &'static Sum> {
        self.0.iter()
    }

    /// Forgets what was added.
    pub fn clear(self) {
        self.each().for_each(|sum| sum.0.store(0, Ordering::Relaxed));
    }

    /// Requires that every listener saw so many events.
    ///
    /// # Panics
    /// If one did not.
    pub fn check(self, events: u64) {
        for sum in self.each() {
            assert_eq!(sum.0.load(Ordering::Relaxed), events * TICK.amount, "a listener missed events");
        }
    }
}

/// Times `publish`, which shows one event to every listener.
pub fn each_event(bencher: &mut Bencher<'_>, sums: Sums, mut publish: impl FnMut(&Ticked)) {
    bencher.iter_custom(|events| {
        sums.clear();
        let begun = Instant::now();
        for _ in 0..events {
            publish(black_box(&TICK));
        }
        let took = begun.elapsed();
        sums.check(events);
        took
    });
}

/// Times `publish`, which shows a batch of events to every listener. The time is that of one event.
pub fn each_batch(bencher: &mut Bencher<'_>, sums: Sums, mut publish: impl FnMut(&[Ticked; BATCH])) {
    let batch = [TICK; BATCH];
    bencher.iter_custom(|events| {
        sums.clear();
        let batches = events.div_ceil(BATCH as u64);
        let begun = Instant::now();
        for _ in 0..batches {
            publish(black_box(&batch));
        }
        let took = begun.elapsed();
        sums.check(batches * BATCH as u64);
        share(took, events, batches * BATCH as u64)
    });
}

/// Times `run`, which shows at least so many events to every asynchronous listener and answers how many it did.
/// The time is that of one event.
pub fn each_awaited(bencher: &mut Bencher<'_>, runtime: &Runtime, sums: Sums, run: impl AsyncFn(u64) -> u64) {
    bencher.iter_custom(|events| {
        sums.clear();
        let (took, ran) = runtime.block_on(async {
            let begun = Instant::now();
            let ran = run(events).await;
            (begun.elapsed(), ran)
        });
        sums.check(ran);
        share(took, events, ran)
    });
}

/// The time of `wanted` things, if `did` of them took so long.
pub fn share(took: Duration, wanted: u64, did: u64) -> Duration {
    took.mul_f64(wanted as f64 / did as f64)
}

/// Immediate listeners that take the event alone.
pub fn immediate(sums: Sums) -> Vec<Registration> {
    named(sums)
        .map(|(id, sum)| listener::on::<Ticked>(id).phase(Phase::Immediate).call(move |event| sum.add(event)))
        .collect()
}

/// Listeners after the commit that are awaited but do not wait.
pub fn awaited(sums: Sums) -> Vec<Registration> {
    named(sums)
        .map(|(id, sum)| {
            listener::on::<Ticked>(id).call_async(move |event, _| {
                CallFuture::from_or_box(async move {
                    sum.add(event);
                    Ok(None)
                })
            })
        })
        .collect()
}

/// Listeners after the commit that are called.
pub fn called(sums: Sums) -> Vec<Registration> {
    named(sums).map(|(id, sum)| listener::on::<Ticked>(id).call(move |event| sum.add(event))).collect()
}

fn named(sums: Sums) -> impl Iterator<Item = (String, &'static Sum)> {
    sums.each().enumerate().map(|(at, sum)| (format!("benches.listener-{at:03}"), sum))
}

/// Runs at least `events` events through units of work of [`EVENTS_PER_UNIT`]; answers how many.
///
/// # Panics
/// If a unit does not commit.
pub async fn units(bus: &Bus, events: u64) -> u64 {
    let units = events.div_ceil(EVENTS_PER_UNIT);
    for _ in 0..units {
        let unit = bus.transaction(async |tx| -> Result<(), aftercommit::Error> {
            (0..EVENTS_PER_UNIT).try_for_each(|_| tx.publish(black_box(TICK)))
        });
        assert!(unit.await.expect("the unit commits").after_errors.is_empty());
    }
    units * EVENTS_PER_UNIT
}

/// A bus on a memory store with these listeners.
///
/// # Panics
/// If it does not start.
pub fn bus(runtime: &Runtime, listeners: Vec<Registration>) -> Bus {
    runtime.block_on(Bus::builder().listeners(listeners).start()).expect("the bus starts")
}

/// A runtime of one thread.
///
/// # Panics
/// If there is none to be had.
pub fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread")
}

/// A function of an event, as a hand-written loop would keep it.
pub type BoxedFn = Box<dyn Fn(&Ticked) + Send + Sync>;

/// A function behind a trait object.
pub type BoxedFunction = Box<dyn Fn(&Ticked) + Send + Sync>;

/// What the loop calls that is the yardstick for calls.
pub fn boxed_functions(sums: Sums) -> Vec<BoxedFunction> {
    sums.each().map(|sum| Box::new(move |event: &Ticked| sum.add(event)) as BoxedFunction).collect()
}

/// A boxed future.
pub type Boxed<'a> = futures::future::BoxFuture<'a, ()>;

/// A function that answers a boxed future: what asynchronous listeners behind a trait object mostly are.
pub type BoxedAsync = Box<dyn for<'a> Fn(&'a Ticked) -> Boxed<'a> + Send + Sync>;

/// Asynchronous functions behind boxed futures.
pub fn boxed_futures(sums: Sums) -> Vec<BoxedAsync> {
    fn boxed(function: impl for<'a> Fn(&'a Ticked) -> Boxed<'a> + Send + Sync + 'static) -> BoxedAsync {
        Box::new(function)
    }
    sums.each().map(|sum| boxed(move |event| Box::pin(async move { sum.add(event) }))).collect()
}

/// Awaits the boxed futures of `listeners` for so many events.
pub async fn run_boxed(listeners: &[BoxedAsync], events: u64) -> u64 {
    for _ in 0..events {
        let event = black_box(&TICK);
        for listener in listeners {
            listener(event).await;
        }
    }
    events
}

/// Awaits a static asynchronous function for each sum and so many events: no dispatch, no allocation.
pub async fn run_static(sums: Sums, events: u64) -> u64 {
    for _ in 0..events {
        let event = black_box(&TICK);
        for sum in sums.each() {
            add_static(black_box(sum), event).await;
        }
    }
    events
}

async fn add_static(sum: &Sum, event: &Ticked) {
    sum.add(event);
}
