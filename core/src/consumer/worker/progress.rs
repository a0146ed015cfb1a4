//! How far a worker has come, for those who wait for it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::clock::Timestamp;
use crate::publication::Desk;
use crate::store::Position;

/// How far a worker has come.
#[derive(Debug, Default)]
pub(in crate::consumer) struct Progress {
    /// Everything below was looked at.
    scanned: AtomicU64,
    /// The first position that is not settled.
    low: AtomicU64,
    pending: AtomicUsize,
    /// When something is to be done, if all that is pending waits for its time; 0 if not.
    idle_until: AtomicU64,
    /// Nothing more is taken in before then.
    stalled: AtomicBool,
    /// Paused or stopped, with nothing running.
    resting: AtomicBool,
    ended: AtomicBool,
    /// Commands sent and not yet taken up.
    announced: AtomicUsize,
    /// How many commands were ever sent or taken up.
    asked: AtomicU64,
    desk: Desk,
}

/// What a worker says about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) scanned: Position,
    pub(super) low: Position,
    pub(super) pending: usize,
    pub(super) idle_until: Option<Timestamp>,
    pub(super) stalled: bool,
    pub(super) resting: bool,
}

impl Progress {
    pub(super) fn publish(&self, standing: Standing) {
        self.pending.store(standing.pending, Ordering::SeqCst);
        self.idle_until.store(standing.idle_until.map_or(0, |due| due.0), Ordering::SeqCst);
        self.stalled.store(standing.stalled, Ordering::SeqCst);
        self.resting.store(standing.resting, Ordering::SeqCst);
        self.low.store(standing.low.0, Ordering::SeqCst);
        self.scanned.store(standing.scanned.0, Ordering::SeqCst);
    }

    pub(in crate::consumer) fn low(&self) -> Position {
        Position(self.low.load(Ordering::SeqCst))
    }

    /// A command is on its way: counted as known work before the worker sees it, so that `idle` waits for it.
    pub(in crate::consumer) fn announce(&self) {
        self.announced.fetch_add(1, Ordering::SeqCst);
        self.interrupt();
    }

    /// What is called one after the other stops before the next call.
    pub(super) fn interrupt(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    /// How many commands were ever sent or taken up.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Whether one was since there were `asked`.
    pub(in crate::consumer) fn was_asked_since(&self, asked: u64) -> bool {
        self.asked() != asked
    }

    /// Whether a command is on its way.
    pub(super) fn is_asked(&self) -> bool {
        self.announced.load(Ordering::SeqCst) > 0
    }

    pub(in crate::consumer) fn take_back(&self) {
        self.announced.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether nothing is left to do up to `end`, or at most what is due later than `waiting_past`.
    pub(in crate::consumer) fn is_idle(&self, end: Position, waiting_past: Option<Timestamp>) -> bool {
        let waits = || waiting_past.is_some_and(|now| self.idle_until.load(Ordering::SeqCst) > now.0);
        let looked = || self.scanned.load(Ordering::SeqCst) > end.0 || self.stalled.load(Ordering::SeqCst);
        self.has_ended()
            || (self.announced.load(Ordering::SeqCst) == 0
                && (self.resting.load(Ordering::SeqCst)
                    || (looked() && (self.pending.load(Ordering::SeqCst) == 0 || waits()))))
    }

    /// What is being called right now.
    pub(in crate::consumer) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(in crate::consumer) fn end(&self) {
        self.desk.clear();
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(in crate::consumer) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
