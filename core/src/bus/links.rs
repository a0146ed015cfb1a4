//! Which span an event was published in, so that the span of a later call can be linked to it.
//!
//! Spans live in one process, so that a delivery after a restart has no link; its `correlation` field tells the chain all the same.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tracing::span::Id;
use uuid::Uuid;

/// How many stored events are remembered.
const KEPT: usize = 4096;

/// The spans in which recently stored events were published.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    spans: HashMap<Uuid, Id>,
    oldest_first: VecDeque<Uuid>,
}

impl Links {
    /// The event is being published in the current span, if there is one.
    pub(crate) fn remember(&self, event: Uuid) {
        let Some(span) = tracing::Span::current().id() else { return };
        let mut kept = self.0.lock();
        if kept.oldest_first.len() == KEPT
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.spans.remove(&oldest);
        }
        kept.oldest_first.push_back(event);
        kept.spans.insert(event, span);
    }

    pub(crate) fn of(&self, event: Uuid) -> Option<Id> {
        self.0.lock().spans.get(&event).cloned()
    }
}
