//! The bytes of one file, as pages that several images share.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::Failed;
use crate::trace::Bytes;

/// What the page cache writes back in one piece.
pub(crate) const PAGE: u64 = 4096;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;

/// One page.
pub(crate) type Page = [u8; PAGE as usize];

/// The bytes of one file. Pages that are absent are zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pages: BTreeMap<u64, Arc<Page>>,
    size: u64,
}

/// A change of a file.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write {
        offset: u64,
        bytes: Bytes,
    },
    Truncate {
        length: u64,
    },
    /// The file is at least this long.
    Extend {
        length: u64,
    },
}

impl Change {
    /// How long the file is after this change, if it was `size` before.
    pub(crate) fn size_after(&self, size: u64) -> u64 {
        match self {
            Change::Write { offset, bytes } => size.max(offset + bytes.length()),
            Change::Truncate { length } => *length,
            Change::Extend { length } => size.max(*length),
        }
    }

    /// The numbers of the pages it touches in a file that was never longer than `longest`.
    pub(crate) fn pages(&self, longest: u64) -> std::ops::Range<u64> {
        match self {
            Change::Write { offset, bytes } => offset / PAGE..(offset + bytes.length()).div_ceil(PAGE),
            Change::Truncate { length } => length / PAGE..longest.div_ceil(PAGE).max(length / PAGE),
            Change::Extend { .. } => 0..0,
        }
    }

    /// How many bytes it writes, without zeros at the end.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Change::Write { bytes, .. } => bytes.stored(),
            Change::Truncate { .. } | Change::Extend { .. } => 0,
        }
    }

    /// Changes page `number`, as far as `sectors` of the file (numbered from its start) are reached.
    pub(crate) fn apply(&self, number: u64, page: &mut Page, sectors: &dyn Fn(u64) -> bool) {
        let start = number * PAGE;
        for within in (0..PAGE).step_by(SECTOR as usize) {
            let (from, to) = (start + within, start + within + SECTOR);
            if !sectors(from / SECTOR) {
                continue;
            }
            match self {
                Change::Write { offset, bytes } => {
                    let (first, last) = (from.max(*offset), to.min(offset + bytes.length()));
                    if first < last {
                        let target = &mut page[(first - start) as usize..(last - start) as usize];
                        let stored = bytes.stored_from(first - offset);
                        let stored = &stored[..stored.len().min(target.len())];
                        target[..stored.len()].copy_from_slice(stored);
                        target[stored.len()..].fill(0);
                    }
                }
                Change::Truncate { length } if *length < to => {
                    page[(from.max(*length) - start) as usize..(to - start) as usize].fill(0);
                }
                Change::Truncate { .. } | Change::Extend { .. } => {}
            }
        }
    }
}

impl Image {
    /// How long the file is.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The page `number`.
    pub(crate) fn page(&self, number: u64) -> Page {
        self.pages.get(&number).map_or([0; PAGE as usize], |page| **page)
    }

    /// Puts `page` in the place `number`.
    pub(crate) fn put(&mut self, number: u64, page: Page) {
        if page == [0; PAGE as usize] {
            self.pages.remove(&number);
        } else {
            self.pages.insert(number, Arc::new(page));
        }
    }

    /// Cuts the file off or lengthens it; what comes to light is zeros.
    pub(crate) fn resize(&mut self, size: u64) {
        self.size = size;
        drop(self.pages.split_off(&size.div_ceil(PAGE)));
        if !size.is_multiple_of(PAGE) && self.pages.contains_key(&(size / PAGE)) {
            let mut page = self.page(size / PAGE);
            page[(size % PAGE) as usize..].fill(0);
            self.put(size / PAGE, page);
        }
    }

    /// Carries out all of `change`.
    pub(crate) fn change(&mut self, change: &Change) {
        if let Change::Truncate { length } = change {
            return self.resize(*length);
        }
        for number in change.pages(self.size) {
            let mut page = self.page(number);
            change.apply(number, &mut page, &|_| true);
            self.put(number, page);
        }
        self.size = change.size_after(self.size);
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failed> {
        let bytes = fs::read(path).map_err(Failed::io("read a recorded file", path))?;
        let mut image = Self { pages: BTreeMap::new(), size: bytes.len() as u64 };
        for (number, part) in bytes.chunks(PAGE as usize).enumerate() {
            let mut page = [0; PAGE as usize];
            page[..part.len()].copy_from_slice(part);
            image.put(number as u64, page);
        }
        Ok(image)
    }

    /// Writes the file, with holes where there are zeros.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failed> {
        let failed = || Failed::io("write a rebuilt file", path);
        let file = File::create(path).map_err(failed())?;
        file.set_len(self.size).map_err(failed())?;
        let mut run = Vec::new();
        let mut start = 0;
        for (number, page) in &self.pages {
            let at = number * PAGE;
            if at >= self.size {
                break;
            }
            if at != start + run.len() as u64 || run.len() >= 1 << 20 {
                file.write_all_at(&run, start).map_err(failed())?;
                run.clear();
                start = at;
            }
            run.extend_from_slice(&page[..(self.size - at).min(PAGE) as usize]);
        }
        file.write_all_at(&run, start).map_err(failed())
    }

    /// Whether both files hold the same bytes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.size == other.size && self.pages == other.pages
    }
}
