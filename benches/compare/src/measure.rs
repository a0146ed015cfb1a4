//! Rates, processor time and memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::work::Work;
use crate::{Contender, Opened, Units};

/// What a measurement came to.
#[derive(Clone, Copy)]
pub struct Measured {
    /// Units a second.
    pub rate: f64,
    /// Microseconds of processor time a unit, in user and system mode, of all threads and of servers beside.
    pub busy: f64,
    /// Events a second that a listener beside has settled, if there is one.
    pub drained: Option<f64>,
}

/// A runtime with two threads that work.
///
/// # Panics
/// If there is none to be had.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Lets so many committers commit for so long, in a folder of its own; checks afterwards that everything is stored.
///
/// # Errors
/// If the contender cannot be had.
///
/// # Panics
/// If something is missing.
pub fn rate(contender: &Contender, committers: usize, span: Duration, runtime: &Runtime) -> Result<Measured, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = (contender.open)(folder.path(), runtime)?;
    let before = busy();
    let begun = Instant::now();
    let (measured, units, held) = match opened {
        Opened::Groups(mut groups) if committers == 1 => {
            let mut units = 0;
            while begun.elapsed() < span {
                groups.commit(&[Work::next()]);
                units += 1;
            }
            (measured(units, begun, busy() - before, None), units, groups.units())
        }
        opened => {
            let store = opened.for_tasks();
            let elsewhere = store.busy_elsewhere();
            let units = many(runtime, &store, committers, span, begun);
            let drained = store.drained();
            let busy = busy() - before + store.busy_elsewhere() - elsewhere;
            (measured(units, begun, busy, drained), units, store.end(runtime))
        }
    };
    assert_eq!(held, units, "{} holds what was committed", contender.name);
    Ok(measured)
}

fn measured(units: u64, begun: Instant, busy: f64, drained: Option<u64>) -> Measured {
    let seconds = begun.elapsed().as_secs_f64();
    let drained = drained.map(|drained| drained as f64 / seconds);
    Measured { rate: units as f64 / seconds, busy: busy / units as f64, drained }
}

/// Lets tasks commit one unit after the other until the time is over; answers how many there were.
fn many(runtime: &Runtime, store: &Arc<dyn Units>, committers: usize, span: Duration, begun: Instant) -> u64 {
    runtime.block_on(async {
        let tasks: Vec<_> = (0..committers)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut units = 0;
                    while begun.elapsed() < span {
                        store.commit(Work::next()).await;
                        units += 1;
                    }
                    units
                })
            })
            .collect();
        let mut units = 0;
        for task in tasks {
            units += task.await.expect("no panic");
        }
        units
    })
}

/// The processor time of this process in microseconds, where the system tells it (in hundredths of a second).
pub fn busy() -> f64 {
    busy_of("self")
}

/// The processor time of a process in microseconds.
pub fn busy_of(process: &str) -> f64 {
    // User and system time, counted from behind the name.
    stat(process).iter().skip(12).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// What the system says about a process, from behind its name; nothing where it says nothing.
pub fn stat(process: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.rsplit(')').next().unwrap_or_default().split(' ').map(str::to_owned).collect()
}

/// The most memory this process has held so far, in MiB; 0 where the system does not tell.
pub fn peak_memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kibibytes| kibibytes.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The lowest, the middle and the highest of them.
pub fn spread(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// Prints the head of a table.
pub fn table(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|---{}|", "|---:".repeat(columns.len() - 1));
}
