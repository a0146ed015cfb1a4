//! An archive in a folder: files of compressed, checksummed events, each written and synced before it has its name.
//!
//! ```text
//! shop-archive/
//!   aftercommit.archive.lock                            held while a bus archives here
//!   aftercommit.archive.new                             a segment that is being written
//!   00000000000000000001-00000000000000004217.events    a segment: from its first position up to the one behind its last
//!   ...                                  .some-events   one of a part of the log that had been pruned before it was archived
//! ```
//!
//! Segments ascend and never overlap. One that is small is written anew together with what follows it, under a name of its own;
//! should the process end before the small one is gone, what lies within another is passed over, and removed at the next opening.

mod segment;

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::{disk, hold};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::{Archive, LogEvent, Position};
use segment::Segment;

const LOCK: &str = "aftercommit.archive.lock";
const NEW: &str = "aftercommit.archive.new";
const WHOLE: &str = ".events";
const SOME: &str = ".some-events";

/// A segment that is smaller than this on the disk is written anew with what follows.
const SMALL: u64 = 1 << 20;

/// An archive in a folder, for [`BusBuilder::archive`](crate::runtime::BusBuilder::archive) or to be read.
///
/// ```no_run
/// use aftercommit::adapters::archive::ArchiveFolder;
/// use aftercommit::store::{Archive, Position};
///
/// # fn main() -> Result<(), aftercommit::error::StoreError> {
/// let archive = ArchiveFolder::look("shop-archive")?;
/// let mut from = Position(1);
/// loop {
///     let events = archive.read(from, 1_000, 1 << 20)?;
///     let Some(last) = events.last() else { break };
///     from = last.position.next();
///     for event in &events {
///         println!("{} {}", event.position.0, event.envelope.header.name);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ArchiveFolder {
    path: PathBuf,
    /// Held by who writes.
    lock: Option<File>,
    /// One writes at a time.
    writing: Mutex<()>,
    /// Ascending; neither overlaps the next.
    segments: RwLock<Segments>,
    last_read: Mutex<LastRead>,
}

/// A segment, as its file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    start: Position,
    end: Position,
    /// Whether everything is in it that was in the log there.
    is_whole: bool,
}

#[derive(Debug, Default)]
struct Segments {
    names: Vec<Name>,
    /// Up to where nothing else stood in the log when it was last asked for.
    end: Position,
}

/// What was read last, as what is read next lies beside it.
#[derive(Debug, Default)]
struct LastRead {
    segment: Option<(Name, Segment)>,
    /// A block of it.
    block: Option<(usize, Arc<Vec<LogEvent>>)>,
}

/// What a segment of an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its file's name.
    pub file: String,
    /// The first position it covers.
    pub first: Position,
    /// The position behind the last it covers.
    pub end: Position,
    /// Whether the log had given up nothing of that before it was archived.
    pub is_whole: bool,
    /// How many events.
    pub events: u64,
    /// When the oldest of them was published.
    pub oldest: Timestamp,
    /// When the newest of them was published.
    pub newest: Timestamp,
    /// How many bytes its file has.
    pub bytes: u64,
}

impl ArchiveFolder {
    /// Opens the archive in the folder `path` to be written to, and makes one there if there is nothing; waits up to 5 seconds while
    /// another bus has it. A bus may have one, and an archive is of one store.
    ///
    /// # Errors
    /// [`StoreError::Held`]; [`StoreError::NotAStore`] if the folder holds something else; what the system says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        disk::make_folder(&path)?;
        names_in(&path)?;
        let lock = hold::hold(&path, LOCK, Duration::from_secs(5))?;
        let (names, within) = names_in(&path)?;
        for name in within {
            remove(&path.join(name.file()))?;
        }
        remove(&path.join(NEW))?;
        Ok(Self::over(path, Some(lock), names))
    }

    /// Opens the archive in the folder `path` to be read, also while a bus archives there. What it adds is not seen.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] if there is none; what the system says.
    pub fn look(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let (names, _) = names_in(&path)?;
        if names.is_empty() && !path.join(LOCK).exists() {
            return Err(StoreError::NotAStore { path, reason: "there is no archive in it".to_owned() });
        }
        Ok(Self::over(path, None, names))
    }

    fn over(path: PathBuf, lock: Option<File>, names: Vec<Name>) -> Self {
        let end = names.last().map_or(Position(0), |last| last.end);
        let segments = RwLock::new(Segments { names, end });
        Self { path, lock, writing: Mutex::default(), segments, last_read: Mutex::default() }
    }

    /// What the segments say of themselves, ascending. Reads every file, and compares only the checksums of their heads.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first that is; what the system says.
    pub fn list(&self) -> Result<Vec<SegmentInfo>, StoreError> {
        let segments = self.segments.read();
        let info = |name: &Name| {
            let segment = self.load(name)?;
            let head = segment.head;
            Ok(SegmentInfo {
                file: name.file(),
                is_whole: name.is_whole,
                first: head.first,
                end: head.end,
                events: head.events,
                oldest: head.oldest,
                newest: head.newest,
                bytes: segment.bytes().len() as u64,
            })
        };
        segments.names.iter().map(info).collect()
    }

    /// Reads everything, and answers what is wrong: each segment that is damaged, with where.
    ///
    /// # Errors
    /// What the system says; what is damaged is no error.
    pub fn verify(&self) -> Result<Vec<StoreError>, StoreError> {
        let mut wrong = Vec::new();
        for name in &self.segments.read().names {
            match self.load(name).and_then(|segment| segment.all()) {
                Ok(_) => {}
                Err(damaged @ StoreError::Damaged { .. }) => wrong.push(damaged),
                Err(error) => return Err(error),
            }
        }
        Ok(wrong)
    }

    /// The segment in its file.
    fn load(&self, name: &Name) -> Result<Segment, StoreError> {
        let path = self.path.join(name.file());
        let bytes = fs::read(&path).map_err(|cause| StoreError::backend("read a segment of the archive", cause))?;
        let segment = Segment::decode(&path.to_string_lossy(), bytes)?;
        if (segment.head.first, segment.head.end) != (name.start, name.end) {
            let reason = "its name is another segment's".to_owned();
            return Err(StoreError::Damaged { what: format!("the archive's segment {path:?}"), reason });
        }
        Ok(segment)
    }

    /// The blocks of a segment from `from` on that are read one after the other.
    fn blocks(
        &self,
        name: &Name,
        from: Position,
        mut give: impl FnMut(&[LogEvent]) -> bool,
    ) -> Result<bool, StoreError> {
        let mut last = self.last_read.lock();
        let segment = match &last.segment {
            Some((read, segment)) if read == name => segment.clone(),
            _ => {
                let segment = self.load(name)?;
                *last = LastRead { segment: Some((name.clone(), segment.clone())), block: None };
                segment
            }
        };
        for block in segment.blocks(from)? {
            let events = match &last.block {
                Some((at, events)) if *at == block.at() => events.clone(),
                _ => Arc::new(segment.events(&block)?),
            };
            last.block = Some((block.at(), events.clone()));
            if !give(&events) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn writable(&self) -> Result<(), StoreError> {
        let unsupported =
            StoreError::Unsupported { action: "write to an archive that was opened to be read", store: "archive" };
        if self.lock.is_some() { Ok(()) } else { Err(unsupported) }
    }

    /// Writes a segment under its name: aside, synced, renamed, and the folder synced.
    fn write(&self, name: &Name, segment: &Segment) -> Result<(), StoreError> {
        let failed = |cause: io::Error| StoreError::backend("write a segment of the archive", cause);
        let new = self.path.join(NEW);
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(segment.bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, self.path.join(name.file()))).map_err(failed)?;
        disk::sync_folder(&self.path)
    }

    /// The last segment, if `next` is to be written into it.
    fn small_last(&self, next: &Name) -> Result<Option<(Name, Segment)>, StoreError> {
        let Some(last) = self.segments.read().names.last().cloned() else { return Ok(None) };
        let path = self.path.join(last.file());
        let size =
            fs::metadata(path).map_err(|cause| StoreError::backend("read a segment of the archive", cause))?.len();
        if last.end != next.start || last.is_whole != next.is_whole || size >= SMALL {
            return Ok(None);
        }
        // Whatever is wrong with it stays where it is, and is told to who reads it.
        let whole = self.load(&last).and_then(|segment| segment.all().map(|_| segment));
        Ok(whole.ok().map(|segment| (last, segment)))
    }
}

impl Archive for ArchiveFolder {
    fn extent(&self) -> Option<Range<Position>> {
        let segments = self.segments.read();
        let mut start = segments.end;
        let mut behind = segments.names.last()?.end;
        for name in segments.names.iter().rev() {
            if name.end < behind || !name.is_whole {
                break;
            }
            (start, behind) = (name.start, name.start);
        }
        Some(start..segments.end)
    }

    fn append(&self, range: Range<Position>, is_whole: bool, events: &[LogEvent]) -> Result<(), StoreError> {
        self.writable()?;
        let _writing = self.writing.lock();
        // Where nothing stood no segment was written, and the next one covers it.
        let start = match &mut *self.segments.write() {
            Segments { names, end } if events.is_empty() && is_whole && !names.is_empty() => {
                *end = range.end.max(*end);
                return Ok(());
            }
            Segments { names, .. } => names.last().map_or(range.start, |last| last.end),
        };
        let mut name = Name { start, end: range.end, is_whole };
        let mut segment = Segment::of(&name.file(), name.start..name.end, events)?;
        let small = self.small_last(&name)?;
        if let Some((last, small)) = &small {
            name.start = last.start;
            segment = small.followed_by(&name.file(), &segment);
        }
        self.write(&name, &segment)?;
        let mut segments = self.segments.write();
        segments.end = name.end;
        if let Some((last, _)) = small {
            segments.names.pop();
            // Should it stay, it is passed over, and removed at the next opening.
            let _ = fs::remove_file(self.path.join(last.file()));
        }
        segments.names.push(name);
        Ok(())
    }

    fn read(&self, from: Position, max_events: usize, max_bytes: usize) -> Result<Vec<LogEvent>, StoreError> {
        let mut out: Vec<LogEvent> = Vec::new();
        let mut bytes = 0usize;
        // Held, so that no segment goes while it is read.
        let segments = self.segments.read();
        let behind = segments.names.partition_point(|name| name.end <= from);
        for name in &segments.names[behind..] {
            let goes_on = self.blocks(name, from, |events| {
                for event in events.iter().filter(|event| event.position >= from) {
                    bytes = bytes.saturating_add(event.envelope.weight());
                    if out.len() == max_events || (bytes > max_bytes && !out.is_empty()) {
                        return false;
                    }
                    out.push(event.clone());
                }
                true
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(out)
    }

    fn erase(&self, event: Uuid) -> Result<bool, StoreError> {
        self.writable()?;
        let _writing = self.writing.lock();
        let names = self.segments.read().names.clone();
        for name in names {
            let mut events = self.load(&name)?.all()?;
            let before = events.len();
            events.retain(|one| one.envelope.header.metadata.id != event);
            if events.len() < before {
                let without = Segment::of(&name.file(), name.start..name.end, &events)?;
                self.write(&name, &without)?;
                *self.last_read.lock() = LastRead::default();
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Name {
    fn file(&self) -> String {
        format!("{:020}-{:020}{}", self.start.0, self.end.0, if self.is_whole { WHOLE } else { SOME })
    }

    fn parse(file: &str) -> Option<Self> {
        let (stem, is_whole) = match file.strip_suffix(SOME) {
            Some(stem) => (stem, false),
            None => (file.strip_suffix(WHOLE)?, true),
        };
        let (start, end) = stem.split_once('-')?;
        let position = |text: &str| text.parse().ok().map(Position);
        let name = Self { start: position(start)?, end: position(end)?, is_whole };
        (name.file() == file).then_some(name)
    }
}

/// The segments in a folder, ascending; and those that lie within others.
fn names_in(path: &Path) -> Result<(Vec<Name>, Vec<Name>), StoreError> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            StoreError::NotAStore { path: path.to_owned(), reason: "there is no folder".to_owned() }
        }
        _ => StoreError::backend("read the archive's folder", cause),
    };
    let (mut names, mut within): (Vec<Name>, Vec<Name>) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        match Name::parse(&file) {
            Some(name) => names.push(name),
            None if file == LOCK || file == NEW => {}
            None => {
                let reason = format!("it holds `{file}`, which is no part of an archive");
                return Err(StoreError::NotAStore { path: path.to_owned(), reason });
            }
        }
    }
    names.sort_by_key(|name| (name.start, std::cmp::Reverse(name.end)));
    let mut covered = Position(0);
    names.retain(|name| {
        let is_new = name.end > covered;
        if is_new {
            covered = name.end;
        } else {
            within.push(name.clone());
        }
        is_new
    });
    Ok((names, within))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::backend("clear the archive's folder", cause))
        }
        _ => Ok(()),
    }
}
