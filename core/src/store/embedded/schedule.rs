//! The scheduled events of one unit of work, before it commits.

use std::collections::HashSet;

use uuid::Uuid;

use crate::event::Envelope;

/// What a unit publishes for later and takes out; both only grow, so that a savepoint is a pair of lengths.
#[derive(Default)]
pub(super) struct Schedule {
    added: Vec<Envelope>,
    taken: Vec<Uuid>,
    bytes: usize,
    savepoints: Vec<(usize, usize)>,
}

impl Schedule {
    pub(super) fn add(&mut self, envelope: Envelope) {
        self.bytes += envelope.weight();
        self.added.push(envelope);
    }

    /// Whether the unit itself knows that the event waits, or does not any more.
    pub(super) fn has(&self, event: Uuid) -> Option<bool> {
        if self.taken.contains(&event) {
            return Some(false);
        }
        self.added.iter().any(|envelope| envelope.header.metadata.id == event).then_some(true)
    }

    pub(super) fn take(&mut self, event: Uuid) {
        self.taken.push(event);
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        self.bytes
    }

    pub(super) fn savepoint(&mut self) {
        self.savepoints.push((self.added.len(), self.taken.len()));
    }

    pub(super) fn roll_back_to_savepoint(&mut self) {
        let Some((added, taken)) = self.savepoints.pop() else { return };
        self.bytes -= self.added.drain(added..).map(|envelope| envelope.weight()).sum::<usize>();
        self.taken.truncate(taken);
    }

    pub(super) fn release_savepoint(&mut self) {
        self.savepoints.pop();
    }

    /// The events to be kept, and those to be taken out of what is stored.
    pub(super) fn into_changes(self) -> (Vec<Envelope>, Vec<Uuid>) {
        let Self { mut added, mut taken, .. } = self;
        let gone: HashSet<Uuid> = taken.iter().copied().collect();
        let own: HashSet<Uuid> = added.iter().map(|envelope| envelope.header.metadata.id).collect();
        added.retain(|envelope| !gone.contains(&envelope.header.metadata.id));
        taken.retain(|event| !own.contains(event));
        (added, taken)
    }
}
