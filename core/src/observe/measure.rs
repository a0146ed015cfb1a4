//! What the bus does and how long it takes, for those who draw curves of it.

use std::time::Duration;

/// Something that was done, told to observers that ask for it. Durations are real time, also where a test moves the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure<'a> {
    /// An event is being published; inside a unit of work it may still be rolled back.
    Published {
        /// The event's name.
        event: &'static str,
    },
    /// A listener is about to be called, whatever its phase.
    Calling {
        /// The listener's id.
        listener: &'a str,
        /// The event's name.
        event: &'static str,
    },
    /// A listener came back, whatever its phase: its function alone, without the commit that follows.
    Called {
        /// The listener's id.
        listener: &'a str,
        /// The event's name.
        event: &'static str,
        /// How long it took.
        took: Duration,
        /// What kind of failure it was, if one: that of an [`Error`](crate::Error) of this library, `error` for any other, `panic`,
        /// or `dropped` before it had an answer.
        failed: Option<&'static str>,
    },
    /// A call that is [metered](super::Meter) begins.
    Entered {
        /// The name it is metered under.
        name: &'a str,
    },
    /// A call that is [metered](super::Meter) came back.
    Left {
        /// The name it is metered under.
        name: &'a str,
        /// How long it took.
        took: Duration,
        /// What kind of failure it was, if one: as its declaration says, else as for a listener.
        failed: Option<&'a str>,
    },
    /// A durable listener settled a delivery.
    Delivered {
        /// The durable listener.
        listener: &'a str,
    },
    /// A delivery to a durable listener failed; it is called again or parks, which a notice tells.
    Failed {
        /// The durable listener.
        listener: &'a str,
    },
    /// Somebody waited for a lock that others held. A lock that was free is not told.
    Waited {
        /// For how long.
        took: Duration,
        /// Whether it was obtained: not if its time was over, if units waited for each other, or if who waited was dropped.
        obtained: bool,
    },
    /// The store answered the commit of a unit of work.
    Committed {
        /// How long it took, waiting for its group and its sync included.
        took: Duration,
        /// How many units were committed at once with it, itself counted; 0 if the store does not say, or refused.
        group: usize,
        /// Whether it was refused or is in doubt.
        failed: bool,
    },
}

/// How far a durable listener is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// The durable listener.
    pub listener: String,
    /// How many log positions stand between the first that it has not settled and the end of the log. Some may be of events
    /// it is not owed.
    pub behind: u64,
    /// How long ago the event at the first of them was published; `None` if it is behind nothing.
    pub oldest_age: Option<Duration>,
}
