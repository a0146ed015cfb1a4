//! A run: deliveries of one listener that one task calls one after the other.
//!
//! A listener that is called one at a time waits for nothing between two calls but its worker, and a task for each call costs more
//! than most calls do. So the worker hands over some that come next, and the run ends early where the worker has to decide:
//! at the first that is not done, when somebody asks something of the worker, when the bus stops, and when its time is over.

use std::sync::Arc;
use std::time::Duration;

use super::Verdict;
use super::worker::Progress;
use crate::clock::{Clock, Timestamp};
use crate::listener::StopSignal;
use crate::store::Position;

/// How many deliveries a run has at most, of a listener that is settled later; and of others, which may share one commit.
pub(super) const LONGEST: usize = 512;
pub(super) const LONGEST_COMMITTED: usize = 128;
/// How long calls of a run begin. What its worker has to do meanwhile, as settling by time, waits no longer than that for them.
const SLICE: Duration = Duration::from_millis(4);

/// The deliveries that a handler was given, in their order, as they are told to whoever watches.
pub(crate) struct Run {
    pub(super) progress: Arc<Progress>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: StopSignal,
    /// How often the worker had been asked something when the run was put together.
    pub(super) asked: u64,
    pub(super) begun: Timestamp,
    pub(super) subjects: Vec<Subject>,
}

/// What is told of a delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) position: Position,
    pub(super) attempt: u32,
    pub(super) is_replayed: bool,
    pub(super) ticket: u64,
}

impl Run {
    /// Takes the delivery at `index` in hand; the first always, another if the run goes on. Answers whether it is to be called.
    pub(crate) fn take_up(&self, index: usize) -> bool {
        let Some(Subject { position, attempt, is_replayed, ticket }) = self.subjects.get(index).copied() else {
            return false;
        };
        let now = self.clock.now();
        let goes_on = index == 0
            || (now < self.begun.saturating_add(SLICE)
                && !self.progress.was_asked_since(self.asked)
                && !self.stop.is_stopping());
        if goes_on {
            self.progress.desk().begin(ticket, position, attempt, now, is_replayed);
        }
        goes_on
    }

    /// Takes all of them in hand.
    pub(crate) fn take_up_all(&self) {
        let now = self.clock.now();
        for Subject { position, attempt, is_replayed, ticket } in self.subjects.iter().copied() {
            self.progress.desk().begin(ticket, position, attempt, now, is_replayed);
        }
    }

    /// The call of the delivery at `index` came to this. What is not done stays in hand until the worker has decided.
    pub(crate) fn put_down(&self, index: usize, verdict: &Verdict) {
        let Some(Subject { position, ticket, .. }) = self.subjects.get(index).copied() else { return };
        match verdict {
            Verdict::Handled => self.progress.desk().handled(position, ticket),
            Verdict::Settled | Verdict::Declined => self.progress.desk().end(position, ticket),
            _ => {}
        }
    }

    /// All of them came to this, in their order.
    pub(crate) fn put_down_all(&self, verdicts: Vec<Verdict>) -> Vec<Verdict> {
        verdicts.iter().enumerate().for_each(|(index, verdict)| self.put_down(index, verdict));
        verdicts
    }
}
