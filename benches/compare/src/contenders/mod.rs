//! Those who make units of work durable. Each syncs something for every group before it is acknowledged.

mod bus;
mod fjall;
mod postgres;
mod raw;
mod redb;
mod sled;
mod sqlite;

pub use bus::{Engine, ROWS, Written, open_store, text};

use crate::{Contender, Opened};

/// Everybody, the limit first.
pub const ALL: [Contender; 12] = [
    Contender { name: "raw file, preallocated", open: |path, _| Ok(Opened::Groups(Box::new(raw::RawFile::new(path)))) },
    Contender {
        name: "sled, one batch, flush, fdatasync",
        open: |path, _| Ok(Opened::Groups(Box::new(sled::BareSled::new(path)))),
    },
    Contender {
        name: "redb, one transaction",
        open: |path, _| Ok(Opened::Groups(Box::new(redb::BareRedb::new(path)))),
    },
    Contender {
        name: "fjall, one batch, SyncData",
        open: |path, _| Ok(Opened::Groups(Box::new(fjall::BareFjall::new(path)))),
    },
    Contender {
        name: "SQLite, WAL, synchronous=FULL",
        open: |path, _| Ok(Opened::Groups(Box::new(sqlite::Sqlite::new(path)))),
    },
    Contender { name: "PostgreSQL, row and outbox in one statement", open: postgres::open },
    Contender { name: "aftercommit on sled", open: bus::sled },
    Contender { name: "aftercommit on redb", open: bus::redb },
    Contender { name: "aftercommit on sled, listener settled in batches beside", open: bus::sled_batches },
    Contender { name: "aftercommit on redb, listener settled in batches beside", open: bus::redb_batches },
    Contender { name: "aftercommit on sled, listener with a tx beside", open: bus::sled_tx },
    Contender { name: "aftercommit on redb, listener with a tx beside", open: bus::redb_tx },
];
