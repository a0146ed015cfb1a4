//! Working a log off on the bus, unit of work by unit of work, from wherever the last run left off.
//!
//! Units run beside each other, those of one order one after the other, in the order of the log.
//! Each leaves a marker in its own unit of work, so that a unit is applied exactly once, however often the process is killed.
//! What follows from a unit is owed to the durable listeners by then, and taken up by the next start of the bus.

mod markers;
mod unit;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use aftercommit::Bus;
use tokio::task::JoinSet;

use crate::error::ShopError;
use crate::log::{LogError, Unit, Units};
use markers::Markers;

/// How a log is worked off.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// How many units are worked off at once.
    pub in_flight: NonZeroUsize,
    /// Whether units with a bad line are counted and left out.
    pub skip_bad: bool,
}

/// What was worked off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Units applied by this run.
    pub units: u64,
    /// Units that an earlier run had applied.
    pub units_before: u64,
    /// Units with a bad line that were left out.
    pub bad_units: u64,
    /// Orders among the units applied by this run.
    pub orders: u64,
}

impl Replay {
    /// Works off all units that no earlier run has applied; `advance` is told how many lines are done since it was last called.
    ///
    /// What durable listeners are owed for them may still be owed when it answers.
    ///
    /// # Errors
    /// The first error of the log or of a unit. Units that were begun are finished first.
    pub async fn run(self, bus: &Bus, units: Units, mut advance: impl FnMut(u64)) -> Result<Replayed, ShopError> {
        let mut reader = bus.reader()?;
        let mut markers = Markers::new(&mut reader);
        let mut done = Replayed::default();
        let mut running = Running { log: units.name().into(), ..Running::default() };
        let read = async {
            for unit in units {
                let unit = match unit {
                    Ok(unit) => unit,
                    Err(LogError::BadUnit { lines, .. }) if self.skip_bad => {
                        done.bad_units += 1;
                        advance(lines);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                if markers.has(unit.number)? {
                    done.units_before += 1;
                    advance(unit.rows.len() as u64);
                    continue;
                }
                while running.units.len() >= self.in_flight.get() || running.holds_back(&unit) {
                    if let Some(ended) = running.next().await {
                        advance(ended?);
                    }
                }
                done.units += 1;
                done.orders += u64::from(unit.order.is_some());
                running.begin(bus, unit);
            }
            Ok(())
        }
        .await;
        let mut first = read;
        while let Some(ended) = running.next().await {
            match ended {
                Ok(lines) => advance(lines),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first.map(|()| done)
    }
}

/// The units being worked off.
#[derive(Default)]
struct Running {
    log: Arc<str>,
    units: JoinSet<(Option<String>, Result<u64, ShopError>)>,
    orders: HashSet<String>,
}

impl Running {
    /// Whether an earlier unit of the same order is still being worked off.
    fn holds_back(&self, unit: &Unit) -> bool {
        unit.order.as_ref().is_some_and(|order| self.orders.contains(order))
    }

    fn begin(&mut self, bus: &Bus, unit: Unit) {
        self.orders.extend(unit.order.clone());
        let (bus, log) = (bus.clone(), self.log.clone());
        self.units.spawn(async move {
            let (order, line, lines) = (unit.order.clone(), unit.line, unit.rows.len() as u64);
            let committed = bus.transaction(async |tx| unit::apply(tx, unit)).await;
            let ended = committed.map_err(|cause| ShopError::Unit { log: log.to_string(), line, cause });
            (order, ended.map(|_| lines))
        });
    }

    /// Waits until one of them has ended; answers its lines, or nothing if there is none.
    async fn next(&mut self) -> Option<Result<u64, ShopError>> {
        match self.units.join_next().await? {
            Ok((order, ended)) => {
                if let Some(order) = order {
                    self.orders.remove(&order);
                }
                Some(ended)
            }
            Err(panic) => Some(Err(ShopError::Panic(panic))),
        }
    }
}
