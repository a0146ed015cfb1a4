//! Opens what stands after a cut and looks whether every promise held.
//!
//! Every unit that was acknowledged at `Sync` is there; of each client the units are there without a hole; none is half there; once
//! everything owed is delivered, each listener has counted each unit exactly once and in order; the store takes new units, closes,
//! and opens again with all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::prelude::*;
use aftercommit::store::{Durability, Position};
use serde::{Deserialize, Serialize};

use crate::store::Subject;
use crate::waiting;
use crate::workload::{
    BLOCKS, BODIES, COUNTED, COUNTED_SUM, KEPT_BODIES, LEDGERS, MADE, MADE_SUM, Made, PICKED, PICKED_SUM, STOCK,
    TALLIES, TWINS, UNITS, Unit, Workload, spread, term,
};

/// A promise that did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Violation {
    /// The store does not open.
    Refused,
    /// The store opened and holds nothing, although something was acknowledged.
    Wiped,
    /// A unit that was acknowledged is not there.
    Lost,
    /// A unit is not there, and a later one of its client is.
    Hole,
    /// A part of a unit is not there, or is not as it was written, or a part of a unit that is not there is.
    Half,
    /// A listener did not count each unit exactly once, and in order.
    Count,
    /// The archive and the log do not hold the event of each unit once.
    Archive,
    /// The store does not go on working.
    Stopped,
    /// It panicked.
    Panicked,
    /// It did not come to an end.
    Hung,
}

impl Violation {
    /// All of them, with their names in tables.
    pub const ALL: [(Violation, &str); 10] = [
        (Violation::Refused, "refused"),
        (Violation::Wiped, "wiped"),
        (Violation::Lost, "lost"),
        (Violation::Hole, "hole"),
        (Violation::Half, "half"),
        (Violation::Count, "count"),
        (Violation::Archive, "archive"),
        (Violation::Stopped, "stopped"),
        (Violation::Panicked, "panicked"),
        (Violation::Hung, "hung"),
    ];
}

/// What was acknowledged: by client, how many of its first units.
pub(crate) type Acknowledged = BTreeMap<u32, u32>;

/// Violations that were found, each with what it was.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) violations: Vec<(Violation, String)>,
    /// How many units were there.
    pub(crate) units: usize,
}

impl Findings {
    /// Adds a violation; of each kind the first few are kept.
    pub(crate) fn add(&mut self, violation: Violation, what: impl Into<String>) {
        if self.violations.iter().filter(|(kind, _)| *kind == violation).count() < 5 {
            self.violations.push((violation, what.into()));
        }
    }

    pub(crate) fn check(&mut self, holds: bool, violation: Violation, what: impl FnOnce() -> String) {
        if !holds {
            self.add(violation, what());
        }
    }
}

/// The clients of the audit itself, far from those of a life.
const NEW_CLIENTS: std::ops::Range<u32> = 1_000..1_004;

/// Audits the store in `folder`, which the audit changes.
pub(crate) async fn audit(
    subject: Subject,
    workload: &'static Workload,
    folder: &Path,
    acknowledged: &Acknowledged,
) -> Findings {
    let mut findings = Findings::default();
    let mut expected = acknowledged.clone();
    for is_first in [true, false] {
        let bus = match workload.start(subject, folder, true, true).await {
            Ok(bus) => bus,
            Err(error) => {
                findings.add(if is_first { Violation::Refused } else { Violation::Stopped }, with_causes(&*error));
                return findings;
            }
        };
        if let Err(error) = audit_open(workload, &bus, &expected, &mut findings).await {
            findings.add(Violation::Half, with_causes(&*error));
        }
        if is_first && let Err(error) = go_on(workload, &bus, &mut expected).await {
            findings.add(Violation::Stopped, with_causes(&*error));
        }
        if let Err(error) = bus.shutdown(Duration::from_secs(10)).await {
            findings.add(Violation::Stopped, with_causes(&error));
        }
        if !findings.violations.is_empty() {
            break;
        }
    }
    findings
}

/// Commits some units more.
async fn go_on(workload: &'static Workload, bus: &Bus, expected: &mut Acknowledged) -> Result<(), BoxError> {
    let mut clients = tokio::task::JoinSet::new();
    for client in NEW_CLIENTS {
        let bus = bus.clone();
        clients.spawn(async move { workload.commit(&bus, (client, 0), Durability::Sync).await });
        expected.insert(client, 1);
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

async fn audit_open(
    workload: &'static Workload,
    bus: &Bus,
    expected: &Acknowledged,
    findings: &mut Findings,
) -> Result<(), BoxError> {
    let units = audit_units(workload, bus, expected, findings)?;
    findings.units = units.len();
    if workload.waits {
        waiting::until_due(bus).await?;
    }
    bus.idle().await;
    for parked in bus.parked().await? {
        // One of a key stands for all of it; what went on already is not parked any more.
        bus.resubmit(&parked.listener, parked.position).await?;
    }
    bus.idle().await;
    audit_counts(workload, bus, &units, findings).await?;
    if workload.archived { audit_events(bus, &units, findings).await } else { Ok(()) }
}

/// Every event there ever was, in the archive and the log, before and after the log gives up what it can.
async fn audit_events(bus: &Bus, units: &BTreeSet<Unit>, findings: &mut Findings) -> Result<(), BoxError> {
    for when in ["found", "tidied"] {
        let mut events = Vec::new();
        let mut stream = bus.stream_from::<Made>(Position(1))?;
        while stream.position() < bus.log_end() {
            match tokio::time::timeout(Duration::from_secs(5), stream.next()).await {
                Ok(Some(Ok(entry))) => events.push(entry.event.unit),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Err("the bus has stopped".into()),
                Err(_) => return Err(format!("nothing comes between {:?} and the end", stream.position()).into()),
            }
        }
        let count = events.len();
        let once: BTreeSet<Unit> = events.into_iter().collect();
        findings.check(count == once.len() && once == *units, Violation::Archive, || {
            let differing: Vec<_> = units.symmetric_difference(&once).collect();
            format!("{when}: {count} events of {} units, differing: {differing:?}", units.len())
        });
        bus.tidy().await?;
    }
    Ok(())
}

/// The rows of the units, before anything owed is waited for.
fn audit_units(
    workload: &Workload,
    bus: &Bus,
    expected: &Acknowledged,
    findings: &mut Findings,
) -> Result<BTreeSet<Unit>, BoxError> {
    let mut reader = bus.reader()?;
    let rows: BTreeMap<Unit, _> = UNITS.iter(&mut reader).collect::<Result<_, _>>()?;
    let units: BTreeSet<Unit> = rows.keys().copied().collect();
    if units.is_empty() && !expected.is_empty() {
        findings.add(Violation::Wiped, format!("{} clients had acknowledged units", expected.len()));
    }
    let mut clients: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (client, number) in &units {
        clients.entry(*client).or_default().insert(*number);
    }
    for (client, count) in expected {
        let there = clients.get(client);
        let lost: Vec<u32> = (0..*count).filter(|number| there.is_none_or(|there| !there.contains(number))).collect();
        findings
            .check(lost.is_empty(), Violation::Lost, || format!("client {client}: {lost:?} of {count} acknowledged"));
    }
    for (client, numbers) in &clients {
        let whole = numbers.iter().copied().eq(0..numbers.len() as u32);
        findings.check(whole, Violation::Hole, || format!("client {client} has {numbers:?}"));
    }
    for (unit, row) in &rows {
        findings.check(*row == workload.row(*unit), Violation::Half, || format!("the row of {unit:?}"));
    }
    let twins: BTreeMap<u64, Unit> = TWINS.iter(&mut reader).collect::<Result<_, _>>()?;
    let twinned: BTreeMap<u64, Unit> = units.iter().map(|unit| (spread(*unit), *unit)).collect();
    findings.check(twins == twinned, Violation::Half, || {
        let twins: BTreeSet<Unit> = twins.into_values().collect();
        format!("rows and twins differ: {:?}", units.symmetric_difference(&twins).collect::<Vec<_>>())
    });
    let mut bodies = BTreeMap::new();
    for unit in units.iter().filter(|(client, number)| !units.contains(&(*client, number + KEPT_BODIES))) {
        bodies.extend(workload.body(*unit).map(|body| (*unit, body)));
    }
    let found: BTreeMap<Unit, String> = BODIES.iter(&mut reader).collect::<Result<_, _>>()?;
    findings.check(found == bodies, Violation::Half, || {
        format!("bodies {:?} instead of {:?}, or what they hold", found.keys(), bodies.keys())
    });
    let mut blocks = BTreeMap::new();
    for (client, number) in &units {
        let large = workload.large_blocks((*client, *number));
        blocks.extend(large.map(|block| ((*client, block, false), workload.block((*client, *number), block))));
        blocks.extend((0..workload.blocks).map(|block| ((*client, block, true), number.to_string())));
    }
    let found: BTreeMap<_, String> = BLOCKS.iter(&mut reader).collect::<Result<_, _>>()?;
    findings.check(found == blocks, Violation::Half, || {
        let differing = blocks.iter().filter(|(place, block)| found.get(place) != Some(block));
        format!("blocks {:?}", differing.map(|(place, _)| place).collect::<Vec<_>>())
    });
    let totals = totals(workload, &units);
    for (key, (count, sum)) in &totals {
        let found = [MADE.get(&mut reader, key)?, MADE_SUM.get(&mut reader, key)?, STOCK.get(&mut reader, key)?];
        findings.check(found == [*count, *sum, -count], Violation::Half, || {
            format!("key {key}: counters say {found:?}, there are {count} units with {sum}")
        });
        let ledger = LEDGERS.get(&mut reader, key)?;
        let whole = match &ledger {
            None => workload.ledger == 0 || *count == 0,
            Some(found) => {
                (found.count, found.sum) == (*count, *sum) && found.text == workload.ledger_text(*key, *count)
            }
        };
        findings.check(whole, Violation::Half, || format!("key {key}: its ledger, {count} units"));
    }
    Ok(units)
}

/// What the listeners have made of the units, once nothing is owed.
async fn audit_counts(
    workload: &Workload,
    bus: &Bus,
    units: &BTreeSet<Unit>,
    findings: &mut Findings,
) -> Result<(), BoxError> {
    let parked = bus.parked().await?;
    findings.check(parked.is_empty(), Violation::Count, || {
        let causes: Vec<String> = parked.iter().map(|one| format!("{}: {}", one.listener, one.cause)).collect();
        format!("parked: {causes:?}")
    });
    let stopped = bus.counts().stopped_workers;
    findings.check(stopped == 0, Violation::Stopped, || format!("{stopped} workers stopped"));
    let mut reader = bus.reader()?;
    for (key, whole) in totals(workload, units) {
        let counted = (COUNTED.get(&mut reader, &key)?, COUNTED_SUM.get(&mut reader, &key)?);
        findings.check(counted == whole, Violation::Count, || format!("key {key}: counted {counted:?} of {whole:?}"));
        let tally = TALLIES.get(&mut reader, &key)?.unwrap_or_default();
        let tallied = (tally.count, tally.sum);
        findings.check(tallied == whole, Violation::Count, || format!("key {key}: tallied {tallied:?} of {whole:?}"));
        findings
            .check(tally.disordered == 0, Violation::Count, || format!("key {key}: {} out of order", tally.disordered));
        if workload.picky {
            let picked = (PICKED.get(&mut reader, &key)?, PICKED_SUM.get(&mut reader, &key)?);
            findings.check(picked == whole, Violation::Count, || format!("key {key}: picked {picked:?} of {whole:?}"));
        }
    }
    if workload.waits {
        waiting::audit(workload, bus, units, findings).await?;
    }
    Ok(())
}

/// By key: how many units there are, and what their terms add up to.
pub(crate) fn totals(workload: &Workload, units: &BTreeSet<Unit>) -> BTreeMap<u32, (i64, i64)> {
    let mut totals: BTreeMap<u32, (i64, i64)> = (0..workload.keys).map(|key| (key, (0, 0))).collect();
    for unit in units {
        let (count, sum) = totals.entry(workload.key(*unit)).or_default();
        *count += 1;
        *sum += term(*unit);
    }
    totals
}

/// An error with its causes.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
