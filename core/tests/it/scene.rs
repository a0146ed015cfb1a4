//! What the tests play with: events, a table, and a record of who was called.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::sync::Arc;

use aftercommit::error::BoxError;
use aftercommit::event::{Event, Stored, StoredEvent};
use aftercommit::listener::{self, Call, Registration};
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Lives in memory only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rang(pub u32);

impl Event for Rang {}

/// Can be stored; its number is its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed(pub u32);

impl Event for Placed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("test.placed"));

    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend(self.0.to_be_bytes());
        true
    }
}

impl StoredEvent for Placed {}

/// The application's own rows.
pub(crate) const ROWS: Table<u32, String> = Table::new("test.rows");
/// Counts what durable listeners did, once each.
pub(crate) const DONE: Counters<u32> = Counters::new("test.done");

/// The application's own error.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct No;

impl Display for No {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no")
    }
}

impl StdError for No {}

/// Who was called, in order. Clones share one record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// Adds a line.
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// All lines since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    /// How often a line was noted.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.0.lock().iter().filter(|noted| *noted == line).count()
    }

    /// A function for a listener that notes `line` at each call.
    pub(crate) fn noting<E: Event>(&self, line: &str) -> impl Fn(&E) + Send + Sync + 'static + use<E> {
        let (heard, line) = (self.clone(), line.to_owned());
        move |_| heard.note(line.clone())
    }

    /// A listener that notes the name of its phase at each call.
    pub(crate) fn in_phase<E: Event>(&self, phase: Phase) -> Registration {
        listener::on::<E>(format!("test.{phase}")).phase(phase).call(self.noting(phase.name()))
    }

    /// A listener in each of `phases` that notes the name of its phase at each call.
    pub(crate) fn in_phases<E: Event>(&self, phases: &[Phase]) -> Vec<Registration> {
        phases.iter().map(|phase| self.in_phase::<E>(*phase)).collect()
    }
}

/// An asynchronous listener that yields before it runs `work`.
pub(crate) fn yielding<E: Event>(
    work: impl Fn(&E) + Send + Sync + 'static,
) -> impl for<'a> Fn(&'a E, Call<'a>) -> CallFuture<'a> + Send + Sync + 'static {
    let work = Arc::new(work);
    move |event, _| {
        let work = work.clone();
        CallFuture::from_or_box(async move {
            tokio::task::yield_now().await;
            work(event);
            Ok(None)
        })
    }
}

/// A bus on `home`, to be given listeners.
pub(crate) fn bus_on(home: &dyn crate::stores::Home) -> aftercommit::runtime::BusBuilder {
    Bus::builder().shared_store(home.open())
}

/// The committed row under `key`.
pub(crate) fn row(bus: &Bus, key: u32) -> Option<String> {
    let mut reader = bus.reader().expect("a reader");
    ROWS.get(&mut reader, &key).expect("a row that can be read")
}

/// How often durable listeners counted `key`.
pub(crate) fn done(bus: &Bus, key: u32) -> i64 {
    let mut reader = bus.reader().expect("a reader");
    DONE.get(&mut reader, &key).expect("a cell that can be read")
}

/// A durable listener that counts its event in [`DONE`], once.
pub(crate) fn counting(id: &str) -> Registration {
    listener::on::<Placed>(id)
        .durable()
        .takes_tx()
        .call_with(|event: &Placed, call| -> Result<(), BoxError> { Ok(DONE.add(call.tx()?, &event.0, 1)?) })
}
