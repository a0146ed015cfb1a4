//! A recorded life, and the moments at which to cut it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failed;
use crate::audit::Acknowledged;
use crate::disk::{Disk, Timed};
use crate::image::Change;
use crate::record::{Part, Recorder};
use crate::store::Subject;
use crate::trace::{Moment, Trace};
use crate::workload::{OPENED, Workload, unit_of};

/// A recorded life. Its folder holds the files it began with (`base`), the trace, and what was acknowledged before it began.
#[derive(Debug)]
pub(crate) struct Life {
    /// Tells it from the others of its workload.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) disk: Disk,
    before: Acknowledged,
    /// It is not cut before.
    pub(crate) from: Moment,
}

/// So many moments before a store is open belong to its opening.
const OPENING: usize = 100;

/// The moments at which the store was open, once more.
fn openings(marks: &[Timed<String>]) -> impl Iterator<Item = Moment> {
    marks.iter().filter(|mark| mark.what == OPENED).map(|mark| mark.begin)
}

const BASE: &str = "base";
const FILES: &str = "files";
const TRACE: &str = "trace";
const BEFORE: &str = "before.json";

impl Life {
    /// Lives `part` of `workload` in `folder`, from the files that `make` puts into the folder it is given, where `before` had been
    /// acknowledged.
    ///
    /// # Errors
    /// If the life does not end well, or did something that was not recorded.
    pub(crate) fn record(
        recorder: &Recorder,
        (subject, workload, part): (Subject, &Workload, Part),
        folder: &Path,
        before: Acknowledged,
        make: impl Fn(&Path) -> Result<(), Failed>,
    ) -> Result<Self, Failed> {
        let (base, files, trace) = (folder.join(BASE), folder.join(FILES), folder.join(TRACE));
        for path in [&base, &files] {
            fs::create_dir_all(path).map_err(Failed::io("make a folder", path))?;
            make(path)?;
        }
        let text = serde_json::to_string(&before).map_err(|cause| Failed::Trace(cause.to_string()))?;
        fs::write(folder.join(BEFORE), text).map_err(Failed::io("write", folder))?;
        recorder.record(subject, workload, part, &files, &trace)?;
        // Where it was recorded is needed to read it again.
        fs::write(folder.join("root"), files.to_string_lossy().as_bytes()).map_err(Failed::io("write", folder))?;
        let life = Self::read(folder)?;
        life.disk.check_whole(&files)?;
        fs::remove_dir_all(&files).map_err(Failed::io("remove", &files))?;
        Ok(life)
    }

    /// Reads a life that was recorded.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failed> {
        let text = |name: &str| fs::read_to_string(folder.join(name)).map_err(Failed::io("read", &folder.join(name)));
        let before = serde_json::from_str(&text(BEFORE)?).map_err(|cause| Failed::Trace(cause.to_string()))?;
        let trace = Trace::read(&folder.join(TRACE), Path::new(&text("root")?))?;
        let disk = Disk::follow(&folder.join(BASE), trace)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, folder: folder.to_owned(), disk, before, from: 0 })
    }

    /// When the store was open for the first time.
    pub(crate) fn opened(&self) -> Moment {
        openings(&self.disk.marks).next().unwrap_or(self.disk.end)
    }

    /// What had been acknowledged at `moment`.
    pub(crate) fn acknowledged(&self, moment: Moment) -> Acknowledged {
        let mut acknowledged = self.before.clone();
        let said = self.disk.marks.iter().filter(|mark| mark.begin <= moment);
        for (client, number) in said.filter_map(|mark| unit_of(&mark.what)) {
            let count: &mut u32 = acknowledged.entry(client).or_default();
            *count = (*count).max(number + 1);
        }
        acknowledged
    }

    /// The largest number of bytes that were written to a file between two of its syncs.
    pub(crate) fn widest_window(&self) -> u64 {
        self.windows().into_iter().map(|(bytes, _)| bytes).max().unwrap_or(0)
    }

    /// How many bytes were written in all, and how long the longest file was.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let written = self.disk.files().flat_map(|(_, file)| &file.changes).map(|change| change.what.bytes()).sum();
        (written, self.disk.files().map(|(_, file)| file.longest).max().unwrap_or(0))
    }

    /// Bytes written to a file since its last sync, and the moment before the end of the next one.
    fn windows(&self) -> Vec<(u64, Moment)> {
        let mut windows = Vec::new();
        for (_, file) in self.disk.files() {
            let mut changes = file.changes.iter().peekable();
            let mut bytes = 0;
            for sync in &file.syncs {
                while let Some(change) = changes.next_if(|change| change.end < sync.begin) {
                    bytes += change.what.bytes();
                }
                windows.push((std::mem::take(&mut bytes), sync.end - 1));
            }
        }
        windows
    }

    /// Moments from a write that does not go on where the last one ended up to the next sync of its file.
    fn jumps(&self) -> Vec<Moment> {
        let mut jumps = Vec::new();
        for (_, file) in self.disk.files() {
            let (mut ended, mut since): (Option<u64>, Option<Moment>) = (None, None);
            let mut syncs = file.syncs.iter().peekable();
            for change in &file.changes {
                while syncs.next_if(|sync| sync.end < change.begin).is_some() {
                    since = None;
                }
                if let Change::Write { offset, bytes } = &change.what {
                    // Padding between two writes is no jump.
                    if ended.is_some_and(|ended| offset.abs_diff(ended) > 64 * 1024) {
                        since = Some(change.begin);
                    }
                    ended = Some(offset + bytes.length());
                }
                if since.is_some() {
                    jumps.extend([change.begin, change.end]);
                    jumps.extend(syncs.peek().map(|sync| sync.end - 1));
                }
            }
        }
        jumps
    }

    /// Moments to cut at, ascending: before the ends of syncs, in the widest windows, where something was acknowledged, around entries,
    /// after writes to another place, while the store opened, and anywhere else.
    pub(crate) fn moments(&self, count: usize, rng: &mut fastrand::Rng) -> Vec<Moment> {
        let mut windows = self.windows();
        windows.sort_unstable();
        let widest: Vec<Moment> = windows.iter().rev().take(12).map(|(_, moment)| *moment).collect();
        let syncs: Vec<Moment> = windows.iter().map(|(_, moment)| *moment).collect();
        let marks: Vec<Moment> = self.disk.marks.iter().map(|mark| mark.begin).collect();
        let entries: Vec<Moment> = self.disk.renamings.iter().flat_map(|entry| [entry.begin, entry.end]).collect();
        let jumps = self.jumps();
        let boundaries = &self.disk.boundaries;
        let opening: Vec<Moment> = openings(&self.disk.marks)
            .flat_map(|opened| {
                let until = boundaries.partition_point(|moment| *moment <= opened);
                boundaries[until.saturating_sub(OPENING)..until].iter().copied()
            })
            .collect();
        let is_second = !self.before.is_empty();
        let weighted = [
            (4, &syncs),
            (2, &widest),
            (3, &marks),
            (2, &entries),
            (4, &jumps),
            (if is_second { 12 } else { 5 }, &opening),
            (7, boundaries),
        ];
        let choices: Vec<&Vec<Moment>> = weighted
            .iter()
            .filter(|(_, moments)| moments.iter().any(|moment| *moment >= self.from))
            .flat_map(|(weight, moments)| std::iter::repeat_n(*moments, *weight))
            .collect();
        if choices.is_empty() {
            return Vec::new();
        }
        let mut drawn: Vec<Moment> = (0..count)
            .map(|_| {
                let moments = choices[rng.usize(..choices.len())];
                moments[rng.usize(..moments.len())]
            })
            .collect();
        drawn.retain(|moment| *moment >= self.from);
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }
}
