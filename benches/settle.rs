//! How many events a second go from their publisher through one durable listener until they are settled, and how long does one take?
//!
//! Tasks publish events, 16 in a unit of work, as fast as their commits stand (`Sync`), while the listener works them off; the rate is
//! that of all events from the first publish until everything is settled. Then units come at a tenth of that rate, at moments that
//! depend on nobody (a Poisson process), and it is measured how long after the moment it was due all of a unit, and everything before it,
//! was settled: until that commit stands and the bus knows it. It is looked every fifth of a millisecond.
//! Beside it stands how many events a second one `fdatasync` for each would allow, measured on the same disk just before.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the events of each measurement, the number of rounds, a word that `<store>, <way>` must hold, the numbers of keys.
#![allow(missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aftercommit::Bus;
use aftercommit::store::Position;
use aftercommit_benches::arguments::Arguments;
use aftercommit_benches::engine::{Engine, open_store};
use aftercommit_benches::measure::{moments, runtime, spread, table};
use aftercommit_benches::settling::{Seen, Way, counted, publish, syncs_a_second};
use tokio::runtime::Runtime;

const PUBLISHERS: u64 = 16;
/// Events of one unit of work.
const UNIT: u64 = 16;
/// How long events come at a tenth of the rate.
const SPAN: Duration = Duration::from_secs(2);

fn main() {
    let arguments = Arguments::of_this_process();
    let (events, rounds): (u64, usize) = (arguments.at(0, 200_000), arguments.at(1, 3));
    let wanted: String = arguments.at(2, String::new());
    let keys: Vec<u32> = arguments.from(3).iter().map(|text| text.parse().expect("a number")).collect();
    let keys = if keys.is_empty() { vec![1, 100, 100_000] } else { keys };
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let syncs = syncs_a_second(folder.path(), Duration::from_secs(1));
    println!("publish to settled, medians of {rounds} rounds of {events} events; {syncs:.0} fdatasync a second\n");
    table(&["", "keys", "events a second", "beside one fdatasync each", "offered", "p50, us", "p99, us"]);
    for engine in Engine::ALL {
        for way in Way::ALL {
            let name = format!("{}, {}", engine.name(), way.name());
            if !name.contains(&wanted) {
                continue;
            }
            for keys in &keys {
                let rates = (0..rounds).map(|_| rate(engine, way, *keys, events, &runtime));
                let rate = spread(rates.collect::<Vec<_>>())[1];
                let late: Vec<[f64; 3]> =
                    (0..rounds).map(|_| latency(engine, way, *keys, rate / 10.0, &runtime)).collect();
                let [offered, p50, p99] = [0, 1, 2].map(|at| spread(late.iter().map(|one| one[at]))[1]);
                let times = rate / syncs;
                println!("| {name} | {keys} | {rate:.0} | {times:.1} | {offered:.0} | {p50:.0} | {p99:.0} |");
            }
        }
    }
}

/// A bus on a new store with the listener; and what it has seen.
fn start(engine: Engine, way: Way, folder: &std::path::Path, runtime: &Runtime) -> (Bus, Arc<Seen>) {
    let seen = Seen::new(0);
    let store = open_store(engine, folder, None).expect("opens");
    let builder = Bus::builder().shared_store(store).listener(way.listener("benches.settled", &seen));
    (runtime.block_on(builder.start()).expect("starts"), seen)
}

/// Checks that everything was seen once, and stops.
fn end(bus: &Bus, way: Way, seen: &Seen, events: u64, runtime: &Runtime) {
    assert_eq!(seen.count(), events, "each is seen once");
    assert!(!way.is_exactly_once() || counted(bus, 0) == events, "each is counted once");
    runtime.block_on(bus.shutdown(Duration::from_secs(60))).expect("stops");
}

/// Events a second, from the first publish until all are settled.
fn rate(engine: Engine, way: Way, keys: u32, events: u64, runtime: &Runtime) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let (bus, seen) = start(engine, way, folder.path(), runtime);
    let units = events.div_ceil(UNIT * PUBLISHERS);
    let events = units * UNIT * PUBLISHERS;
    let begun = std::time::Instant::now();
    runtime.block_on(async {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    let mut random = fastrand::Rng::with_seed(publisher);
                    for _ in 0..units {
                        publish(&bus, &mut random, keys, UNIT).await.expect("commits");
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.expect("no panic");
        }
        bus.idle().await;
    });
    let took = begun.elapsed();
    end(&bus, way, &seen, events, runtime);
    events as f64 / took.as_secs_f64()
}

/// Units that were published and perhaps not settled: where they end in the log, and when they were due.
type Waiting = Arc<Mutex<Vec<(Position, Duration)>>>;

/// Events a second that were offered, and after how many microseconds half of the units, and 99 of 100, were settled.
fn latency(engine: Engine, way: Way, keys: u32, rate: f64, runtime: &Runtime) -> [f64; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    let (bus, seen) = start(engine, way, folder.path(), runtime);
    let units = moments(rate / UNIT as f64, SPAN);
    let (begun, waiting) = (Instant::now(), Waiting::default());
    let watching = runtime.spawn(watch(bus.clone(), begun, waiting.clone(), units.len()));
    let mut tasks = Vec::with_capacity(units.len());
    for (number, due) in units.iter().enumerate() {
        let due = *due + Duration::from_millis(50);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let (bus, waiting) = (bus.clone(), waiting.clone());
        tasks.push(runtime.spawn(async move {
            let mut random = fastrand::Rng::with_seed(number as u64);
            let last = publish(&bus, &mut random, keys, UNIT).await.expect("commits");
            waiting.lock().expect("nobody panics").push((last, due));
        }));
    }
    let mut micros = runtime.block_on(async {
        for task in tasks {
            task.await.expect("no panic");
        }
        watching.await.expect("no panic")
    });
    micros.sort_by(f64::total_cmp);
    runtime.block_on(bus.idle());
    end(&bus, way, &seen, units.len() as u64 * UNIT, runtime);
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    [(micros.len() as u64 * UNIT) as f64 / SPAN.as_secs_f64(), at(0.5), at(0.99)]
}

/// How many microseconds after it was due each of so many units was settled.
async fn watch(bus: Bus, begun: Instant, waiting: Waiting, units: usize) -> Vec<f64> {
    let mut micros = Vec::with_capacity(units);
    while micros.len() < units {
        tokio::time::sleep(Duration::from_micros(200)).await;
        // Looked at first, so that it is rather said to be behind than before.
        let end = bus.log_end();
        let behind = bus.lags().await.expect("reads").iter().map(|lag| lag.behind).max().unwrap_or(0);
        let (settled, now) = (end.0.saturating_sub(behind), begun.elapsed());
        waiting.lock().expect("nobody panics").retain(|(last, due)| {
            let is_settled = last.0 < settled;
            micros.extend(is_settled.then(|| now.saturating_sub(*due).as_secs_f64() * 1e6));
            !is_settled
        });
    }
    micros
}
