//! What a verification answers: what a store holds, and what is wrong with it.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// What a store holds, and what is wrong with it. Printed with `{}` it is a text for people; serialised, one for programs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What it holds.
    pub contents: Contents,
    /// What is wrong, in the order in which it was met; at most [`MOST_FINDINGS`](Self::MOST_FINDINGS).
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more_findings: u64,
}

impl Report {
    /// How many findings are told one by one.
    pub const MOST_FINDINGS: usize = 1000;

    /// Whether nothing is wrong, or no longer.
    pub fn is_whole(&self) -> bool {
        self.more_findings == 0 && self.findings.iter().all(|one| one.remedy == Remedy::Mended)
    }
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Contents {
    /// How many entries the engine holds.
    pub entries: u64,
    /// How many bytes of keys and values.
    pub bytes: u64,
    /// The application's tables, by name.
    pub tables: Vec<TableContents>,
    /// The log.
    pub log: LogContents,
    /// Durable listeners, by id.
    pub listeners: Vec<ListenerContents>,
    /// How many events wait to be due.
    pub scheduled: u64,
    /// How many ids are remembered.
    pub remembered: u64,
    /// How many rows, events, parked and scheduled events lie in pieces.
    pub large_values: u64,
}

/// A table of the application.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct TableContents {
    /// Its stored name.
    pub name: String,
    /// What it holds.
    pub shape: String,
    /// How many rows or counters.
    pub rows: u64,
    /// How many bytes of keys and values.
    pub bytes: u64,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct LogContents {
    /// The first position that is held; `None` if nothing is.
    pub first: Option<u64>,
    /// The next position to be given out.
    pub next: u64,
    /// How many events are held.
    pub events: u64,
    /// How many of the positions held were erased.
    pub erased: u64,
    /// How many bytes, pieces of large events not counted.
    pub bytes: u64,
}

/// A durable listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ListenerContents {
    /// Its id.
    pub id: String,
    /// Everything below is settled.
    pub low: u64,
    /// How many log positions lie between there and the end of the log, settled ones above `low` not counted.
    /// Some of them may hold events that it is not owed.
    pub behind: u64,
    /// How many deliveries wait to be called again.
    pub waiting: u64,
    /// How many events are parked.
    pub parked: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The entry, in words, with its key.
    pub entry: String,
    /// What is wrong with it.
    #[serde(flatten)]
    pub problem: Problem,
    /// What can be done, or was.
    pub remedy: Remedy,
    #[serde(skip)]
    pub(super) key: Vec<u8>,
}

/// What can be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// It was mended; nothing was lost.
    Mended,
    /// A repair would mend it without a loss.
    Repair,
    /// Something is lost: it is for its owner to decide what should stand there, or to restore a backup.
    Restore,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Problem {
    /// The checksum or the stored form is wrong.
    Damaged {
        /// What does not fit.
        reason: String,
    },
    /// No version that is known here writes such an entry.
    Unknown,
    /// The mark of every store is missing: its engine has lost what it held last, and perhaps more.
    NoMark,
    /// The log says it was pruned further than it goes.
    PrunedPastEnd {
        /// How far it says.
        pruned: u64,
        /// Where it ends.
        end: u64,
    },
    /// The row's table is not recorded, so that nobody can read it.
    UnknownTable {
        /// The table's id.
        table: u32,
    },
    /// Two tables have one id, so that their rows are mixed up.
    SharedTable {
        /// The other one's name.
        other: String,
    },
    /// The value lies in pieces, and they are not all there and whole.
    Pieces {
        /// What is wrong with them.
        reason: String,
    },
    /// The value lies in pieces that are listed to be swept: it would be lost at the next opening.
    ListedToSweep {
        /// The large value's id.
        id: u64,
    },
    /// Two values lie in the same pieces: replacing one would lose the other.
    SharedPieces {
        /// The large value's id.
        id: u64,
    },
    /// Pieces that nothing refers to and that are not listed to be swept: they only take room.
    OrphanPieces {
        /// How many pieces there are from this one on.
        count: u32,
    },
    /// The pack holds positions that the one before holds too.
    Overlap {
        /// Where the one before ends.
        before: u64,
    },
    /// A position that was never given out: the log has lost its end.
    PastEnd {
        /// The position.
        position: u64,
        /// Where the log ends.
        end: u64,
    },
    /// A second entry that belongs to it is missing or says something else: it is not found by its id, or not forgotten in time.
    Unlinked,
    /// It belongs to another entry, which is not there or says something else.
    Dangling,
    /// A scheduled event whose order may be given out again.
    OrderNotTaken {
        /// Its order.
        order: u64,
        /// The order that is given out next.
        next: u64,
    },
    /// Kept for a delivery of a listener that the store does not know.
    NoCursor {
        /// The listener.
        listener: String,
    },
    /// Kept for a delivery that is settled.
    Settled {
        /// The listener.
        listener: String,
        /// What was delivered.
        position: u64,
    },
    /// Parked, and owed all the same: it would be delivered twice.
    ParkedAndOwed {
        /// The listener.
        listener: String,
        /// What is parked.
        position: u64,
    },
}

impl Display for Problem {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Damaged { reason } => write!(out, "is damaged: {reason}"),
            Problem::Unknown => write!(out, "is of no kind this version knows"),
            Problem::NoMark => write!(out, "is missing: the engine has lost what it held last, and perhaps more"),
            Problem::PrunedPastEnd { pruned, end } => {
                write!(out, "says that the log was pruned to {pruned}, and it ends at {end}")
            }
            Problem::UnknownTable { table } => write!(out, "belongs to table #{table}, which is not recorded"),
            Problem::SharedTable { other } => write!(out, "has the id of table `{other}`"),
            Problem::Pieces { reason } => write!(out, "lies in pieces that are not whole: {reason}"),
            Problem::ListedToSweep { id } => {
                write!(out, "lies in pieces (large value {id}) that would be swept at the next opening")
            }
            Problem::SharedPieces { id } => {
                write!(out, "lies in pieces (large value {id}) that another value lies in too")
            }
            Problem::OrphanPieces { count } => write!(out, "and what follows, {count} in all, is of no value any more"),
            Problem::Overlap { before } => write!(out, "begins before the pack before it ends, at {before}"),
            Problem::PastEnd { position, end } => {
                write!(out, "speaks of position {position}, and the log ends at {end}")
            }
            Problem::Unlinked => write!(out, "lacks a second entry, by which it is found"),
            Problem::Dangling => write!(out, "belongs to another entry, which is not there or says something else"),
            Problem::OrderNotTaken { order, next } => {
                write!(out, "has the order {order}, and the next one is to get {next}")
            }
            Problem::NoCursor { listener } => write!(out, "is of listener `{listener}`, which has no cursor"),
            Problem::Settled { listener, position } => {
                write!(out, "is of a delivery that is settled: `{listener}`, position {position}")
            }
            Problem::ParkedAndOwed { listener, position } => {
                write!(out, "is parked and owed all the same: `{listener}`, position {position}")
            }
        }
    }
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let remedy = match self.remedy {
            Remedy::Mended => "mended",
            Remedy::Repair => "a repair mends it",
            Remedy::Restore => "not to be mended without a loss",
        };
        write!(out, "{} {} ({remedy})", self.entry, self.problem)
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} entries, {} bytes", self.contents.entries, self.contents.bytes)?;
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        if self.more_findings > 0 {
            writeln!(out, "and {} more", self.more_findings)?;
        }
        if self.is_whole() { write!(out, "the store is whole") } else { write!(out, "the store is not whole") }
    }
}
