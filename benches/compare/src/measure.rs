//! Rates of the contenders, and what they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use aftercommit_benches::measure::{busy, busy_of, moments, peak_memory, runtime, spread, stat, table};
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
