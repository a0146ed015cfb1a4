//! What is being done for one listener right now, told by whoever does it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::store::Position;

/// A delivery in somebody's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Underway {
    /// Which call this is; 1 for the first.
    pub attempt: u32,
    /// When the call began.
    pub since: Timestamp,
    /// The call has come back, and its delivery is settled with others, later.
    pub is_handled: bool,
    /// It is a dead letter that is called again.
    pub is_replayed: bool,
    ticket: u64,
}

/// The deliveries of one listener that are in somebody's hands. Never locked while anybody is called.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    underway: Mutex<InHand>,
    tickets: AtomicU64,
    is_halted: AtomicBool,
}

#[derive(Debug, Default)]
struct InHand {
    called: HashMap<Position, Underway, RandomState>,
    /// Those that came back and are to be settled, about in the order in which they will be: there may be many.
    handled: VecDeque<(Position, Underway)>,
}

impl Desk {
    /// A ticket, which names a call that is to be made.
    pub(crate) fn draw(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// The call of this ticket begins.
    pub(crate) fn begin(&self, ticket: u64, position: Position, attempt: u32, since: Timestamp, is_replayed: bool) {
        let underway = Underway { attempt, since, is_handled: false, is_replayed, ticket };
        self.underway.lock().called.insert(position, underway);
    }

    /// The call of this ticket came back, and its delivery is settled later.
    pub(crate) fn handled(&self, position: Position, ticket: u64) {
        let InHand { called, handled } = &mut *self.underway.lock();
        if called.get(&position).is_some_and(|one| one.ticket == ticket)
            && let Some(underway) = called.remove(&position)
        {
            handled.push_back((position, Underway { is_handled: true, ..underway }));
        }
    }

    /// What the call of this ticket came to is known to the store, unless it was handled and is still to be settled.
    pub(crate) fn end(&self, position: Position, ticket: u64) {
        let called = &mut self.underway.lock().called;
        if called.get(&position).is_some_and(|one| one.ticket == ticket) {
            called.remove(&position);
        }
    }

    /// These were handled, and are settled.
    pub(crate) fn settled(&self, positions: impl Iterator<Item = Position>) {
        let handled = &mut self.underway.lock().handled;
        for position in positions {
            if let Some(at) = handled.iter().position(|(one, _)| *one == position) {
                handled.remove(at);
            }
        }
    }

    /// Nothing runs any more.
    pub(crate) fn clear(&self) {
        *self.underway.lock() = InHand::default();
    }

    pub(crate) fn underway(&self) -> HashMap<Position, Underway> {
        let in_hand = self.underway.lock();
        let called = in_hand.called.iter().map(|(position, underway)| (*position, *underway));
        // One that is called again counts as being called.
        in_hand.handled.iter().copied().chain(called).collect()
    }

    /// Whether the listener is called at all.
    pub(crate) fn set_halted(&self, is_halted: bool) {
        self.is_halted.store(is_halted, Ordering::Relaxed);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Relaxed)
    }
}
