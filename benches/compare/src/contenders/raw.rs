//! The limit: one write and one fdatasync a group, into a preallocated file. Nothing can be read back by key.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::Groups;
use crate::work::Work;

pub(super) struct RawFile {
    file: File,
    at: usize,
    buffer: Vec<u8>,
    units: u64,
}

/// As long as our journal: making a longer one first would slow down what is measured after it.
const BYTES: usize = 2 << 20;

impl RawFile {
    pub(super) fn new(path: &Path) -> Self {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).open(path.join("raw")).expect("a file");
        // Page by page, which makes later writes to single pages cheaper.
        (0..BYTES / 4096).for_each(|_| file.write_all(&[0; 4096]).expect("is written"));
        file.sync_all().expect("is synced");
        Self { file, at: 0, buffer: Vec::new(), units: 0 }
    }
}

impl Groups for RawFile {
    fn commit(&mut self, group: &[Work]) {
        self.buffer.clear();
        for Work { key, row, event } in group {
            self.buffer.extend_from_slice(key);
            self.buffer.extend_from_slice(row);
            self.buffer.extend_from_slice(event);
        }
        self.buffer.resize(self.buffer.len().next_multiple_of(4096), 0);
        if self.at + self.buffer.len() > BYTES {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at as u64)).expect("seeks");
        self.file.write_all(&self.buffer).and_then(|()| self.file.sync_data()).expect("is written");
        self.at += self.buffer.len();
        self.units += group.len() as u64;
    }

    fn units(&mut self) -> u64 {
        self.units
    }
}
