//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use aftercommit::publication::{Mark, Status};
use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

/// Looks after a store of aftercommit while its application does not run.
///
/// Exit codes: 0 done, 1 failed, 2 not understood, 3 another process has the store open, 4 the store is not whole,
/// 5 the store holds nothing of what was named.
#[derive(Debug, Parser)]
#[command(name = "aftercommit", version)]
pub(crate) struct Args {
    /// How to answer.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: Format,
    /// How many seconds to wait for a store that another process has open.
    #[arg(long, default_value_t = 1, global = true)]
    pub(crate) wait: u64,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Tables, for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sled,
    Redb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says what the store holds: tables, the log, durable listeners. Or tells one event's whole story.
    Show {
        /// The store's folder.
        store: PathBuf,
        /// The event's id.
        event: Option<Uuid>,
    },
    /// Lists publications, each an event owed to a durable listener: the oldest first, without what the events say.
    ///
    /// Nobody runs: what a crash cut off is waiting.
    List {
        /// The store's folder.
        store: PathBuf,
        /// Only those in this state: waiting, redelivering, dead, given-up, done. Given several times, in any of them; by default
        /// all but those that are done.
        #[arg(long = "state")]
        states: Vec<Status>,
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value = "100")]
        limit: std::num::NonZeroUsize,
        /// Those behind this one, as the page before named it: `position:listener`.
        #[arg(long)]
        after: Option<Mark>,
    },
    /// Counts publications by listener and state: reads all that the log holds.
    Stats {
        /// The store's folder.
        store: PathBuf,
    },
    /// Asks for dead letters to be called again. Nobody is called now: they are once their application runs.
    Replay {
        /// The store's folder.
        store: PathBuf,
        #[command(flatten)]
        which: WhichDead,
    },
    /// Removes dead letters for good, at once. A note of it stays.
    Discard {
        /// The store's folder.
        store: PathBuf,
        #[command(flatten)]
        which: WhichDead,
        /// Why; kept with the note.
        #[arg(long)]
        reason: String,
    },
    /// Has a durable listener not be called from the next start of its application on, until it is resumed.
    Pause {
        /// The store's folder.
        store: PathBuf,
        /// The listener's id.
        listener: String,
        /// Why; its application is told at each start.
        #[arg(long)]
        reason: String,
    },
    /// Takes a pause back: the listener is called from the next start of its application on.
    Resume {
        /// The store's folder.
        store: PathBuf,
        /// The listener's id.
        listener: String,
    },
    /// Lists parked events, without what they say.
    Parked {
        /// The store's folder.
        store: PathBuf,
        /// Only those of this listener.
        #[arg(long)]
        listener: Option<String>,
    },
    /// Reads everything and says what is wrong.
    Verify {
        /// The store's folder.
        store: PathBuf,
        /// Mends what can be mended without a loss.
        #[arg(long)]
        repair: bool,
    },
    /// Copies a store.
    Backup {
        /// The store's folder.
        store: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The copy's engine; by default the store's.
        #[arg(long = "store", value_enum)]
        engine: Option<Engine>,
    },
    /// Makes a store of a backup, and verifies it. The backup stays.
    Restore {
        /// The backup's folder.
        backup: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The store's engine; by default the backup's.
        #[arg(long = "store", value_enum)]
        engine: Option<Engine>,
    },
    /// Copies a store, compares both, and marks the old one as moved, so that it is not opened unasked.
    Move {
        /// The store's folder.
        store: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The new engine; by default the old one.
        #[arg(long = "store", value_enum)]
        engine: Option<Engine>,
    },
    /// Lets a store that moved away be opened again. What was committed since is where it moved to, and not in it.
    TakeBack {
        /// The old store's folder.
        store: PathBuf,
    },
    /// Writes everything as a stream that depends on no engine.
    Export {
        /// The store's folder.
        store: PathBuf,
        /// A file that is not there yet; `-` for the standard output, with the answer on the standard error.
        file: PathBuf,
    },
    /// Makes a store of such a stream.
    Import {
        /// The file; `-` for the standard input.
        file: PathBuf,
        /// A folder that is not there yet, or is empty.
        into: PathBuf,
        /// The store's engine.
        #[arg(long = "store", value_enum, default_value = "sled")]
        engine: Engine,
    },
    /// Looks into the archive of what a log has given up; its application may run.
    #[command(subcommand)]
    Archive(Archive),
    /// Erases events: bodies, keys and parked copies. Tombstones with the ids stay.
    Erase {
        /// The store's folder.
        store: PathBuf,
        /// The events' ids.
        #[arg(required = true)]
        events: Vec<uuid::Uuid>,
    },
}

/// Which publications.
#[derive(Debug, Clone, Default, Arguments)]
pub(crate) struct Which {
    /// Only those of this listener.
    #[arg(long)]
    pub(crate) listener: Option<String>,
    /// Only those of the event at this log position.
    #[arg(long)]
    pub(crate) position: Option<u64>,
    /// Only those of the event with this id.
    #[arg(long)]
    pub(crate) event: Option<Uuid>,
    /// Only those of events stored under this name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Only those of events with this key: a text, or `0x` and hexadecimal digits, as it is listed.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Only those of events published longer ago than this: `90s`, `15m`, `2h`, `3d`.
    #[arg(long, value_parser = span)]
    pub(crate) older_than: Option<Duration>,
}

/// Which dead letters: what is said, which must be something.
#[derive(Debug, Clone, Arguments)]
#[group(skip)]
pub(crate) struct WhichDead {
    #[command(flatten)]
    pub(crate) which: Which,
    /// All of them.
    #[arg(long, required_unless_present_any = ["listener", "position", "event", "name", "key", "older_than"])]
    pub(crate) all: bool,
}

/// A span of time as people write it.
fn span(text: &str) -> Result<Duration, String> {
    let parsed = text.char_indices().next_back().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        text[..at].parse::<u64>().ok()?.checked_mul(seconds)
    });
    parsed
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`{text}` is no span of time: say `90s`, `15m`, `2h` or `3d`"))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Archive {
    /// Lists its segments.
    List {
        /// The archive's folder.
        archive: PathBuf,
    },
    /// Lists events, without what they say.
    Show {
        #[command(flatten)]
        which: InArchive,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Writes events as lines of JSON.
    Export {
        #[command(flatten)]
        which: InArchive,
        /// A file that is not there yet; `-` for the standard output, with the answer on the standard error.
        file: PathBuf,
    },
    /// Reads everything and says what is wrong.
    Verify {
        /// The archive's folder.
        archive: PathBuf,
    },
}

/// Which events of an archive.
#[derive(Debug, Arguments)]
pub(crate) struct InArchive {
    /// The archive's folder.
    pub(crate) archive: PathBuf,
    /// From this log position on.
    #[arg(long, default_value_t = 1)]
    pub(crate) from: u64,
    /// Only those stored under this name.
    #[arg(long)]
    pub(crate) event: Option<String>,
}
