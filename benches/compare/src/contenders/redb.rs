//! redb 4 alone: one durable transaction a group, which is one fsync.

use std::path::Path;

use ::redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

use crate::Groups;
use crate::work::Work;

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");

pub(super) struct BareRedb {
    db: Database,
    events: u64,
}

impl BareRedb {
    pub(super) fn new(path: &Path) -> Self {
        let db = Database::builder().set_cache_size(128 << 20).create(path.join("redb")).expect("redb opens");
        let mut made = Self { db, events: 0 };
        // Makes the tables.
        made.commit(&[]);
        made
    }
}

impl Groups for BareRedb {
    fn commit(&mut self, group: &[Work]) {
        let change = self.db.begin_write().expect("begins");
        {
            let mut rows = change.open_table(ROWS).expect("a table");
            let mut outbox = change.open_table(OUTBOX).expect("a table");
            for Work { key, row, event } in group {
                rows.insert(&key[..], &row[..]).expect("is written");
                outbox.insert(self.events, &event[..]).expect("is written");
                self.events += 1;
            }
        }
        // Durable by default.
        change.commit().expect("commits");
    }

    fn units(&mut self) -> u64 {
        let reading = self.db.begin_read().expect("begins");
        let rows = reading.open_table(ROWS).expect("a table").len().expect("is counted");
        assert_eq!(rows, reading.open_table(OUTBOX).expect("a table").len().expect("is counted"));
        rows
    }
}
