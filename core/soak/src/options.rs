//! What the program was told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::store::Store;

/// How to call it.
const USAGE: &str =
    "aftercommit-soak [--minutes 10 | --seconds 600] [--store sled|redb] [--rate 400] [--seed 1] [--folder PATH]";

/// What the data is stored with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sled,
    Redb,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Sled => "sled",
            Kind::Redb => "redb",
        }
    }

    pub(crate) fn open(self, folder: &std::path::Path) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Kind::Sled => Arc::new(SledStore::open(folder)?),
            Kind::Redb => Arc::new(RedbStore::open(folder)?),
        })
    }
}

/// Which of the two this process is.
pub(crate) enum Role {
    Parent(Options),
    Shop(Life),
}

/// What the parent was told.
pub(crate) struct Options {
    /// How long the shop is kept busy; the last life, which works everything off, comes after it.
    pub(crate) time: Duration,
    pub(crate) store: Kind,
    /// How many orders a second are placed.
    pub(crate) rate: u64,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
}

/// What a child was told.
pub(crate) struct Life {
    pub(crate) store: Kind,
    pub(crate) folder: PathBuf,
    pub(crate) rate: u64,
    pub(crate) seed: u64,
    /// Nothing new, nothing fails: works everything off, and ends.
    pub(crate) last: bool,
}

impl Options {
    /// Reads arguments; an error is what to print.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Role, String> {
        let mut options = Options {
            time: Duration::from_secs(600),
            store: Kind::Sled,
            rate: 400,
            seed: 1,
            folder: std::env::temp_dir().join(format!("aftercommit-soak-{}", std::process::id())),
        };
        let (mut is_shop, mut last) = (false, false);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"));
            match &*name {
                "--minutes" => options.time = Duration::from_secs(60 * number(&value()?)?),
                "--seconds" => options.time = Duration::from_secs(number(&value()?)?),
                "--rate" => options.rate = number(&value()?)?.max(1),
                "--seed" => options.seed = number(&value()?)?,
                "--folder" => options.folder = PathBuf::from(value()?),
                "--store" => {
                    options.store = match &*value()? {
                        "sled" => Kind::Sled,
                        "redb" => Kind::Redb,
                        other => return Err(format!("no store is called {other}\n{USAGE}")),
                    }
                }
                "--shop" => is_shop = true,
                "--last" => last = true,
                other => return Err(format!("unknown argument {other}\n{USAGE}")),
            }
        }
        let Options { store, rate, seed, .. } = options;
        Ok(match is_shop {
            true => Role::Shop(Life { store, folder: options.folder, rate, seed, last }),
            false => Role::Parent(options),
        })
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number\n{USAGE}"))
}
