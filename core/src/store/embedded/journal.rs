//! The journal: a file of fixed size where a batch is made durable with one write and one fdatasync, before the engine has it.
//!
//! It holds two areas, used in turn. A record is one batch; it begins on a page of its own and never crosses an area's end:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `acj1` |
//! | 4 | CRC-32 of everything behind it |
//! | 4 | length of the entries |
//! | 4 | 0 |
//! | 8 | number of the record, one more than that of the record before |
//! | 8 | the highest number that was known to be on the disk when this record was made |
//! | rest | entries: length of the key (4), length of the value (4; all ones: the key is removed), key, value |
//!
//! # What is found at opening
//! The engine says up to which number it has everything. What lies above it is taken in order, up to the first number that is
//! missing. If a record behind that gap says that the missing one was on the disk, something that was acknowledged is damaged or
//! lost, and is named. If none does, the gap is the torn tail of what was never acknowledged as synced, and so is all behind it.
//! The record that was synced last has no later one to vouch for it: damage to it alone cannot be told from a torn tail.
//!
//! When all of it is in the engine, an empty journal takes the place of this one, so that nothing from behind a gap is ever taken
//! for a continuation.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::engine::Batch;
use crate::error::StoreError;

/// A record begins at a multiple of this, so that no write touches a page that holds another record.
const PAGE: usize = 4096;
/// How long each of the two areas is.
pub(super) const AREA: usize = 4 << 20;
const MAGIC: [u8; 4] = *b"acj1";
const HEAD: usize = 32;
const REMOVED: u32 = u32::MAX;

/// An open journal. After an error it must not be used any more.
#[derive(Debug)]
pub(super) struct Journal {
    file: Arc<File>,
    /// The area that is written: 0 or 1.
    area: usize,
    /// Where in it the next record will begin.
    end: usize,
    /// Records that were not written yet; they belong right before `end`.
    buffer: Vec<u8>,
    /// The number of the last record.
    last: u64,
    /// The last record that was written.
    written: u64,
    /// The last record known to be on the disk.
    synced: u64,
}

/// What was written and is not on the disk yet: to be synced while further records are added.
#[derive(Debug)]
pub(super) struct Unsynced {
    file: Arc<File>,
    upto: u64,
}

impl Unsynced {
    /// Syncs, and answers up to which record everything is on the disk now.
    pub(super) fn sync(&self) -> Result<u64, StoreError> {
        self.file.sync_data().map_err(|cause| StoreError::backend("sync the store's journal", cause))?;
        Ok(self.upto)
    }
}

/// A batch that the engine may lack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) batch: Batch,
}

impl Journal {
    /// Makes an empty journal that goes on behind the record `last`, on the disk but for the folder it stands in.
    pub(super) fn create(path: &Path, last: u64) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| StoreError::backend("make the store's journal", cause);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path).map_err(failed)?;
        // Page by page: what is written at once the system keeps and looks through at once, at every later write to a part of it.
        (0..2 * AREA / PAGE).try_for_each(|_| file.write_all(&[0; PAGE])).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(Self { file: Arc::new(file), area: 0, end: 0, buffer: Vec::new(), last, written: last, synced: last })
    }

    /// Puts an empty journal that goes on behind the record `last` in the place of the one at `path`; the engine must have
    /// everything that was there, synced.
    pub(super) fn replace(path: &Path, last: u64) -> Result<Self, StoreError> {
        let new = path.with_extension("new");
        let journal = Self::create(&new, last)?;
        std::fs::rename(&new, path)
            .and_then(|()| sync_folder_of(path))
            .map_err(|cause| StoreError::backend("move the store's new journal into place", cause))?;
        Ok(journal)
    }

    /// The number of the last record.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether a batch goes into the rest of this area.
    pub(super) fn has_room_for(&self, batch: &Batch) -> bool {
        self.end + size(batch) <= AREA
    }

    /// Adds a record for `batch`, which must have room, without writing it yet.
    pub(super) fn add(&mut self, batch: &Batch) {
        self.last += 1;
        let begin = self.buffer.len();
        encode(&mut self.buffer, self.last, self.synced, batch);
        self.end += self.buffer.len() - begin;
    }

    /// Gives a number away for a batch that the engine takes, and syncs, without a record.
    pub(super) fn pass(&mut self) {
        self.last += 1;
    }

    /// Writes what was added and goes on at the beginning of the other area; the engine must have everything that is there.
    pub(super) fn turn(&mut self) -> Result<(), StoreError> {
        self.write()?;
        self.area = 1 - self.area;
        self.end = 0;
        Ok(())
    }

    /// Hands everything that was added to the operating system.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            let at = self.area * AREA + self.end - self.buffer.len();
            let buffer = std::mem::take(&mut self.buffer);
            self.put(at, &buffer).map_err(|cause| StoreError::backend("write to the store's journal", cause))?;
            self.buffer = buffer;
            self.buffer.clear();
        }
        self.written = self.last;
        Ok(())
    }

    /// Writes what was added, and answers what of it is to be synced.
    pub(super) fn unsynced(&mut self) -> Result<Option<Unsynced>, StoreError> {
        self.write()?;
        Ok((self.written > self.synced).then(|| Unsynced { file: self.file.clone(), upto: self.written }))
    }

    /// Takes note that everything up to the record `upto` is on the disk.
    pub(super) fn synced(&mut self, upto: u64) {
        self.synced = self.synced.max(upto);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(bytes)
    }
}

/// Reads the journal at `path`: what it holds behind the record `absorbed`, in order.
pub(super) fn read(path: &Path, absorbed: u64) -> Result<Vec<Record>, StoreError> {
    let bytes = std::fs::read(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => damaged("it is missing".to_owned()),
        _ => StoreError::backend("read the store's journal", cause),
    })?;
    if bytes.len() != 2 * AREA {
        return Err(damaged(format!("it is {} bytes long instead of {}", bytes.len(), 2 * AREA)));
    }
    decode(&bytes, absorbed)
}

#[cfg(unix)]
fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(not(unix))]
fn sync_folder_of(_path: &Path) -> io::Result<()> {
    // A folder cannot be opened for syncing here.
    Ok(())
}

/// How many bytes the record of a batch takes.
pub(super) fn size(batch: &Batch) -> usize {
    let entry = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| 8 + key.len() + value.as_ref().map_or(0, Vec::len);
    (HEAD + batch.iter().map(entry).sum::<usize>()).next_multiple_of(PAGE)
}

fn encode(out: &mut Vec<u8>, number: u64, synced: u64, batch: &Batch) {
    let begin = out.len();
    out.extend_from_slice(&MAGIC);
    // The checksum and the length, once they are known.
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&synced.to_be_bytes());
    for (key, value) in batch {
        out.extend_from_slice(&(key.len() as u32).to_be_bytes());
        out.extend_from_slice(&value.as_ref().map_or(REMOVED, |value| value.len() as u32).to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let record = &mut out[begin..];
    let len = record.len() - HEAD;
    record[8..12].copy_from_slice(&(len as u32).to_be_bytes());
    let sum = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&sum.to_be_bytes());
    out.resize(begin + (HEAD + len).next_multiple_of(PAGE), 0);
}

/// A record whose checksum is right.
struct Whole<'a> {
    number: u64,
    synced: u64,
    entries: &'a [u8],
}

impl<'a> Whole<'a> {
    /// The record at the beginning of `area`, if there is one.
    fn at(area: &'a [u8]) -> Option<Self> {
        let (head, rest) = area.split_first_chunk::<HEAD>()?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let entries = rest.get(..word(8) as usize)?;
        let whole = head[..4] == MAGIC && crc32fast::hash(&area[8..HEAD + entries.len()]) == word(4);
        whole.then(|| Self { number: long(16), synced: long(24), entries })
    }

    fn batch(&self) -> Option<Batch> {
        let mut batch = Batch::new();
        let mut rest = self.entries;
        while !rest.is_empty() {
            let (key_len, more) = rest.split_first_chunk()?;
            let (value_len, more) = more.split_first_chunk()?;
            let (key, more) = more.split_at_checked(u32::from_be_bytes(*key_len) as usize)?;
            let value_len = u32::from_be_bytes(*value_len);
            let (value, more) = more.split_at_checked(if value_len == REMOVED { 0 } else { value_len as usize })?;
            batch.insert(key.to_vec(), (value_len != REMOVED).then(|| value.to_vec()));
            rest = more;
        }
        Some(batch)
    }
}

/// What the bytes of a journal hold behind the record `absorbed`.
fn decode(bytes: &[u8], absorbed: u64) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    for area in bytes.chunks(AREA) {
        let mut at = 0;
        while at < area.len() {
            match Whole::at(&area[at..]) {
                Some(record) => {
                    at += (HEAD + record.entries.len()).next_multiple_of(PAGE);
                    if record.number > absorbed {
                        found.push(record);
                    }
                }
                None => at += PAGE,
            }
        }
    }
    found.sort_by_key(|record| record.number);
    let mut next = absorbed + 1;
    let mut records = Vec::new();
    for record in found {
        if record.number == next {
            let batch = record.batch().ok_or_else(|| damaged(format!("record {next} ends early")))?;
            records.push(Record { number: next, batch });
            next += 1;
        } else if record.synced >= next {
            return Err(damaged(format!(
                "record {next} is missing or damaged, although record {} follows",
                record.number
            )));
        }
    }
    Ok(records)
}

fn damaged(reason: String) -> StoreError {
    StoreError::Damaged { what: "the store's journal".to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(number: u8) -> Batch {
        Batch::from([
            (vec![b'k', number], Some(vec![number; 40])),
            (vec![b'x'], number.is_multiple_of(2).then(Vec::new)),
        ])
    }

    /// An empty journal, and the folder it lies in.
    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::create(&path(&folder), 0).expect("is made");
        assert_eq!(read(&path(&folder), 0).expect("reads"), []);
        (folder, journal)
    }

    fn path(folder: &tempfile::TempDir) -> std::path::PathBuf {
        folder.path().join("journal")
    }

    fn sync(journal: &mut Journal) {
        if let Some(unsynced) = journal.unsynced().expect("writes") {
            journal.synced(unsynced.sync().expect("syncs"));
        }
    }

    /// What a journal holds into which so many records were synced one by one.
    fn synced_one_by_one(count: u8) -> Vec<u8> {
        let (folder, mut journal) = journal();
        for number in 1..=count {
            journal.add(&batch(number));
            sync(&mut journal);
        }
        std::fs::read(path(&folder)).expect("reads")
    }

    fn numbers(bytes: &[u8], absorbed: u64) -> Vec<u64> {
        let records = decode(bytes, absorbed).expect("nothing is damaged");
        for record in &records {
            assert_eq!(record.batch, batch(record.number as u8));
        }
        records.into_iter().map(|record| record.number).collect()
    }

    #[test]
    fn a_last_record_torn_at_any_byte_is_left_out_and_those_before_it_are_found() {
        let whole = synced_one_by_one(3);
        assert_eq!(numbers(&whole, 0), [1, 2, 3]);
        let (last, end) = (2 * PAGE, 2 * PAGE + HEAD + 8 + 2 + 40 + 8 + 1);
        for cut in last..end {
            for rest in [0, 0x5a] {
                let mut torn = whole.clone();
                torn[cut..end].fill(rest);
                let all = torn[..end] == whole[..end];
                assert_eq!(numbers(&torn, 0).len(), if all { 3 } else { 2 }, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_a_record_that_later_ones_vouch_for_is_named() {
        let whole = synced_one_by_one(3);
        for record in 0..2 {
            for bit in 0..(HEAD + 8 + 2 + 40 + 8 + 1) * 8 {
                let mut flipped = whole.clone();
                flipped[record * PAGE + bit / 8] ^= 1 << (bit % 8);
                let found = decode(&flipped, 0);
                assert!(matches!(found, Err(StoreError::Damaged { .. })), "record {record}, bit {bit}: {found:?}");
            }
        }
    }

    #[test]
    fn what_the_engine_has_is_left_out_whole_or_not() {
        let mut bytes = synced_one_by_one(5);
        assert_eq!(numbers(&bytes, 3), [4, 5]);
        bytes[PAGE..2 * PAGE].fill(0x5a);
        assert_eq!(numbers(&bytes, 2), [3, 4, 5]);
        assert_eq!(numbers(&bytes, 5), [] as [u64; 0]);
    }

    #[test]
    fn an_engine_that_fell_behind_what_the_journal_still_holds_is_named() {
        let (folder, mut journal) = journal();
        for number in 1..=9 {
            // Each turn stands for an engine that was synced with everything before.
            if number % 3 == 0 {
                journal.turn().expect("writes");
            }
            journal.add(&batch(number));
            sync(&mut journal);
        }
        let bytes = std::fs::read(path(&folder)).expect("reads");
        assert_eq!(numbers(&bytes, 8), [9]);
        assert_eq!(numbers(&bytes, 5), [6, 7, 8, 9]);
        assert!(matches!(decode(&bytes, 1), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_gap_in_what_was_never_synced_ends_it_and_what_lies_behind_never_comes_back() {
        let (folder, mut journal) = journal();
        for number in 1..=3 {
            journal.add(&batch(number));
            journal.write().expect("writes");
        }
        drop(journal);
        let mut bytes = std::fs::read(path(&folder)).expect("reads");
        bytes[PAGE..2 * PAGE].fill(0);
        std::fs::write(path(&folder), &bytes).expect("writes");
        assert_eq!(read(&path(&folder), 0).expect("reads").len(), 1);
        let mut journal = Journal::replace(&path(&folder), 1).expect("is replaced");
        // As long as the lost one was, so that the one behind it would follow.
        journal.add(&batch(2));
        sync(&mut journal);
        assert_eq!(numbers(&std::fs::read(path(&folder)).expect("reads"), 1), [2]);
    }

    #[test]
    fn a_journal_that_is_gone_or_of_another_length_is_named() {
        let (folder, journal) = journal();
        drop(journal);
        std::fs::write(path(&folder), vec![0; AREA]).expect("writes");
        assert!(matches!(read(&path(&folder), 0), Err(StoreError::Damaged { .. })));
        std::fs::remove_file(path(&folder)).expect("removes");
        assert!(matches!(read(&path(&folder), 0), Err(StoreError::Damaged { .. })));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Add,
        Write,
        Sync,
        /// The other area follows; the engine is synced with everything before the turn before.
        Turn,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Pages that were not synced may be on the disk or not, each for itself.
        #[test]
        fn whatever_pages_a_power_cut_keeps_a_prefix_is_found_with_everything_that_was_synced(
            steps in prop::collection::vec(
                prop_oneof![4 => Just(Step::Add), 2 => Just(Step::Write), 2 => Just(Step::Sync), 1 => Just(Step::Turn)], 1..30,
            ),
            kept in prop::collection::vec(any::<bool>(), 40),
        ) {
            let (folder, mut journal) = journal();
            let file = || std::fs::read(path(&folder)).expect("reads");
            let mut disk = file();
            let (mut absorbed, mut frozen, mut synced) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Add => journal.add(&batch(journal.last() as u8 + 1)),
                    Step::Write => journal.write().expect("writes"),
                    Step::Sync => {
                        sync(&mut journal);
                        (disk, synced) = (file(), journal.last());
                    }
                    Step::Turn => {
                        journal.turn().expect("writes");
                        (absorbed, frozen) = (frozen, journal.last());
                    }
                }
            }
            let written = file();
            let changed = (0..2 * AREA / PAGE).filter(|page| {
                disk[page * PAGE..][..PAGE] != written[page * PAGE..][..PAGE]
            });
            let changed: Vec<_> = changed.collect();
            for (page, kept) in changed.into_iter().zip(kept) {
                if kept {
                    disk[page * PAGE..][..PAGE].copy_from_slice(&written[page * PAGE..][..PAGE]);
                }
            }
            let found = numbers(&disk, absorbed);
            let upto = found.last().copied().unwrap_or(absorbed);
            prop_assert!(upto >= synced);
            prop_assert!(upto <= journal.last());
        }
    }
}
