//! What units of some workloads publish for later and under request ids, and what must have become of it.
//!
//! A unit publishes an event that is due within milliseconds, which a listener counts; and one that is due in a year, which the
//! client's next unit cancels. Two units of a client share a request id: the first publishes under it, the second is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aftercommit::bus::Once;
use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Redeliver, Registration, fixed};
use aftercommit::prelude::*;
use aftercommit::store::{Due, Scheduled};
use serde::{Deserialize, Serialize};

use crate::audit::{Findings, Violation, totals};
use crate::workload::{Unit, Workload, term, text};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The id of the event that waits for a client's next unit.
const HELD: Table<u32, String> = Table::new("powercut.held");
/// By key, what was counted of the events that came due, and of those under request ids.
const LATER: Counters<u32> = Counters::new("powercut.later");
const LATER_SUM: Counters<u32> = Counters::new("powercut.later-sum");
const ASKED: Counters<u32> = Counters::new("powercut.asked");
const ASKED_SUM: Counters<u32> = Counters::new("powercut.asked-sum");

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Later {
    unit: Unit,
    key: u32,
    text: String,
}

impl Event for Later {
    const STORED: Option<Stored<Self>> = Some(Stored::json("powercut.later"));
}

impl StoredEvent for Later {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    unit: Unit,
    key: u32,
}

impl Event for Asked {
    const STORED: Option<Stored<Self>> = Some(Stored::json("powercut.asked"));
}

impl StoredEvent for Asked {}

/// The units that share a request id.
fn request((client, number): Unit) -> (u32, u32) {
    (client, number / 2)
}

fn later(workload: &Workload, unit: Unit) -> Later {
    // Some of them lie in pieces.
    let length = if unit.1 % 5 == 4 { 10_000..20_000 } else { 20..2_000 };
    Later { unit, key: workload.key(unit), text: text(unit, 5, &length) }
}

/// A unit's part of it.
pub(crate) async fn write(workload: &Workload, tx: &mut Tx, unit: Unit) -> Result<(), Error> {
    if let Some(held) = HELD.get(tx, &unit.0)? {
        let is_there = match held.parse() {
            Ok(event) => tx.cancel_scheduled(event).await?,
            Err(_) => false,
        };
        if !is_there {
            tx.set_rollback_only("the event that was to be cancelled is gone");
        }
    }
    let held = tx.publish_after(later(workload, unit), YEAR)?;
    HELD.put(tx, &unit.0, &held.to_string())?;
    tx.publish_after(later(workload, unit), Duration::from_millis(u64::from(unit.1 % 4)))?;
    let asked = Asked { unit, key: workload.key(unit) };
    let once = tx.publish_once(asked, &request(unit), YEAR).await?;
    if matches!(once, Once::Published(_)) != unit.1.is_multiple_of(2) {
        tx.set_rollback_only("a request id was forgotten, or is known too early");
    }
    Ok(())
}

/// Those who count.
pub(crate) fn listeners() -> [Registration; 2] {
    let again = Redeliver::new().attempts(200).backoff(fixed(Duration::from_millis(1)));
    let later = listener::on::<Later>("powercut.later").durable().concurrency(4).redeliver(again).takes_tx().call_with(
        |event: &Later, call| -> Result<(), BoxError> {
            LATER.add(call.tx()?, &event.key, 1)?;
            Ok(LATER_SUM.add(call.tx()?, &event.key, term(event.unit))?)
        },
    );
    let asked = listener::on::<Asked>("powercut.asked").durable().concurrency(4).redeliver(again).takes_tx().call_with(
        |event: &Asked, call| -> Result<(), BoxError> {
            ASKED.add(call.tx()?, &event.key, 1)?;
            Ok(ASKED_SUM.add(call.tx()?, &event.key, term(event.unit))?)
        },
    );
    [later, asked]
}

/// What waits, page by page.
async fn waiting(bus: &Bus) -> Result<Vec<Scheduled>, Error> {
    let (mut from, mut all) = (Due::default(), Vec::new());
    loop {
        let page = bus.scheduled(from, 256).await?;
        let Some(last) = page.last() else { return Ok(all) };
        from = last.due.next();
        all.extend(page);
    }
}

/// Waits until whatever is due within milliseconds has entered the log.
pub(crate) async fn until_due(bus: &Bus) -> Result<(), Error> {
    let limit = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default() + YEAR / 2;
    while waiting(bus).await?.first().is_some_and(|one| u128::from(one.due.time.0) < limit.as_millis()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// What has become of it, once nothing is owed.
pub(crate) async fn audit(
    workload: &Workload,
    bus: &Bus,
    units: &BTreeSet<Unit>,
    findings: &mut Findings,
) -> Result<(), BoxError> {
    let first_of_two: BTreeSet<Unit> = units.iter().filter(|(_, number)| number % 2 == 0).copied().collect();
    let mut reader = bus.reader()?;
    for (key, whole) in totals(workload, units) {
        let counted = (LATER.get(&mut reader, &key)?, LATER_SUM.get(&mut reader, &key)?);
        findings.check(counted == whole, Violation::Count, || format!("key {key}: {counted:?} came due of {whole:?}"));
    }
    for (key, whole) in totals(workload, &first_of_two) {
        let counted = (ASKED.get(&mut reader, &key)?, ASKED_SUM.get(&mut reader, &key)?);
        findings
            .check(counted == whole, Violation::Count, || format!("key {key}: {counted:?} were asked of {whole:?}"));
    }
    let held: BTreeMap<u32, String> = HELD.iter(&mut reader).collect::<Result<_, _>>()?;
    let last: BTreeMap<u32, u32> = units.iter().copied().collect();
    let held_by: BTreeSet<&u32> = held.keys().collect();
    findings.check(held_by == last.keys().collect(), Violation::Half, || format!("{held_by:?} hold an event"));
    let wait: BTreeSet<String> =
        waiting(bus).await?.iter().map(|one| one.envelope.header.metadata.id.to_string()).collect();
    findings.check(wait == held.into_values().collect(), Violation::Half, || format!("{} events wait", wait.len()));
    // What is asked for again is told, and stored by nobody, as the unit is rolled back.
    let asking: Result<_, Error> = bus
        .transaction(async |tx| {
            for unit in &first_of_two {
                let asked = Asked { unit: *unit, key: workload.key(*unit) };
                let once = tx.publish_once(asked, &request(*unit), YEAR).await?;
                findings.check(matches!(once, Once::AlreadyPublished(_)), Violation::Half, || {
                    format!("the request id of {unit:?} is forgotten")
                });
            }
            tx.set_rollback_only("it was only asked");
            Ok(())
        })
        .await;
    match asking {
        Err(Error::Unit(aftercommit::error::UnitError::RollbackOnly { .. })) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}
