//! A record of what was published and told.

use std::any::Any;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::observe::{Notice, Observer, Tap};

/// Records the names of published events, and every notice as text. Clones share one record.
///
/// Give it to the builder twice: `.tap(recorder.clone()).observer(recorder.clone())`.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    published: Vec<Seen>,
    notices: Vec<String>,
}

struct Seen {
    name: &'static str,
    event: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

impl Recorder {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The names of all events published so far, in order, those of units that rolled back included.
    pub fn published(&self) -> Vec<&'static str> {
        self.0.lock().published.iter().map(|seen| seen.name).collect()
    }

    /// The notices so far, in their `Debug` form.
    pub fn notices(&self) -> Vec<String> {
        self.0.lock().notices.clone()
    }

    /// A tap that keeps the events of type `E` themselves, for [`events`](Self::events).
    pub fn keeping<E: Clone + Send + 'static>(&self) -> impl Tap + use<E> {
        let record = self.0.clone();
        move |name: &'static str, event: &dyn Any| {
            if let Some(event) = event.downcast_ref::<E>() {
                record.lock().published.push(Seen { name, event: Box::new(event.clone()) });
            }
        }
    }

    /// The events of type `E` that a [`keeping`](Self::keeping) tap kept, in order.
    pub fn events<E: Clone + 'static>(&self) -> Vec<E> {
        self.0.lock().published.iter().filter_map(|seen| seen.event.downcast_ref::<E>().cloned()).collect()
    }
}

impl Tap for Recorder {
    fn published(&self, name: &'static str, _event: &dyn Any) {
        self.0.lock().published.push(Seen { name, event: Box::new(()) });
    }
}

impl Observer for Recorder {
    fn notice(&self, notice: &Notice<'_>) {
        self.0.lock().notices.push(format!("{notice:?}"));
    }
}
