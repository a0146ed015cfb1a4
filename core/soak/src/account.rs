//! Accounting: orders that all listeners have applied once are counted and forgotten, so that the store need not keep them.
//!
//! Of each lane the store knows how many orders were placed and up to which they are accounted for. What was applied below that line
//! again, or twice above it, is a violation.

use aftercommit::prelude::*;

use crate::listeners::{APPLIED, LANES, LISTENERS, VIOLATIONS};

/// How many orders were placed, by lane.
pub(crate) const PLACED: Counters<u32> = Counters::new("soak.placed");
/// How many of those are accounted for.
pub(crate) const ACCOUNTED: Counters<u32> = Counters::new("soak.accounted");

/// How many orders one unit of work accounts for: each has a row for each listener, and a unit on sled writes about 512.
const AT_ONCE: u64 = 64;

/// Where things stand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    pub(crate) placed: u64,
    pub(crate) accounted: u64,
}

/// Where things stand in each lane.
pub(crate) fn standing(bus: &Bus) -> Result<Vec<Standing>, Error> {
    let mut reader = bus.reader()?;
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    (0..LANES)
        .map(|lane| {
            // Asked for first, so that it is never the greater.
            let accounted = number(ACCOUNTED.get(&mut reader, &lane)?);
            Ok(Standing { placed: number(PLACED.get(&mut reader, &lane)?), accounted })
        })
        .collect()
}

/// Accounts for what is complete in `lane`; answers whether there may be more.
pub(crate) async fn account(bus: &Bus, lane: u32) -> Result<bool, Error> {
    let from = standing(bus)?[lane as usize].accounted;
    let to = complete(bus, lane, from)?;
    if from == to {
        return Ok(false);
    }
    let counted = bus.transaction(async |tx| {
        for order in from..to {
            for listener in 0..LISTENERS.len() as u8 {
                let key = (lane, order, listener);
                let times = APPLIED.get(tx, &key)?;
                if times != 1 {
                    let told = format!(
                        "order {order} of lane {lane} was applied {times} times by {}",
                        LISTENERS[listener as usize]
                    );
                    VIOLATIONS.put(tx, &fastrand::u64(..), &told)?;
                }
                APPLIED.remove(tx, &key)?;
            }
        }
        ACCOUNTED.set(tx, &lane, to as i64)
    });
    match counted.await {
        Ok(_) => Ok(to - from == AT_ONCE),
        // What was just seen may have been written by a unit that this one came too early for.
        Err(error) if error.is_conflict() => Ok(true),
        Err(error) => Err(error),
    }
}

/// The first order from `from` on that some listener has not applied.
fn complete(bus: &Bus, lane: u32, from: u64) -> Result<u64, Error> {
    let mut reader = bus.reader()?;
    let (mut next, mut seen) = (from, 0);
    for row in APPLIED.range(&mut reader, (lane, from, 0)..(lane, from + AT_ONCE, 0)) {
        let ((_, order, _), _) = row?;
        if order != next {
            break;
        }
        seen += 1;
        if seen == LISTENERS.len() {
            (next, seen) = (next + 1, 0);
        }
    }
    Ok(next)
}

/// What is wrong, if anything is: to be asked when everything has been worked off.
pub(crate) async fn audit(bus: &Bus) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    for (lane, standing) in standing(bus)?.iter().enumerate() {
        if standing.placed != standing.accounted {
            wrong.push(format!(
                "of the {} orders of lane {lane} {} are accounted for",
                standing.placed, standing.accounted
            ));
        }
    }
    let mut reader = bus.reader()?;
    for row in VIOLATIONS.iter(&mut reader) {
        wrong.push(row?.1);
    }
    let left = APPLIED.iter(&mut reader).count();
    if left > 0 {
        wrong.push(format!("{left} rows of orders that are accounted for came again"));
    }
    for lag in bus.lags().await? {
        if lag.behind > 0 {
            wrong.push(format!("{} is still owed {} events", lag.listener, lag.behind));
        }
    }
    let parked = bus.parked().await?.len();
    if parked > 0 {
        wrong.push(format!("{parked} events stay parked"));
    }
    Ok(wrong)
}
