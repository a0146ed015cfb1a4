//! sled alone, as its documentation uses it: transactions over two trees, a `flush` after each, nothing else.
//!
//! What it loses under the same cuts is the measure for what the store above it adds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::error::BoxError;
use sled::Transactional;
use sled::transaction::ConflictableTransactionError;

use crate::audit::{Acknowledged, Findings, Violation, with_causes};
use crate::store::Subject;
use crate::workload::{OPENED, Opening, Unit, Workload, acknowledged, mark, spread, text};

fn open(folder: &Path) -> sled::Result<(sled::Db, sled::Tree, sled::Tree)> {
    let db = sled::Config::new().path(folder.join("sled")).cache_capacity(32 << 20).open()?;
    let (units, twins) = (db.open_tree("units")?, db.open_tree("twins")?);
    Ok((db, units, twins))
}

fn key((client, number): Unit) -> [u8; 8] {
    ((u64::from(client) << 32) | u64::from(number)).to_be_bytes()
}

fn value(workload: &Workload, unit: Unit) -> String {
    text(unit, 5, &(workload.row.start + workload.event.start..workload.row.end + workload.event.end))
}

fn commit(workload: &Workload, units: &sled::Tree, twins: &sled::Tree, unit: Unit) -> Result<(), BoxError> {
    let value = value(workload, unit);
    let done = (units, twins).transaction(|(units, twins)| {
        units.insert(&key(unit), value.as_bytes())?;
        twins.insert(&spread(unit).to_be_bytes(), value.as_bytes())?;
        Ok::<_, ConflictableTransactionError<std::convert::Infallible>>(())
    });
    done.map_err(|error| format!("{error}").into())
}

/// Lives through `openings`: its clients take turns, a group of as many units each time, as one committing thread would have it.
///
/// # Errors
/// sled's.
pub(crate) fn live(
    subject: Subject,
    workload: &Workload,
    folder: &Path,
    marks: &Arc<File>,
    openings: &[Opening],
) -> Result<(), BoxError> {
    std::fs::create_dir_all(folder)?;
    for opening in openings {
        let (db, units, twins) = open(folder)?;
        let data = File::options().write(true).open(folder.join("sled/db"))?;
        // The creation is not what is asked about.
        sync_all_in(folder)?;
        mark(marks, OPENED)?;
        let next = next_numbers(&units)?;
        let first = |client: u32| next.get(&client).copied().unwrap_or(0);
        for number in 0..opening.units {
            for client in 0..opening.clients {
                commit(workload, &units, &twins, (client, first(client) + number))?;
            }
            db.flush()?;
            if subject == Subject::BareSledFdatasync {
                data.sync_data()?;
            }
            for client in 0..opening.clients {
                mark(marks, &acknowledged((client, first(client) + number)))?;
            }
        }
        drop((db, units, twins, data));
        // sled lets go of its file a little after it was dropped.
        let released = File::open(folder.join("sled/db"))?;
        released.lock()?;
    }
    Ok(())
}

fn sync_all_in(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { sync_all_in(&path)? } else { File::open(path)?.sync_all()? }
    }
    File::open(folder)?.sync_all()?;
    File::open(folder.parent().unwrap_or(folder))?.sync_all()
}

/// The number of each client's next unit.
fn next_numbers(units: &sled::Tree) -> Result<BTreeMap<u32, u32>, BoxError> {
    let mut next = BTreeMap::new();
    for row in units.iter() {
        let key: [u8; 8] = row?.0.as_ref().try_into()?;
        let unit = u64::from_be_bytes(key);
        // Ascending: the last one of a client stays.
        next.insert((unit >> 32) as u32, unit as u32 + 1);
    }
    Ok(next)
}

/// Audits sled in `folder`. Its panics are caught by the caller.
pub(crate) fn audit(workload: &Workload, folder: &Path, acknowledged: &Acknowledged) -> Findings {
    let mut findings = Findings::default();
    let opened = AtomicBool::new(false);
    let audited = (|| -> Result<(), BoxError> {
        let (db, units, twins) = open(folder)?;
        opened.store(true, Ordering::Relaxed);
        let mut there = BTreeSet::new();
        for row in units.iter() {
            let (found, held) = row?;
            let number = u64::from_be_bytes(found.as_ref().try_into()?);
            let unit = ((number >> 32) as u32, number as u32);
            there.insert(unit);
            let expected = value(workload, unit);
            findings.check(held == expected.as_bytes(), Violation::Half, || format!("the row of {unit:?}"));
            let twin = twins.get(spread(unit).to_be_bytes())?;
            findings.check(twin.is_some_and(|twin| twin == expected.as_bytes()), Violation::Half, || {
                format!("the twin of {unit:?}")
            });
        }
        findings.units = there.len();
        findings.check(twins.len() == there.len(), Violation::Half, || "rows and twins differ in number".to_owned());
        findings
            .check(!there.is_empty() || acknowledged.is_empty(), Violation::Wiped, || "nothing is there".to_owned());
        for (client, count) in acknowledged {
            let lost = (0..*count).filter(|number| !there.contains(&(*client, *number))).count();
            findings.check(lost == 0, Violation::Lost, || format!("client {client}: {lost} of {count} acknowledged"));
        }
        for (client, number) in &there {
            let whole = *number == 0 || there.contains(&(*client, number - 1));
            findings.check(whole, Violation::Hole, || format!("client {client}: none before {number}"));
        }
        commit(workload, &units, &twins, (2_000, 0))?;
        db.flush()?;
        Ok(())
    })();
    if let Err(error) = audited {
        let kind = if opened.into_inner() { Violation::Stopped } else { Violation::Refused };
        findings.add(kind, with_causes(&*error));
    }
    findings
}
