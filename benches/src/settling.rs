//! A durable listener that counts, in each of the ways in which what it was called with can be settled.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aftercommit::error::{BoxError, Error};
use aftercommit::listener::{self, AckMode, Batch, Call, Delivered, Registration};
use aftercommit::store::Position;
use aftercommit::table::Counters;
use aftercommit::{Bus, Event};
use serde::{Deserialize, Serialize};

/// How often each buyer was counted, by each of the listeners that write to the store.
pub const SEEN: Counters<(u32, u32)> = Counters::new("benches.seen");

/// The event: with its envelope about 300 bytes.
#[derive(Event, Serialize, Deserialize)]
#[event(name = "benches.placed")]
pub struct Placed {
    /// Its key.
    #[event(key)]
    pub buyer: u32,
    /// So that it is about as long as such events are.
    pub text: String,
}

impl Placed {
    /// An event of one of `keys` keys, drawn at random.
    pub fn draw(random: &mut fastrand::Rng, keys: u32) -> Self {
        Self { buyer: random.u32(0..keys), text: "e".repeat(190) }
    }
}

/// How a durable listener settles what it was called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Outside the store, settled by the thousand or after a hundredth of a second.
    CountOrTime,
    /// Outside the store, each settled by itself.
    Record,
    /// In the store, each event in a unit of work of its own, one after the other.
    Tx,
    /// As before, up to 64 of different keys at once.
    TxAtOnce,
    /// In the store, up to 256 events in one unit of work.
    TxBatch,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::CountOrTime, Self::Record, Self::TxBatch, Self::TxAtOnce, Self::Tx];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Way::CountOrTime => "at least once, count or time",
            Way::Record => "at least once, each by itself",
            Way::Tx => "exactly once, one at a time",
            Way::TxAtOnce => "exactly once, 64 keys at once",
            Way::TxBatch => "exactly once, batches of 256",
        }
    }

    /// The one that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// Whether what it writes is applied exactly once.
    pub fn is_exactly_once(self) -> bool {
        matches!(self, Way::Tx | Way::TxAtOnce | Way::TxBatch)
    }

    /// A durable listener that settles in this way, and tells `seen`.
    pub fn listener(self, id: &str, seen: &Arc<Seen>) -> Registration {
        let listener = listener::on::<Placed>(id).durable();
        let seen = seen.clone();
        match self {
            Way::CountOrTime => {
                let ack = AckMode::CountOrTime(1000, Duration::from_millis(10));
                listener.ack(ack).call(move |_| seen.note(1))
            }
            Way::Record => listener.call(move |_| seen.note(1)),
            Way::Tx => listener.takes_tx().call_with(move |event, call| one(event, call, &seen)),
            Way::TxAtOnce => listener.concurrency(64).takes_tx().call_with(move |event, call| one(event, call, &seen)),
            Way::TxBatch => {
                let batch = Batch::new(256, Duration::ZERO);
                listener.batch(batch).takes_tx().call_batch(move |events, call| several(events, call, &seen))
            }
        }
    }
}

fn one(event: &Placed, call: &mut Call<'_>, seen: &Seen) -> Result<(), BoxError> {
    SEEN.add(call.tx()?, &(seen.lot, event.buyer), 1)?;
    seen.note(1);
    Ok(())
}

fn several(events: &[Delivered<Placed>], call: &mut Call<'_>, seen: &Seen) -> Result<(), BoxError> {
    let tx = call.tx()?;
    events.iter().try_for_each(|one| SEEN.add(tx, &(seen.lot, one.event.buyer), 1))?;
    seen.note(events.len() as u64);
    Ok(())
}

/// What a listener has seen.
pub struct Seen {
    lot: u32,
    count: AtomicU64,
}

impl Seen {
    /// Nothing yet; what is counted in the store is counted under the number `lot`.
    pub fn new(lot: u32) -> Arc<Self> {
        Arc::new(Self { lot, count: AtomicU64::default() })
    }

    /// How many events.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn note(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }
}

/// Publishes `count` events of as many keys as are given, in one unit of work. Answers where the last of them is in the log.
///
/// # Errors
/// Those of the unit of work.
pub async fn publish(bus: &Bus, random: &mut fastrand::Rng, keys: u32, count: u64) -> Result<Position, Error> {
    let published = bus.transaction(async |tx| (0..count).try_for_each(|_| tx.publish(Placed::draw(random, keys))));
    published.await.map(|committed| committed.positions.last().copied().unwrap_or_default())
}

/// How many events were counted in the store under the number `lot`.
///
/// # Panics
/// If that cannot be read.
pub fn counted(bus: &Bus, lot: u32) -> u64 {
    let mut reader = bus.reader().expect("reads");
    SEEN.prefix(&mut reader, &lot).map(|row| row.expect("a counter").1 as u64).sum()
}

/// How many times a second as much as an event is written to a file in `folder`, and synced by itself.
///
/// # Panics
/// If there is no such file to be had.
pub fn syncs_a_second(folder: &Path, span: Duration) -> f64 {
    const ROOM: usize = 1 << 20;
    let mut file = File::create(folder.join("synced")).expect("a file");
    file.write_all(&vec![1; ROOM]).and_then(|()| file.sync_all()).and_then(|()| file.rewind()).expect("is written");
    let (begun, mut syncs) = (Instant::now(), 0usize);
    while begun.elapsed() < span {
        file.write_all(&[2; 512]).and_then(|()| file.sync_data()).expect("is synced");
        syncs += 1;
        if syncs.is_multiple_of(ROOM / 512) {
            file.rewind().expect("is rewound");
        }
    }
    syncs as f64 / begun.elapsed().as_secs_f64()
}
