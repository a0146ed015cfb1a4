//! The dead letters of one listener as its worker knows them: what is parked, in which sequence, and what is called again.
//!
//! Only positions are kept; the events stay in the store until their turn comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::lane::LaneKey;
use crate::key::Key;
use crate::listener::Parking;
use crate::store::{Parked, Position};

/// What is parked, by sequence.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    sequences: HashMap<LaneKey, BTreeSet<Position>>,
    of: BTreeMap<Position, LaneKey>,
}

impl DeadLetters {
    pub(super) fn insert(&mut self, key: LaneKey, position: Position) {
        self.sequences.entry(key.clone()).or_default().insert(position);
        self.of.insert(position, key);
    }

    pub(super) fn remove(&mut self, position: Position) {
        let Some(key) = self.of.remove(&position) else { return };
        if let Some(sequence) = self.sequences.get_mut(&key) {
            sequence.remove(&position);
            if sequence.is_empty() {
                self.sequences.remove(&key);
            }
        }
    }

    pub(super) fn key_of(&self, position: Position) -> Option<&LaneKey> {
        self.of.get(&position)
    }

    /// The first of the sequence.
    pub(super) fn first(&self, key: &LaneKey) -> Option<Position> {
        self.first_from(key, Position(0))
    }

    /// The first of the sequence from `from` on.
    pub(super) fn first_from(&self, key: &LaneKey, from: Position) -> Option<Position> {
        self.sequences.get(key)?.range(from..).next().copied()
    }

    /// Every sequence, the one whose first event is oldest first.
    pub(super) fn keys(&self) -> VecDeque<LaneKey> {
        self.of
            .iter()
            .filter(|(position, key)| self.first(key) == Some(**position))
            .map(|(_, key)| key.clone())
            .collect()
    }

    /// Whether one more of `key` may be parked.
    pub(super) fn has_room(&self, key: &LaneKey, parking: &Parking) -> bool {
        match self.sequences.get(key) {
            Some(sequence) => parking.length.is_none_or(|most| sequence.len() < most.get()),
            None => parking.sequences.is_none_or(|most| self.sequences.len() < most.get()),
        }
    }

    pub(super) fn counts(&self, parking: &Parking) -> ParkedCounts {
        let too_many = parking.sequences.is_some_and(|most| self.sequences.len() >= most.get());
        let too_long = |most: usize| self.sequences.values().any(|sequence| sequence.len() >= most);
        ParkedCounts {
            sequences: self.sequences.len(),
            events: self.of.len(),
            is_full: too_many || parking.length.is_some_and(|most| too_long(most.get())),
        }
    }
}

/// How much is parked for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedCounts {
    /// How many sequences.
    pub sequences: usize,
    /// How many events.
    pub events: usize,
    /// Whether one of the declared limits is reached.
    pub is_full: bool,
}

/// Which dead letters are to be called again, and how many sequences of them at once.
///
/// In order within a sequence: one that fails again stays parked with the new cause, and what follows stays behind it.
/// What arrives in the meantime comes after it.
#[derive(Clone)]
pub struct Replay {
    pub(super) which: Which,
    pub(super) in_flight: usize,
}

#[derive(Clone)]
pub(super) enum Which {
    One(Position),
    SequenceOf(Position),
    Key(Vec<u8>),
    All,
    Matching(Arc<Filter>),
}

pub(super) type Filter = dyn Fn(&Parked) -> bool + Send + Sync;

impl Replay {
    fn new(which: Which) -> Self {
        Self { which, in_flight: 64 }
    }

    /// This one, and nothing behind it. It must be the first of its sequence.
    pub fn one(position: Position) -> Self {
        Self::new(Which::One(position))
    }

    /// All of the sequence that this one belongs to.
    pub fn sequence_of(position: Position) -> Self {
        Self::new(Which::SequenceOf(position))
    }

    /// All of this key.
    pub fn key<K: Key>(key: &K) -> Self {
        Self::new(Which::Key(crate::key::encode_key(key)))
    }

    /// Every one, sequence by sequence, the oldest first.
    pub fn all() -> Self {
        Self::new(Which::All)
    }

    /// Those that match: each sequence from its first on, up to the first that does not match.
    pub fn matching(filter: impl Fn(&Parked) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Which::Matching(Arc::new(filter)))
    }

    /// At most so many sequences at once, in addition to the listener's concurrency; 64 unless said here, 0 is taken as 1.
    pub fn in_flight(mut self, most: usize) -> Self {
        self.in_flight = most.max(1);
        self
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let which: &dyn std::fmt::Debug = match &self.which {
            Which::One(position) => &("one", *position),
            Which::SequenceOf(position) => &("sequence of", *position),
            Which::Key(key) => &("key", key),
            Which::All => &"all",
            Which::Matching(_) => &"matching",
        };
        out.debug_struct("Replay").field("which", which).field("in_flight", &self.in_flight).finish()
    }
}

/// Dead letters that are being called again.
#[derive(Default)]
pub(super) struct Replays {
    /// The oldest first.
    runs: BTreeMap<u64, Run>,
    next_run: u64,
    /// The sequences at work.
    pub(super) at_work: HashMap<LaneKey, AtWork>,
}

struct Run {
    in_flight: usize,
    at_work: usize,
    queue: VecDeque<LaneKey>,
    filter: Option<Arc<Filter>>,
    only: Option<Position>,
}

/// A sequence that is being called again.
#[derive(Clone)]
pub(super) struct AtWork {
    run: u64,
    /// What comes next is at or behind this.
    pub(super) from: Position,
    /// Asked before each.
    pub(super) filter: Option<Arc<Filter>>,
    /// Nothing but this one.
    pub(super) only: Option<Position>,
}

impl Replays {
    pub(super) fn begin(&mut self, replay: &Replay, queue: VecDeque<LaneKey>, filter: Option<Arc<Filter>>) {
        let only = match replay.which {
            Which::One(position) => Some(position),
            _ => None,
        };
        self.runs.insert(self.next_run, Run { in_flight: replay.in_flight, at_work: 0, queue, filter, only });
        self.next_run += 1;
    }

    /// How many sequences wait for their turn.
    pub(super) fn queued(&self) -> usize {
        self.runs.values().map(|run| run.queue.len()).sum()
    }

    /// Whether anything is being called again, or is to be.
    pub(super) fn is_active(&self) -> bool {
        !self.at_work.is_empty() || self.queued() > 0
    }

    /// The next sequence to begin with, as far as its run allows.
    pub(super) fn next(&mut self) -> Option<LaneKey> {
        for (&number, run) in &mut self.runs {
            while run.at_work < run.in_flight
                && let Some(key) = run.queue.pop_front()
            {
                // Asked for twice is asked for once.
                if self.at_work.contains_key(&key) {
                    continue;
                }
                run.at_work += 1;
                let at_work = AtWork { run: number, from: Position(0), filter: run.filter.clone(), only: run.only };
                self.at_work.insert(key.clone(), at_work);
                return Some(key);
            }
        }
        self.runs.retain(|_, run| run.at_work > 0 || !run.queue.is_empty());
        None
    }

    /// A sequence has come to its end.
    pub(super) fn end(&mut self, key: &LaneKey) {
        if let Some(ended) = self.at_work.remove(key)
            && let Some(run) = self.runs.get_mut(&ended.run)
        {
            run.at_work -= 1;
        }
    }
}
