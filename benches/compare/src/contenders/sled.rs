//! sled 0.34 alone: one batch a group, and a real sync behind sled's flush, which has none.

use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::Groups;
use crate::work::Work;

pub(super) struct BareSled {
    db: ::sled::Db,
    data: File,
    events: u64,
}

impl BareSled {
    pub(super) fn new(path: &Path) -> Self {
        let config = ::sled::Config::new().path(path).cache_capacity(128 << 20).segment_size(8 << 20);
        let db = config.flush_every_ms(None).open().expect("sled opens");
        let data = OpenOptions::new().write(true).open(path.join("db")).expect("its file");
        Self { db, data, events: 0 }
    }
}

impl Groups for BareSled {
    fn commit(&mut self, group: &[Work]) {
        let mut batch = ::sled::Batch::default();
        for Work { key, row, event } in group {
            batch.insert([&b"r"[..], key].concat(), &row[..]);
            batch.insert([&b"l"[..], &self.events.to_be_bytes()].concat(), &event[..]);
            self.events += 1;
        }
        self.db.apply_batch(batch).expect("is applied");
        self.db.flush().expect("is flushed");
        self.data.sync_data().expect("is synced");
    }

    fn units(&mut self) -> u64 {
        let (rows, events) = (self.db.scan_prefix("r").count(), self.db.scan_prefix("l").count());
        assert_eq!(rows, events);
        rows as u64
    }
}
