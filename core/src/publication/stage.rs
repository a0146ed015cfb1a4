//! In which state one event and one listener are.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::event::EventHeader;
use crate::store::{Ending, ParkedCause, Position};

/// One event owed to one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// The event's place in the log, which may be pruned by now.
    pub position: Position,
    /// The durable listener.
    pub listener: String,
    /// What is known of the event without decoding it.
    pub header: EventHeader,
    /// What became of it.
    pub stage: Stage,
}

/// What became of an event owed to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Nobody has been called with it.
    Waiting,
    /// Somebody is being called with it, however long that takes: it is never taken for dead.
    Running {
        /// Which call this is; 1 for the first.
        attempt: u32,
        /// When this call began.
        since: Timestamp,
        /// Whether it is a dead letter that is called again.
        replayed: bool,
    },
    /// The call has come back, and it is settled with the listener's next commit of what it gathered.
    Handled {
        /// When the call began.
        since: Timestamp,
    },
    /// Its calls failed so far, and it waits for the next.
    Redelivering {
        /// How many calls failed.
        attempts: u32,
        /// When the next is due.
        due: Timestamp,
        /// What the last call answered, with its causes.
        error: String,
        /// When the last call failed.
        failed_at: Timestamp,
        /// When the first call failed.
        first_failed_at: Timestamp,
    },
    /// It is parked: a dead letter.
    Dead {
        /// How many calls failed.
        attempts: u32,
        /// Why.
        cause: ParkedCause,
        /// When it was parked.
        parked_at: Timestamp,
        /// When somebody asked that it be called again once its listener runs.
        asked: Option<Timestamp>,
    },
    /// It was given up for good.
    GivenUp {
        /// How many calls failed.
        attempts: u32,
        /// Who gave it up.
        how: Ending,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// It is settled: the listener was called with it, or declined it.
    Done,
}

/// The name of a [`Stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Status {
    /// [`Stage::Waiting`].
    Waiting,
    /// [`Stage::Running`].
    Running,
    /// [`Stage::Handled`].
    Handled,
    /// [`Stage::Redelivering`].
    Redelivering,
    /// [`Stage::Dead`].
    Dead,
    /// [`Stage::GivenUp`].
    GivenUp,
    /// [`Stage::Done`].
    Done,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 7] = [
        Status::Waiting,
        Status::Running,
        Status::Handled,
        Status::Redelivering,
        Status::Dead,
        Status::GivenUp,
        Status::Done,
    ];

    /// Those in which something is still to come of it: what Spring Modulith calls incomplete.
    pub const OPEN: [Status; 5] =
        [Status::Waiting, Status::Running, Status::Handled, Status::Redelivering, Status::Dead];

    /// The name, for instance `given-up`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Running => "running",
            Status::Handled => "handled",
            Status::Redelivering => "redelivering",
            Status::Dead => "dead",
            Status::GivenUp => "given-up",
            Status::Done => "done",
        }
    }
}

impl Display for Status {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|status| status.name()).collect();
            format!("unknown state `{name}`; expected one of: {}", all.join(", "))
        })
    }
}

impl Stage {
    /// Its name.
    pub fn status(&self) -> Status {
        match self {
            Stage::Waiting => Status::Waiting,
            Stage::Running { .. } => Status::Running,
            Stage::Handled { .. } => Status::Handled,
            Stage::Redelivering { .. } => Status::Redelivering,
            Stage::Dead { .. } => Status::Dead,
            Stage::GivenUp { .. } => Status::GivenUp,
            Stage::Done => Status::Done,
        }
    }
}

impl Display for Stage {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Waiting => out.write_str("nobody has been called with it"),
            Stage::Running { attempt, replayed: false, .. } => write!(out, "call {attempt} is running"),
            Stage::Running { replayed: true, .. } => out.write_str("the dead letter is being called again"),
            Stage::Handled { .. } => out.write_str("handled, and not settled yet"),
            Stage::Redelivering { attempts, error, .. } => {
                write!(out, "failed calls: {attempts}, the last with: {error}")
            }
            Stage::Dead { cause, asked: None, .. } => cause.fmt(out),
            Stage::Dead { cause, asked: Some(_), .. } => {
                write!(out, "to be called again once its listener runs; {cause}")
            }
            Stage::GivenUp { how, reason, .. } => write!(out, "{how}: {reason}"),
            Stage::Done => out.write_str("settled"),
        }
    }
}
