//! What a recorded life does with a bus.
//!
//! Clients work at the same time, each commits one unit after the other and says what was acknowledged at `Sync`.
//! A unit writes so that a half of it shows: a row, a twin of it in another table, counters, a row that is changed in place, perhaps a
//! large body, and an event. Durable listeners count the events in the units of work that settle them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::archive::ArchiveFolder;
use aftercommit::bus::Replay;
use aftercommit::error::{BoxError, UnitError};
use aftercommit::event::Stored;
use aftercommit::listener::{self, IntoAnswer, Redeliver, Registration, StartAt, fixed};
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};

use crate::store::Subject;
use crate::waiting;

/// What a life does.
#[derive(Debug, Clone)]
pub struct Workload {
    pub(crate) name: &'static str,
    /// Each time the store is opened.
    pub(crate) openings: &'static [Opening],
    /// Over how many keys the units spread.
    pub(crate) keys: u32,
    /// Bytes of a unit's row, and of the text of its event.
    pub(crate) row: Range<usize>,
    pub(crate) event: Range<usize>,
    /// Bytes of the row that all units of a key change in place; none if 0.
    pub(crate) ledger: usize,
    /// Bytes of a unit's body, of which a client keeps the last few; none if empty.
    pub(crate) body: Range<usize>,
    /// How many blocks each client has: a row of 7 KiB beside a small one. A unit changes all the small ones, and so many of the others.
    pub(crate) blocks: u32,
    pub(crate) large_blocks: u32,
    /// What a client's units survive.
    pub(crate) durability: fn(u32) -> Durability,
    /// Whether a listener parks some of its events, until it is mended.
    pub(crate) picky: bool,
    /// Whether units publish for later and cancel it, and publish under request ids.
    pub(crate) waits: bool,
    /// Whether what is done is archived before the log gives it up, and replayed from there once.
    pub(crate) archived: bool,
}

/// One opening of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) clients: u32,
    /// How many units each client commits.
    pub(crate) units: u32,
    /// Whether all listeners are there; otherwise only the first.
    pub(crate) all_listeners: bool,
    /// Whether to close in good order after all is delivered, and not just to let go of it.
    pub(crate) closes: bool,
}

const fn open(clients: u32, units: u32) -> Opening {
    Opening { clients, units, all_listeners: true, closes: true }
}

/// How a life after a cut goes on.
pub(crate) const SECOND: Opening = Opening { clients: 12, units: 2, all_listeners: true, closes: false };

const PLAIN: Workload = Workload {
    name: "",
    openings: &[],
    keys: 64,
    row: 20..200,
    event: 20..200,
    ledger: 0,
    body: 0..0,
    blocks: 0,
    large_blocks: 1,
    durability: |_| Durability::Sync,
    picky: false,
    waits: false,
    archived: false,
};

/// All of them.
pub static WORKLOADS: [Workload; 13] = [
    // One unit at a time: small groups, many syncs.
    Workload { name: "single", openings: &[open(1, 40)], ledger: 100, ..PLAIN },
    // Large groups.
    Workload { name: "crowd", openings: &[open(64, 24)], row: 200..2_500, event: 200..1_500, ..PLAIN },
    // Small rows between large ones, all changed in place: much is written for each, and the log is used again.
    Workload { name: "blocks", openings: &[open(20, 24)], keys: 16, blocks: 8, ..PLAIN },
    // The same for so long that what the log let go of is written to again.
    Workload { name: "reused", openings: &[open(4, 320)], keys: 16, blocks: 8, ..PLAIN },
    // Units that nearly fill what one may write.
    Workload { name: "imports", openings: &[open(2, 12)], keys: 4, blocks: 320, large_blocks: 18, ..PLAIN },
    // Large rows whose neighbourhoods all grow at the same time: the most is written between two syncs.
    Workload { name: "lockstep", openings: &[open(64, 12)], row: 6_000..8_000, event: 20..100, ..PLAIN },
    // A listener that is away for a while, settles a mass of events at once, and lets go of the log.
    Workload {
        name: "settlement",
        openings: &[
            open(4, 1),
            Opening { clients: 64, units: 16, all_listeners: false, closes: false },
            Opening { clients: 0, units: 0, all_listeners: true, closes: false },
            open(16, 4),
        ],
        row: 200..1_000,
        event: 200..6_000,
        ..PLAIN
    },
    // Few rows, changed again and again, growing and shrinking.
    Workload { name: "ledger", openings: &[open(24, 40)], keys: 24, ledger: 12_000, row: 20..1_000, ..PLAIN },
    // Rows and events in pieces, replaced and removed.
    Workload {
        name: "bodies",
        openings: &[open(4, 6)],
        keys: 4,
        event: 10_000..100_000,
        ledger: 9_000,
        body: 20_000..300_000,
        ..PLAIN
    },
    // Opened and closed, or dropped, many times.
    Workload {
        name: "reopening",
        openings: &[
            open(16, 4),
            Opening { clients: 16, units: 4, all_listeners: true, closes: false },
            open(8, 4),
            Opening { clients: 32, units: 4, all_listeners: false, closes: false },
            open(8, 4),
            open(0, 0),
        ],
        row: 200..6_000,
        event: 200..2_000,
        ledger: 2_000,
        ..PLAIN
    },
    // The log is archived and given up while it is written to, and a listener is given all of it once more.
    Workload {
        name: "archived",
        openings: &[open(8, 8), Opening { clients: 8, units: 4, all_listeners: true, closes: false }, open(4, 4)],
        keys: 16,
        event: 200..3_000,
        archived: true,
        ..PLAIN
    },
    // Events that are called again in vain, and again when they are replayed, and park with those behind them; events for later,
    // and request ids.
    Workload { name: "parked", openings: &[open(16, 12), open(16, 4)], keys: 24, picky: true, waits: true, ..PLAIN },
    // Units that survive different things, in the same groups.
    Workload {
        name: "mixed",
        openings: &[open(32, 20)],
        row: 200..2_500,
        ledger: 300,
        blocks: 3,
        durability: |number| match number % 5 {
            0 | 1 => Durability::Buffered,
            2 => Durability::Flush,
            _ => Durability::Sync,
        },
        ..PLAIN
    },
];

impl Workload {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Workload> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }
}

/// A unit: who commits it, and its number there.
pub(crate) type Unit = (u32, u32);

/// How many of its bodies a client keeps.
pub(crate) const KEPT_BODIES: u32 = 3;

/// The folder of the archive, beside the store's.
const ARCHIVE: &str = "archive";

/// A client whose units are always refused.
pub(crate) const REFUSED: u32 = u32::MAX;

/// The row of a unit, by unit; and its twin, by a number that has nothing to do with it.
pub(crate) const UNITS: Table<Unit, Row> = Table::new("powercut.units");
pub(crate) const TWINS: Table<u64, Unit> = Table::new("powercut.twins");
/// The bodies of the last units of each client.
pub(crate) const BODIES: Table<Unit, String> = Table::new("powercut.bodies");
/// By client and block: the large row, and the small one, which says the client's last unit.
pub(crate) const BLOCKS: Table<(u32, u32, bool), String> = Table::new("powercut.blocks");
/// By key: how many units there are, what their numbers add up to, and what they left of a stock.
pub(crate) const MADE: Counters<u32> = Counters::new("powercut.made");
pub(crate) const MADE_SUM: Counters<u32> = Counters::new("powercut.made-sum");
pub(crate) const STOCK: Counters<u32> = Counters::new("powercut.stock").floor(-1_000_000);
/// By key: the row that is changed in place.
pub(crate) const LEDGERS: Table<u32, Ledger> = Table::new("powercut.ledgers");
/// By key, what the first listener counted; the second one; the picky one.
pub(crate) const COUNTED: Counters<u32> = Counters::new("powercut.counted");
pub(crate) const COUNTED_SUM: Counters<u32> = Counters::new("powercut.counted-sum");
pub(crate) const TALLIES: Table<u32, Tally> = Table::new("powercut.tallies");
pub(crate) const PICKED: Counters<u32> = Counters::new("powercut.picked");
pub(crate) const PICKED_SUM: Counters<u32> = Counters::new("powercut.picked-sum");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: u32,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) count: i64,
    pub(crate) sum: i64,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) count: i64,
    pub(crate) sum: i64,
    /// The last unit of each client, and how often one came that was not after it.
    pub(crate) last: BTreeMap<u32, u32>,
    pub(crate) disordered: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) unit: Unit,
    pub(crate) key: u32,
    pub(crate) text: String,
}

impl Event for Made {
    const STORED: Option<Stored<Self>> = Some(Stored::json("powercut.made"));

    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend(self.key.to_be_bytes());
        true
    }
}

impl StoredEvent for Made {}

/// A number that has nothing to do with the unit's own; sums of them tell which units were added, in practice.
pub(crate) fn spread((client, number): Unit) -> u64 {
    let mixed = ((u64::from(client) << 32) | u64::from(number)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

pub(crate) fn term(unit: Unit) -> i64 {
    (spread(unit) >> 24) as i64
}

/// The text of a unit for one purpose, of a length in `range`.
pub(crate) fn text(unit: Unit, purpose: u64, range: &Range<usize>) -> String {
    let mut rng = fastrand::Rng::with_seed(spread(unit) ^ purpose);
    let length = if range.is_empty() { range.start } else { rng.usize(range.clone()) };
    // A few letters of its own, again and again: as good as any others, and cheap.
    let own: String = (0..24).map(|_| rng.alphanumeric()).collect();
    let mut text = own.repeat(length.div_ceil(own.len()));
    text.truncate(length);
    text
}

impl Workload {
    pub(crate) fn key(&self, unit: Unit) -> u32 {
        (spread(unit) >> 40) as u32 % self.keys
    }

    pub(crate) fn row(&self, unit: Unit) -> Row {
        Row { key: self.key(unit), text: text(unit, 1, &self.row) }
    }

    pub(crate) fn event(&self, unit: Unit) -> Made {
        Made { unit, key: self.key(unit), text: text(unit, 2, &self.event) }
    }

    pub(crate) fn body(&self, unit: Unit) -> Option<String> {
        (!self.body.is_empty()).then(|| text(unit, 3, &self.body))
    }

    /// What a ledger says after it was changed so often.
    pub(crate) fn ledger_text(&self, key: u32, count: i64) -> String {
        text((key, count as u32), 4, &(0..self.ledger))
    }

    /// The large rows that a unit writes.
    pub(crate) fn large_blocks(&self, (_, number): Unit) -> impl Iterator<Item = u32> + use<> {
        let (blocks, count) = (self.blocks, self.large_blocks.min(self.blocks));
        (0..count).map(move |one| (number * count + one) % blocks)
    }

    pub(crate) fn block(&self, unit: Unit, block: u32) -> String {
        text(unit, 6 + u64::from(block), &(6_500..7_500))
    }

    /// The durable listeners. The picky one fails on some events, unless it is mended.
    pub(crate) fn listeners(&'static self, all: bool, mended: bool) -> Vec<Registration> {
        let again = Redeliver::new().attempts(200).backoff(fixed(Duration::from_millis(1)));
        let mut listeners = vec![
            listener::on::<Made>("powercut.count").durable().concurrency(8).redeliver(again).takes_tx().call_with(
                move |event, call| -> Result<(), BoxError> {
                    self.is_as_published(event)?;
                    COUNTED.add(call.tx()?, &event.key, 1)?;
                    Ok(COUNTED_SUM.add(call.tx()?, &event.key, term(event.unit))?)
                },
            ),
        ];
        if all {
            listeners.push(
                listener::on::<Made>("powercut.tally")
                    .durable()
                    .concurrency(16)
                    .redeliver(again)
                    .takes_delivery()
                    .call_async(move |event, mut call| {
                        CallFuture::from_or_box(async move {
                            self.is_as_published(event)?;
                            let delivery: Delivery = call.take()?;
                            let settled = delivery.settle(async |tx| {
                                let mut tally = TALLIES.get(tx, &event.key)?.unwrap_or_default();
                                tally.add(event.unit);
                                TALLIES.put(tx, &event.key, &tally)
                            });
                            settled.await?.into_answer()
                        })
                    }),
            );
        }
        if all && self.picky {
            let twice = Redeliver::new().attempts(2).backoff(fixed(Duration::from_millis(1)));
            listeners.push(
                listener::on::<Made>("powercut.picky").durable().concurrency(4).redeliver(twice).takes_tx().call_with(
                    move |event, call| -> Result<(), BoxError> {
                        if !mended && event.unit.1 % 5 == 3 {
                            return Err("not this one".into());
                        }
                        PICKED.add(call.tx()?, &event.key, 1)?;
                        Ok(PICKED_SUM.add(call.tx()?, &event.key, term(event.unit))?)
                    },
                ),
            );
        }
        if all && self.waits {
            listeners.extend(waiting::listeners());
        }
        listeners
    }

    fn is_as_published(&self, event: &Made) -> Result<(), BoxError> {
        let published = self.event(event.unit);
        if event.key == published.key && event.text == published.text { Ok(()) } else { Err("not as published".into()) }
    }

    /// Starts a bus over the store in `folder`.
    pub(crate) async fn start(
        &'static self,
        subject: Subject,
        folder: &Path,
        all: bool,
        mended: bool,
    ) -> Result<Bus, BoxError> {
        let store = subject.open(folder)?;
        let builder = Bus::builder().shared_store(store).crash_limit(0).listeners(self.listeners(all, mended));
        // The log is let go of as it is written, so that cuts meet that too.
        let builder = builder.retention(Retention::delete_when_done());
        Ok(if self.archived { builder.archive(ArchiveFolder::open(folder.with_file_name(ARCHIVE))?) } else { builder }
            .start()
            .await?)
    }

    /// Commits one unit.
    pub(crate) async fn commit(&self, bus: &Bus, unit: Unit, durability: Durability) -> Result<(), Error> {
        let key = self.key(unit);
        let (row, body) = (self.row(unit), self.body(unit));
        let work = async |tx: &mut Tx| {
            tx.set_durability(durability);
            UNITS.put(tx, &unit, &row)?;
            TWINS.put(tx, &spread(unit), &unit)?;
            MADE.add(tx, &key, 1)?;
            MADE_SUM.add(tx, &key, term(unit))?;
            STOCK.add(tx, &key, -1)?;
            if self.ledger > 0 {
                tx.lock(key).await?;
                let mut ledger = LEDGERS.get(tx, &key)?.unwrap_or_default();
                ledger.count += 1;
                ledger.sum += term(unit);
                ledger.text = self.ledger_text(key, ledger.count);
                LEDGERS.put(tx, &key, &ledger)?;
            }
            if let Some(body) = &body {
                BODIES.put(tx, &unit, body)?;
                if let Some(old) = unit.1.checked_sub(KEPT_BODIES) {
                    BODIES.remove(tx, &(unit.0, old))?;
                }
            }
            for block in 0..self.blocks {
                BLOCKS.put(tx, &(unit.0, block, true), &unit.1.to_string())?;
            }
            for block in self.large_blocks(unit) {
                BLOCKS.put(tx, &(unit.0, block, false), &self.block(unit, block))?;
            }
            if self.waits {
                waiting::write(self, tx, unit).await?;
            }
            tx.publish(self.event(unit))
        };
        bus.transaction_retrying(1_000, work).await.map(drop)
    }

    /// Tries a unit that a floor refuses.
    pub(crate) async fn try_in_vain(&self, bus: &Bus, number: u32) -> Result<(), BoxError> {
        let unit = (REFUSED, number);
        let tried = bus.transaction_retrying(1_000, async |tx: &mut Tx| {
            UNITS.put(tx, &unit, &self.row(unit))?;
            TWINS.put(tx, &spread(unit), &unit)?;
            STOCK.add(tx, &self.key(unit), -100_000_000)?;
            tx.publish(self.event(unit))
        });
        match tried.await {
            Err(Error::Unit(UnitError::BelowFloor { .. })) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err("a unit below the floor was committed".into()),
        }
    }

    /// Lives through `openings` in `folder`, and says in `marks` what was acknowledged.
    pub(crate) async fn live(
        &'static self,
        subject: Subject,
        folder: &Path,
        marks: Arc<File>,
        openings: &[Opening],
    ) -> Result<(), BoxError> {
        for opening in openings {
            let bus = self.start(subject, folder, opening.all_listeners, false).await?;
            mark(&marks, OPENED)?;
            let next = next_numbers(&bus)?;
            let mut clients = tokio::task::JoinSet::new();
            for client in 0..opening.clients {
                let (bus, marks, units) = (bus.clone(), marks.clone(), opening.units);
                let first = next.get(&client).copied().unwrap_or(0);
                clients.spawn(async move {
                    for number in first..first + units {
                        let durability = (self.durability)(number);
                        self.commit(&bus, (client, number), durability).await?;
                        if durability == Durability::Sync {
                            mark(&marks, &acknowledged((client, number)))?;
                        }
                        if self.archived && number % 4 == client % 4 {
                            bus.tidy().await?;
                        }
                        if client % 16 == 5 && number % 8 == 2 {
                            self.try_in_vain(&bus, number).await?;
                        }
                    }
                    Ok::<_, BoxError>(())
                });
            }
            while let Some(ended) = clients.join_next().await {
                ended??;
            }
            bus.idle().await;
            if self.picky && opening.all_listeners {
                // In vain, as it is not mended yet.
                bus.dead_letters("powercut.picky").replay(Replay::all()).await?;
                bus.idle().await;
            }
            if self.archived && opening.all_listeners {
                bus.tidy().await?;
                replay_tallies(&bus).await?;
            }
            if opening.closes {
                bus.shutdown(Duration::from_secs(30)).await?;
            }
        }
        Ok(())
    }
}

/// Gives the second listener every event there ever was once more.
async fn replay_tallies(bus: &Bus) -> Result<(), BoxError> {
    let cleared = bus.reset("powercut.tally", StartAt::Beginning, async |tx| {
        let keys = TALLIES.iter(tx).map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
        keys.iter().try_for_each(|key| TALLIES.remove(tx, key))
    });
    cleared.await?;
    bus.idle().await;
    Ok(())
}

impl Tally {
    fn add(&mut self, unit: Unit) {
        self.count += 1;
        self.sum += term(unit);
        let last = self.last.insert(unit.0, unit.1);
        self.disordered += u32::from(last.is_some_and(|last| last >= unit.1));
    }
}

/// The number of each client's next unit.
fn next_numbers(bus: &Bus) -> Result<BTreeMap<u32, u32>, BoxError> {
    let mut reader = bus.reader()?;
    let units: BTreeSet<Unit> =
        UNITS.iter(&mut reader).map(|row| row.map(|(unit, _)| unit)).collect::<Result<_, _>>()?;
    Ok(units.into_iter().map(|(client, number)| (client, number + 1)).collect())
}

/// The mark of an open store.
pub(crate) const OPENED: &str = "opened\n";

/// The mark of a unit that was acknowledged at `Sync`.
pub(crate) fn acknowledged(unit: Unit) -> String {
    format!("unit {} {}\n", unit.0, unit.1)
}

/// The unit of such a mark.
pub(crate) fn unit_of(mark: &str) -> Option<Unit> {
    let (client, number) = mark.trim().strip_prefix("unit ")?.split_once(' ')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

/// Says something to the recorder: one write is one mark.
pub(crate) fn mark(marks: &File, text: &str) -> std::io::Result<()> {
    (&mut &*marks).write_all(text.as_bytes())
}
