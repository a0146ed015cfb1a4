//! What a durable listener asks for, as data: in what order, how many at once, what a failure comes to, when it is settled.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::redeliver::Redeliver;
use super::rules::ErrorRules;
use crate::clock::Timestamp;

/// What a durable listener asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Durable {
    /// Which events are delivered one after another; those of one key by default.
    pub sequence: Sequence,
    /// How many deliveries of different sequences run at once; 1 by default.
    pub concurrency: usize,
    /// How many events it is owed are looked at ahead of those it is called with; 1024 by default. Intake pauses there.
    pub look_ahead: usize,
    /// When a failed delivery is called again.
    pub redeliver: Redeliver,
    /// Which errors are worth another call.
    pub errors: ErrorRules,
    /// Whether it has a fallback that is called when a delivery is out of attempts.
    pub has_fallback: bool,
    /// What becomes of what it gives up, and of what follows.
    pub parking: Parking,
    /// When what it was called with is settled.
    pub ack: AckMode,
    /// How many events one call takes, if several.
    pub batch: Option<Batch>,
    /// Where it begins if the store does not know it yet.
    pub start: StartAt,
    /// How long one call may take; no limit by default. Past it the call is dropped and counts as failed.
    pub time_limit: Option<Duration>,
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            sequence: Sequence::PerKey,
            concurrency: 1,
            look_ahead: 1024,
            redeliver: Redeliver::default(),
            errors: ErrorRules::default(),
            has_fallback: false,
            parking: Parking::default(),
            ack: AckMode::Record,
            batch: None,
            start: StartAt::Now,
            time_limit: None,
        }
    }
}

/// Which events reach a durable listener one after another, in commit order. Different sequences run in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sequence {
    /// Those of one key; an event without a key is a sequence of its own.
    #[default]
    PerKey,
    /// All of them.
    Total,
    /// None: each event is a sequence of its own.
    Unordered,
}

/// What becomes of an event that is given up, and of those that follow it in its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Parking {
    /// What follows a parked event.
    pub followers: Followers,
    /// How many sequences may be parked; no limit by default.
    pub sequences: Option<NonZeroUsize>,
    /// How many events of one sequence may be parked; no limit by default.
    pub length: Option<NonZeroUsize>,
    /// What happens when one of the limits is reached.
    pub full: WhenFull,
}

impl Parking {
    /// The default: followers park behind, without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows a parked event.
    pub fn followers(mut self, followers: Followers) -> Self {
        self.followers = followers;
        self
    }

    /// At most so many sequences are parked; 0 is taken as 1.
    pub fn sequences(mut self, most: usize) -> Self {
        self.sequences = Some(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
        self
    }

    /// At most so many events of one sequence are parked; 0 is taken as 1.
    pub fn length(mut self, most: usize) -> Self {
        self.length = Some(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
        self
    }

    /// What happens when one of the limits is reached.
    pub fn when_full(mut self, full: WhenFull) -> Self {
        self.full = full;
        self
    }
}

/// What follows an event that is given up, in its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Followers {
    /// It parks behind it without being called.
    #[default]
    Park,
    /// It passes: the event parks alone, and the sequence goes on without it.
    Pass,
    /// Nothing follows: the event is not parked, the listener stops and tells.
    Stop,
}

/// What happens to an event that is to be parked where there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The listener stops and tells; the event stays owed.
    #[default]
    Stop,
    /// The event is discarded, and told to the observer. What it holds is lost.
    Discard,
}

/// When what a durable listener was called with is settled, in Kafka's and Spring Kafka's terms.
///
/// A listener that takes a `tx` or a `Delivery` is settled by its own commit, which is [`Record`](Self::Record).
/// The others work outside the store, at least once: what was called and not yet settled is called again after a crash.
/// What is gathered is settled in one commit, which survives a kill of the process but is not waited for on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// After each call, before the next of its sequence.
    #[default]
    Record,
    /// When all that was at hand has been handled.
    Batch,
    /// Each time so many were handled, and when all that was at hand has been.
    Count(usize),
    /// So long after the first that is not settled.
    Time(Duration),
    /// Whichever comes first.
    CountOrTime(usize, Duration),
    /// When the listener says so with its `Ack`, in any order; settled once everything before it has been acknowledged too.
    /// What is not acknowledged holds its sequence and its place in the concurrency.
    Manual,
    /// As `Manual`, and each settled at once.
    ManualImmediate,
}

impl AckMode {
    /// Whether the listener acknowledges by itself.
    pub fn is_manual(self) -> bool {
        matches!(self, AckMode::Manual | AckMode::ManualImmediate)
    }

    /// Whether settling waits for others.
    pub(crate) fn gathers(self) -> bool {
        self != AckMode::Record
    }
}

/// How many events one call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// At most so many.
    pub max: usize,
    /// How long the first of them waits for the others.
    pub linger: Duration,
}

impl Batch {
    /// At most `max` events, whose first waits `linger` for the others.
    pub fn new(max: usize, linger: Duration) -> Self {
        Self { max, linger }
    }
}

/// Where a durable listener begins that the store does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// With the first event that is published after it came.
    #[default]
    Now,
    /// With the first event that the log still holds: all of those declared `logged`, and those that others are still owed.
    Beginning,
    /// With the first event in the log that was published at or after this moment.
    Time(Timestamp),
}
