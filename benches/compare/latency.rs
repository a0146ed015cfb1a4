//! How long does a unit of work wait to be durable while the store is half busy?
//!
//! First it is measured how many units a second 64 committers make durable, one after the other. Then units come at half that
//! rate, at moments that depend on nobody (a Poisson process), each in a task of its own, and it is measured how long after the
//! moment it was due each has been acknowledged: one that comes late because others are held up counts as late.
//! A thread sleeps from moment to moment; what the system adds to its sleep, some 60 us, is in every figure.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the seconds of each measurement, the number of rounds, a word that the names of contenders must hold.
#![allow(missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aftercommit_compare::Contender;
use aftercommit_compare::arguments::Arguments;
use aftercommit_compare::contenders::ALL;
use aftercommit_compare::measure::{moments, rate, runtime, spread, table};
use aftercommit_compare::work::Work;
use tokio::runtime::Runtime;

const COMMITTERS: usize = 64;
const SHARES: [f64; 3] = [0.5, 0.99, 0.999];

/// What was asked of a contender, and after how many microseconds so many of its units were acknowledged.
struct Latencies {
    offered: f64,
    after: [f64; 3],
    longest: f64,
}

fn main() {
    let arguments = Arguments::of_this_process();
    let (span, rounds) = (Duration::from_secs_f64(arguments.at(0, 5.0)), arguments.at(1, 3));
    let runtime = runtime();
    println!("microseconds from when a unit was due until it was durable, medians of {rounds} rounds of {span:?}\n");
    table(&["", "units a second at most", "offered", "p50", "p99", "p99.9", "longest"]);
    for contender in Contender::chosen(&arguments.at(2, String::new()), &ALL) {
        let mut most = Vec::new();
        let mut found = Vec::new();
        for _ in 0..rounds {
            match rate(&contender, COMMITTERS, span, &runtime) {
                Ok(closed) => {
                    most.push(closed.rate);
                    found.push(half_busy(&contender, closed.rate / 2.0, span, &runtime));
                }
                Err(why) => {
                    println!("| {}: left out: {why} | | | | | | |", contender.name);
                    break;
                }
            }
        }
        if !found.is_empty() {
            let middle = |of: fn(&Latencies) -> f64| spread(found.iter().map(of))[1];
            println!(
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
                contender.name,
                spread(most)[1],
                middle(|one| one.offered),
                middle(|one| one.after[0]),
                middle(|one| one.after[1]),
                middle(|one| one.after[2]),
                middle(|one| one.longest),
            );
        }
    }
}

/// Lets units come at `rate` a second.
fn half_busy(contender: &Contender, rate: f64, span: Duration, runtime: &Runtime) -> Latencies {
    let folder = tempfile::tempdir().expect("a folder");
    let store = (contender.open)(folder.path(), runtime).expect("it was there before").for_tasks();
    let due = moments(rate, span);
    let took: Arc<[AtomicU32]> = due.iter().map(|_| AtomicU32::new(0)).collect();
    let begun = Instant::now();
    let mut tasks = Vec::with_capacity(due.len());
    for (number, due) in due.iter().enumerate() {
        let early = due.saturating_sub(begun.elapsed());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        let (commit, due, took) = (store.commit(Work::next()), begun + *due, took.clone());
        tasks.push(runtime.spawn(async move {
            commit.await;
            let micros = due.elapsed().as_micros().clamp(1, u128::from(u32::MAX));
            took[number].store(micros as u32, Ordering::Relaxed);
        }));
    }
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    assert_eq!(store.end(runtime), due.len() as u64, "{} holds what was committed", contender.name);
    let mut sorted: Vec<u32> = took.iter().map(|micros| micros.load(Ordering::Relaxed)).collect();
    sorted.sort_unstable();
    assert!(sorted[0] > 0, "each was acknowledged");
    let at = |share: f64| f64::from(sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]);
    Latencies { offered: due.len() as f64 / span.as_secs_f64(), after: SHARES.map(at), longest: at(1.0) }
}
