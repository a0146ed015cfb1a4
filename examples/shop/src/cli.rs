//! The command line: what can be asked, and what is taken when it is not.

use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::data::StoreKind;
use crate::generate::Month;
use crate::log::Source;
use crate::progress::Progress;
use crate::score::{Scoring, Weights};

/// The sample shop of aftercommit.
#[derive(Debug, Parser)]
#[command(name = "shop", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the shop can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work a shop log off, unit of work by unit of work, and print each day's ranking.
    Replay(ReplayArgs),
    /// Print what was sold of each item.
    Items(ItemsArgs),
    /// Write a made-up, seeded log of a shop.
    Generate(GenerateArgs),
}

/// Work a shop log off, unit of work by unit of work, and print each day's ranking.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The log: CSV with the columns ts_ms,user,event,item,qty,price,order, plain or gzip; a made-up month if absent.
    pub file: Option<PathBuf>,
    /// Where the shop keeps its data.
    #[arg(long, value_name = "DIR", default_value = "shop-data")]
    pub data: PathBuf,
    /// What the data is stored with.
    #[arg(long, value_enum, default_value_t)]
    pub store: StoreKind,
    /// How many items to print per day.
    #[arg(long, value_name = "ITEMS", default_value = "20")]
    pub top: NonZeroUsize,
    /// How to print the rankings.
    #[arg(long, value_enum, default_value_t)]
    pub format: RankingFormat,
    /// What each event weighs, at most six decimals; a name left out keeps its default, a cancel weighs nothing.
    #[arg(long, value_name = "NAME=WEIGHT,..", default_value_t)]
    pub weights: Weights,
    /// Multiply a purchase's weight by ln(1 + price * qty).
    #[arg(long)]
    pub purchase_value: bool,
    /// Leave out units with a bad line, count them and go on.
    #[arg(long)]
    pub skip_bad: bool,
    /// How many units are worked off at once.
    #[arg(long, value_name = "UNITS", default_value = "64")]
    pub in_flight: NonZeroUsize,
}

impl ReplayArgs {
    /// The log that was asked for.
    pub fn source(&self) -> Source {
        match &self.file {
            Some(path) => Source::File(path.clone()),
            None => Source::Generated(Month::default()),
        }
    }

    /// The scoring that was asked for.
    pub fn scoring(&self) -> Scoring {
        Scoring { weights: self.weights, purchase_value: self.purchase_value }
    }
}

/// Print what was sold of each item.
#[derive(Clone, Debug, Args)]
pub struct ItemsArgs {
    /// Where the shop keeps its data.
    #[arg(long, value_name = "DIR", default_value = "shop-data")]
    pub data: PathBuf,
    /// What the data is stored with.
    #[arg(long, value_enum, default_value_t)]
    pub store: StoreKind,
    /// How to print the items.
    #[arg(long, value_enum, default_value_t)]
    pub format: ItemsFormat,
}

/// How rankings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum RankingFormat {
    /// One JSON object a line and day.
    #[default]
    Ndjson,
}

/// How the sales of items are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum ItemsFormat {
    /// One line an item, with a header.
    #[default]
    Csv,
}

/// Write a made-up, seeded log of a shop.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Another seed is another log.
    #[arg(long, default_value_t = Month::default().seed)]
    pub seed: u64,
    /// How many days it covers, from 2024-01-01 on.
    #[arg(long, default_value_t = Month::default().days, value_parser = days)]
    pub days: NonZeroU32,
    /// How many lines it has behind the header.
    #[arg(long, default_value_t = Month::default().lines)]
    pub lines: NonZeroU64,
    /// Where to write it, compressed if the name ends in .gz; standard output if absent.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn days(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|days: &NonZeroU32| days.get() <= Month::MOST_DAYS)
        .ok_or_else(|| format!("expected 1 to {} days", Month::MOST_DAYS))
}

impl GenerateArgs {
    /// Writes the log; what was done is told on standard error.
    ///
    /// # Errors
    /// If the log cannot be written, and where to.
    pub fn run(&self) -> Result<(), WriteError> {
        let month = Month { seed: self.seed, days: self.days, lines: self.lines };
        let progress = Progress::start(self.lines.get().saturating_add(1));
        let advance = |lines| progress.advance(lines);
        let (name, written) = match &self.out {
            Some(path) => (path.display().to_string(), month.write_file(path, advance)),
            None => {
                let mut out = io::stdout().lock();
                let written = month.write(&mut out, advance).and_then(|()| out.flush());
                ("standard output".to_owned(), written)
            }
        };
        written.map_err(|cause| WriteError { name, cause })?;
        progress.finish(&month.to_string());
        Ok(())
    }
}

/// An output that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {name}")]
pub struct WriteError {
    name: String,
    #[source]
    cause: io::Error,
}

impl WriteError {
    /// Whether the reader of standard output went away, as `head` does: no fault of anybody.
    pub fn is_reader_gone(&self) -> bool {
        self.cause.kind() == io::ErrorKind::BrokenPipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Replay {
        #[command(flatten)]
        args: ReplayArgs,
    }

    fn replay(args: &[&str]) -> Result<ReplayArgs, String> {
        Replay::try_parse_from(std::iter::once(&"replay").chain(args))
            .map(|replay| replay.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_replay_without_arguments_takes_the_defaults() {
        let args = replay(&[]).unwrap();
        assert_eq!(args.source(), Source::Generated(Month::default()));
        assert_eq!(args.scoring(), Scoring::default());
        assert_eq!((args.data, args.store), (PathBuf::from("shop-data"), StoreKind::Sled));
        assert_eq!((args.top.get(), args.in_flight.get(), args.skip_bad), (20, 64, false));
    }

    #[test]
    fn a_replay_takes_what_is_said() {
        let args = replay(&["log.csv", "--data", "d", "--top", "3", "--format", "ndjson", "--purchase-value"]).unwrap();
        assert_eq!(args.source(), Source::File(PathBuf::from("log.csv")));
        assert!(args.scoring().purchase_value);
        assert_eq!(replay(&["--store", "redb"]).unwrap().store, StoreKind::Redb);
        let args = replay(&["--weights", "view=1,purchase=2.5"]).unwrap();
        assert_eq!(args.scoring().to_string(), "view=1,like=0.2,addtocart=0.2,purchase=2.5");
    }

    #[test]
    fn mistakes_are_answered_with_the_legal_form() {
        let check = |args: &[&str], expected: &str| {
            let error = replay(args).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&["--weights", "cancel=1"], "unknown weight `cancel`; expected one of: view, like, addtocart, purchase");
        check(&["--weights", "view=x"], "weight `view` cannot be `x`: not a decimal number");
        check(&["--format", "xml"], "ndjson");
        check(&["--store", "paper"], "sled, redb");
        check(&["--top", "0"], "--top");
        check(&["--in-flight", "0"], "--in-flight");
    }
}
