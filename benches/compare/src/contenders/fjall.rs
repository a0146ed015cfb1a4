//! fjall 3 alone: one batch over two keyspaces a group, persisted with an fdatasync of its journal.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::Groups;
use crate::work::Work;

pub(super) struct BareFjall {
    db: Database,
    rows: Keyspace,
    outbox: Keyspace,
    events: u64,
}

impl BareFjall {
    pub(super) fn new(path: &Path) -> Self {
        let db = Database::builder(path.join("fjall")).cache_size(128 << 20).open().expect("fjall opens");
        let keyspace = |name| db.keyspace(name, KeyspaceCreateOptions::default).expect("a keyspace");
        let (rows, outbox) = (keyspace("rows"), keyspace("outbox"));
        Self { db, rows, outbox, events: 0 }
    }
}

impl Groups for BareFjall {
    fn commit(&mut self, group: &[Work]) {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for Work { key, row, event } in group {
            batch.insert(&self.rows, &key[..], &row[..]);
            batch.insert(&self.outbox, self.events.to_be_bytes(), &event[..]);
            self.events += 1;
        }
        batch.commit().expect("commits");
    }

    fn units(&mut self) -> u64 {
        let count = |keyspace: &Keyspace| keyspace.len().expect("is counted") as u64;
        assert_eq!(count(&self.rows), count(&self.outbox));
        count(&self.rows)
    }
}
