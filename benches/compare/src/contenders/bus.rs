//! The bus, used as an application would: units of work from tasks, at `Sync`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aftercommit::Bus;
use aftercommit::error::BoxError;
use aftercommit::event::{Event, EventSlot, Stored, StoredEvent};
use aftercommit::listener::{self, AckMode, Registration};
use aftercommit::table::{Counters, Table};
pub use aftercommit_benches::engine::{Engine, open_store};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::work::Work;
use crate::{Opened, Units};

/// The rows.
pub const ROWS: Table<[u8; 16], String> = Table::new("benches.rows");
const SEEN: Counters<u32> = Counters::new("benches.seen");

/// The event, stored although nobody listens.
#[derive(Serialize, Deserialize)]
pub struct Written {
    /// Letters.
    pub text: String,
}

impl Event for Written {
    const STORED: Option<Stored<Self>> = Some(Stored::json("benches.written").logged());

    fn slot() -> Option<&'static EventSlot> {
        static SLOT: EventSlot = EventSlot::new();
        Some(&SLOT)
    }
}

impl StoredEvent for Written {}

impl Written {
    /// The event of a unit: the envelope around it makes it 300 bytes.
    pub fn of(work: &Work) -> Self {
        Self { text: text(&work.event[..200]) }
    }
}

/// Letters as text.
///
/// # Panics
/// If they are none.
pub fn text(letters: &[u8]) -> String {
    String::from_utf8(letters.to_vec()).expect("letters")
}

/// Who listens beside the commits.
enum Beside {
    Nobody,
    /// One that works outside the store and is settled in batches.
    Batches,
    /// One that counts in the store, each event exactly once, 64 at a time.
    Tx,
}

pub(super) fn sled(path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    open(Engine::Sled, &Beside::Nobody, path, runtime)
}

pub(super) fn redb(path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    open(Engine::Redb, &Beside::Nobody, path, runtime)
}

pub(super) fn sled_batches(path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    open(Engine::Sled, &Beside::Batches, path, runtime)
}

pub(super) fn redb_batches(path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    open(Engine::Redb, &Beside::Batches, path, runtime)
}

pub(super) fn sled_tx(path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    open(Engine::Sled, &Beside::Tx, path, runtime)
}

pub(super) fn redb_tx(path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    open(Engine::Redb, &Beside::Tx, path, runtime)
}

fn open(engine: Engine, beside: &Beside, path: &Path, runtime: &Runtime) -> Result<Opened, String> {
    let store = open_store(engine, path, None).map_err(|error| error.to_string())?;
    let drained = Arc::new(AtomicU64::new(0));
    let listener = beside.listener(&drained);
    let listens = listener.is_some();
    let bus = runtime.block_on(Bus::builder().shared_store(store).listeners(listener).start());
    let bus = bus.map_err(|error| error.to_string())?;
    Ok(Opened::Units(Arc::new(OnTheBus { bus, drained: listens.then_some(drained) })))
}

impl Beside {
    fn listener(&self, drained: &Arc<AtomicU64>) -> Option<Registration> {
        let drained = drained.clone();
        let listener = listener::on::<Written>("benches.beside").durable();
        match self {
            Beside::Nobody => None,
            Beside::Batches => Some(listener.ack(AckMode::Batch).call(move |_| {
                drained.fetch_add(1, Ordering::Relaxed);
            })),
            Beside::Tx => {
                let counts = move |_: &Written, call: &mut listener::Call<'_>| -> Result<(), BoxError> {
                    SEEN.add(call.tx()?, &0, 1)?;
                    // Counted once its commit stands.
                    let drained = drained.clone();
                    call.tx()?.after_commit(0, move || {
                        drained.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    });
                    Ok(())
                };
                Some(listener.concurrency(64).takes_tx().call_with(counts))
            }
        }
    }
}

struct OnTheBus {
    bus: Bus,
    drained: Option<Arc<AtomicU64>>,
}

impl Units for OnTheBus {
    fn commit(&self, work: Work) -> BoxFuture<'static, ()> {
        let bus = self.bus.clone();
        async move {
            let done = bus.transaction(async |tx| {
                ROWS.put(tx, &work.key, &text(&work.row))?;
                tx.publish(Written::of(&work))
            });
            assert_eq!(done.await.expect("commits").positions.len(), 1);
        }
        .boxed()
    }

    fn drained(&self) -> Option<u64> {
        self.drained.as_ref().map(|drained| drained.load(Ordering::Relaxed))
    }

    fn end(&self, runtime: &Runtime) -> u64 {
        runtime.block_on(self.bus.idle());
        let mut reader = self.bus.reader().expect("reads");
        let units = ROWS.iter(&mut reader).count() as u64;
        if let Some(drained) = self.drained() {
            assert_eq!(drained, units, "the listener has had every event");
        }
        runtime.block_on(self.bus.shutdown(Duration::from_secs(60))).expect("stops");
        units
    }
}
