//! One cut: what was on its way at a moment, what of it survives, and the files that then stand there.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::Failed;
use crate::disk::{Disk, FileLife, Object, Renaming, Timed};
use crate::image::{Change, Image, SECTOR};
use crate::trace::Moment;

/// Which syncs of a life are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syncs {
    /// All of them.
    Honoured,
    /// All but some, to see that an audit notices.
    Ignored(Ignored),
}

/// Syncs that are taken for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// Those of every file.
    Files,
    /// Those of files that ever had this name.
    Named(String),
    /// Those of folders.
    Folders,
}

impl Syncs {
    fn of_file(&self, life: &FileLife) -> bool {
        match self {
            Syncs::Honoured | Syncs::Ignored(Ignored::Folders) => true,
            Syncs::Ignored(Ignored::Files) => false,
            Syncs::Ignored(Ignored::Named(name)) => !life.names.contains(name),
        }
    }
}

/// What was synced up to a moment that only moves forward.
pub(crate) struct Settled<'d> {
    disk: &'d Disk,
    syncs: Syncs,
    /// By file: what is on the disk for sure, and how many changes that are.
    files: BTreeMap<Object, (Image, usize)>,
}

impl<'d> Settled<'d> {
    /// The beginning of a life.
    pub(crate) fn new(disk: &'d Disk, syncs: &Syncs) -> Self {
        let files = disk.files().map(|(object, file)| (object, (file.base.clone(), 0))).collect();
        Self { disk, syncs: syncs.clone(), files }
    }

    /// The cut at `moment`, which must not lie before the one of the last call.
    pub(crate) fn cut(&mut self, moment: Moment) -> Cut<'d> {
        let mut files = Vec::new();
        for (object, (image, kept)) in &mut self.files {
            let Some(life) = self.disk.file(*object) else { continue };
            let believed = self.syncs.of_file(life);
            let done = life.syncs.iter().filter(|sync| believed && sync.end <= moment);
            let until = done.map(|sync| sync.begin).max().unwrap_or(0);
            while let Some(change) = life.changes.get(*kept).filter(|change| change.end < until) {
                image.change(&change.what);
                *kept += 1;
            }
            let pending = life.changes[*kept..].iter().filter(|change| change.begin <= moment).collect();
            files.push(PendingFile::new(*object, life, image.clone(), *kept, pending, moment));
        }
        let (mut kept, mut pending) = (Vec::new(), Vec::new());
        for renaming in self.disk.renamings.iter().filter(|renaming| renaming.begin <= moment) {
            let believed = self.syncs != Syncs::Ignored(Ignored::Folders);
            if believed && self.disk.keeps(renaming, moment) { kept.push(renaming) } else { pending.push(renaming) }
        }
        Cut::new(self.disk, files, kept, pending)
    }
}

/// A file at a cut.
struct PendingFile<'d> {
    object: Object,
    /// What is there for sure.
    image: Image,
    /// How many changes that are.
    settled: usize,
    /// What was on its way, in order.
    pending: Vec<&'d Timed<Change>>,
    /// The pages that are on their way, each with the pending changes that touch it.
    pages: BTreeMap<u64, Vec<usize>>,
    /// How many of its changes a page holds at least, if `sync_file_range` keeps what it can.
    ranged: BTreeMap<u64, usize>,
}

impl<'d> PendingFile<'d> {
    fn new(
        object: Object,
        life: &'d FileLife,
        image: Image,
        settled: usize,
        pending: Vec<&'d Timed<Change>>,
        moment: Moment,
    ) -> Self {
        let mut pages: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (number, change) in pending.iter().enumerate() {
            for page in change.what.pages(life.longest) {
                pages.entry(page).or_default().push(number);
            }
        }
        let mut ranged = BTreeMap::new();
        for range in life.ranges.iter().filter(|range| range.end <= moment) {
            let (from, to) = (range.what.0, range.what.0.saturating_add(range.what.1).min(image.size()));
            for (page, touching) in
                pages.range(from / crate::image::PAGE..to.div_ceil(crate::image::PAGE).max(from / crate::image::PAGE))
            {
                let held = touching.iter().take_while(|change| pending[**change].end < range.begin).count();
                let least: &mut usize = ranged.entry(*page).or_default();
                *least = held.max(*least);
            }
        }
        Self { object, image, settled, pending, pages, ranged }
    }

    /// How long the file is once those changes are carried out that `keep` names.
    fn size(&self, keep: impl Fn(usize) -> bool) -> u64 {
        let kept = self.pending.iter().enumerate().filter(|(number, _)| keep(*number));
        kept.fold(self.image.size(), |size, (_, change)| change.what.size_after(size))
    }

    /// The file of `choice`.
    fn image(&self, choice: &FileChoice) -> Image {
        let mut image = self.image.clone();
        image.resize(image.size().max(choice.size));
        for ((number, touching), version) in self.pages.iter().zip(&choice.versions) {
            let mut page = image.page(*number);
            for change in &touching[..*version] {
                self.pending[*change].what.apply(*number, &mut page, &|_| true);
            }
            if let Some(torn) = &choice.torn
                && touching.get(*version) == Some(&torn.change)
            {
                self.pending[torn.change].what.apply(*number, &mut page, &|sector| torn.keeps(sector));
            }
            image.put(*number, page);
        }
        image.resize(choice.size);
        image
    }
}

/// A write that reached the disk in parts.
#[derive(Debug, Hash)]
struct Torn {
    change: usize,
    /// Sectors before this one arrived.
    before: u64,
    /// Of those after it, each arrived by this seed's toss; none if there is no seed.
    others: Option<u64>,
}

impl Torn {
    fn keeps(&self, sector: u64) -> bool {
        sector < self.before || self.others.is_some_and(|seed| fastrand::Rng::with_seed(seed ^ (sector << 8)).bool())
    }
}

/// What survives of one file.
#[derive(Debug, Hash)]
struct FileChoice {
    /// For each pending page, how many of its changes it holds.
    versions: Vec<usize>,
    torn: Option<Torn>,
    size: u64,
}

/// What survives of everything.
#[derive(Debug, Hash)]
pub(crate) struct Choice {
    files: Vec<FileChoice>,
    entries: Vec<bool>,
}

/// One thing on its way: a change of a file, or of an entry.
#[derive(Clone, Copy)]
enum Step {
    Change { file: usize, change: usize },
    Entry(usize),
}

/// How the survivors of a cut are chosen. Each draws what it needs from the state's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Everything arrived.
    All,
    /// Nothing arrived.
    Nothing,
    /// All bytes arrived, no file's new length did.
    Short,
    /// The first so many arrived.
    Prefix,
    /// The first so many, and of the next write some sectors.
    Torn512,
    /// The first so many, and of the next write some pages.
    Torn4096,
    /// Of each page any version; of the lengths and the entries whatever is drawn.
    Pages,
    /// Some whole writes arrived, and some did not, whatever their order.
    Reordered,
    /// Only the last few arrived.
    Last,
    /// All but one write, or all but one page.
    AllButOne,
    /// One file arrived whole and no other, or the other way around.
    OneFile,
    /// All bytes arrived; of the entries none, the first few, or some.
    Entries,
}

/// The shapes with their names, and how many states of each are drawn at a cut.
pub(crate) const SHAPES: [(Shape, &str, usize); 12] = [
    (Shape::All, "all", 1),
    (Shape::Nothing, "nothing", 2),
    (Shape::Short, "short", 1),
    (Shape::Prefix, "prefix", 2),
    (Shape::Torn512, "torn512", 2),
    (Shape::Torn4096, "torn4096", 1),
    (Shape::Pages, "pages", 3),
    (Shape::Reordered, "reordered", 3),
    (Shape::Last, "last", 1),
    (Shape::AllButOne, "all-but-one", 2),
    (Shape::OneFile, "one-file", 2),
    (Shape::Entries, "entries", 3),
];

/// Everything that was on its way at a moment.
pub(crate) struct Cut<'d> {
    disk: &'d Disk,
    files: Vec<PendingFile<'d>>,
    kept_entries: Vec<&'d Timed<Renaming>>,
    entries: Vec<&'d Timed<Renaming>>,
    steps: Vec<Step>,
}

impl<'d> Cut<'d> {
    fn new(
        disk: &'d Disk,
        files: Vec<PendingFile<'d>>,
        kept_entries: Vec<&'d Timed<Renaming>>,
        entries: Vec<&'d Timed<Renaming>>,
    ) -> Self {
        let mut steps: Vec<(Moment, Step)> = Vec::new();
        for (file, pending) in files.iter().enumerate() {
            let changes = pending.pending.iter().enumerate();
            steps.extend(changes.map(|(change, timed)| (timed.end, Step::Change { file, change })));
        }
        steps.extend(entries.iter().enumerate().map(|(entry, timed)| (timed.end, Step::Entry(entry))));
        steps.sort_by_key(|(end, _)| *end);
        let steps = steps.into_iter().map(|(_, step)| step).collect();
        Self { disk, files, kept_entries, entries, steps }
    }

    /// What survives by `shape`, drawn from `roll`; nothing if the shape makes no sense here.
    pub(crate) fn choose(&self, shape: Shape, roll: u64) -> Option<Choice> {
        let mut rng = fastrand::Rng::with_seed(roll);
        let ranges_keep = rng.u8(..4) == 0;
        let count = self.steps.len();
        if count == 0 && shape != Shape::Nothing {
            return None;
        }
        let mut choice = match shape {
            Shape::All => self.by_step(|_| true),
            Shape::Nothing => self.by_step(|_| false),
            Shape::Short => {
                let mut choice = self.by_step(|_| true);
                self.draw_sizes(&mut choice, |_| 0);
                choice
            }
            Shape::Prefix => {
                let first = rng.usize(..count);
                self.by_step(|step| step < first)
            }
            Shape::Torn512 | Shape::Torn4096 => self.torn(shape, &mut rng)?,
            Shape::Pages => {
                let mut choice = self.by_step(|_| false);
                for (file, pending) in choice.files.iter_mut().zip(&self.files) {
                    for (version, touching) in file.versions.iter_mut().zip(pending.pages.values()) {
                        *version = rng.usize(..=touching.len());
                    }
                }
                let way = rng.u8(..3);
                self.draw_sizes(&mut choice, |changes| match way {
                    0 => 0,
                    1 => changes,
                    _ => rng.usize(..=changes),
                });
                self.draw_entries(&mut choice, &mut rng);
                choice
            }
            Shape::Reordered => {
                let chance = [0.2, 0.5, 0.8][rng.usize(..3)];
                let keeps: Vec<bool> = (0..count).map(|_| rng.f64() < chance).collect();
                self.by_step(|step| keeps[step])
            }
            Shape::Last => {
                let last = rng.usize(1..=count.min(4));
                self.by_step(|step| step + last >= count)
            }
            Shape::AllButOne => {
                let lost = rng.usize(..count);
                if rng.bool() {
                    self.by_step(|step| step != lost)
                } else {
                    let mut choice = self.by_step(|_| true);
                    let file = &mut choice.files[rng.usize(..self.files.len())];
                    if let Some(page) = rng.usize(..usize::MAX).checked_rem(file.versions.len()) {
                        file.versions[page] = 0;
                    }
                    choice
                }
            }
            Shape::OneFile => {
                let with_changes: Vec<usize> =
                    (0..self.files.len()).filter(|file| !self.files[*file].pending.is_empty()).collect();
                if with_changes.len() < 2 {
                    return None;
                }
                let (one, is_kept) = (with_changes[rng.usize(..with_changes.len())], rng.bool());
                let entries = rng.bool();
                self.by_step(|step| match self.steps[step] {
                    Step::Change { file, .. } => (file == one) == is_kept,
                    Step::Entry(_) => entries,
                })
            }
            Shape::Entries => {
                if self.entries.is_empty() {
                    return None;
                }
                let mut choice = self.by_step(|_| true);
                self.draw_entries(&mut choice, &mut rng);
                choice
            }
        };
        if ranges_keep {
            for (file, pending) in choice.files.iter_mut().zip(&self.files) {
                for (version, page) in file.versions.iter_mut().zip(pending.pages.keys()) {
                    *version = (*version).max(pending.ranged.get(page).copied().unwrap_or(0));
                }
            }
        }
        Some(choice)
    }

    /// Those steps arrive whole that `keep` names; what was written to the same page before comes with them.
    fn by_step(&self, keep: impl Fn(usize) -> bool) -> Choice {
        let mut changes: Vec<Vec<bool>> = self.files.iter().map(|file| vec![false; file.pending.len()]).collect();
        let mut entries = vec![false; self.entries.len()];
        for (number, step) in self.steps.iter().enumerate() {
            match *step {
                Step::Change { file, change } => changes[file][change] = keep(number),
                Step::Entry(entry) => entries[entry] = keep(number),
            }
        }
        let files = self.files.iter().zip(&changes).map(|(file, kept)| FileChoice {
            versions: file
                .pages
                .values()
                .map(|touching| touching.iter().rposition(|change| kept[*change]).map_or(0, |last| last + 1))
                .collect(),
            torn: None,
            size: file.size(|change| kept[change]),
        });
        Choice { files: files.collect(), entries }
    }

    fn torn(&self, shape: Shape, rng: &mut fastrand::Rng) -> Option<Choice> {
        let writes: Vec<usize> = (0..self.steps.len())
            .filter(|step| match self.steps[*step] {
                Step::Change { file, change } => matches!(self.files[file].pending[change].what, Change::Write { .. }),
                Step::Entry(_) => false,
            })
            .collect();
        let torn = *writes.get(rng.usize(..writes.len().max(1)))?;
        let mut choice = self.by_step(|step| step < torn);
        let Step::Change { file, change } = self.steps[torn] else { return None };
        let Change::Write { offset, bytes } = &self.files[file].pending[change].what else { return None };
        let unit = if shape == Shape::Torn512 { 1 } else { crate::image::PAGE / SECTOR };
        let (first, last) = (offset / SECTOR / unit, (offset + bytes.length()).div_ceil(SECTOR * unit));
        let before = rng.u64(first..=last) * unit;
        let others = (unit == 1 && rng.u8(..3) == 0).then(|| rng.u64(..));
        let chosen = &mut choice.files[file];
        let arrived = if others.is_some() { u64::MAX } else { before * SECTOR };
        chosen.size = chosen.size.max(arrived.min(offset + bytes.length()));
        chosen.torn = Some(Torn { change, before, others });
        Some(choice)
    }

    /// Each file's length is that after so many of its changes as `changes` draws from their number.
    fn draw_sizes(&self, choice: &mut Choice, mut changes: impl FnMut(usize) -> usize) {
        for (file, pending) in choice.files.iter_mut().zip(&self.files) {
            let first = changes(pending.pending.len());
            file.size = pending.size(|change| change < first);
        }
    }

    fn draw_entries(&self, choice: &mut Choice, rng: &mut fastrand::Rng) {
        let (way, first) = (rng.u8(..4), rng.usize(..=self.entries.len()));
        for (number, kept) in choice.entries.iter_mut().enumerate() {
            *kept = match way {
                0 => false,
                1 => true,
                2 => number < first,
                _ => rng.bool(),
            };
        }
    }

    /// Tells this state from others of the same life.
    pub(crate) fn fingerprint(&self, choice: &Choice) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.iter().for_each(|file| file.settled.hash(&mut hasher));
        self.kept_entries.len().hash(&mut hasher);
        choice.hash(&mut hasher);
        hasher.finish()
    }

    /// Writes the files that stand there after the cut into the empty folder `into`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn build(&self, choice: &Choice, into: &Path) -> Result<(), Failed> {
        let drawn = self.entries.iter().zip(&choice.entries).filter(|(_, kept)| **kept).map(|(entry, _)| *entry);
        let mut entries: Vec<&Timed<Renaming>> = self.kept_entries.iter().copied().chain(drawn).collect();
        entries.sort_by_key(|entry| entry.end);
        let folders = self.disk.folders(entries.into_iter().map(|entry| &entry.what));
        let mut left = vec![(0, into.to_owned())];
        while let Some((folder, path)) = left.pop() {
            for (name, object) in &folders[&folder] {
                let path = path.join(name);
                if folders.contains_key(object) {
                    fs::create_dir(&path).map_err(Failed::io("make a rebuilt folder", &path))?;
                    left.push((*object, path));
                } else if let Some(file) = self.files.iter().position(|file| file.object == *object) {
                    self.files[file].image(&choice.files[file]).write(&path)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PAGE;
    use crate::trace::{Bytes, Call, Event, Trace};

    /// Gives each call its moments: 2 and 3, 4 and 5, and so on.
    fn disk(calls: Vec<Call>) -> Disk {
        let base = tempfile::tempdir().expect("a folder");
        let events =
            calls.into_iter().zip(1..).map(|(call, number)| Event { begin: 2 * number, end: 2 * number + 1, call });
        Disk::follow(base.path(), Trace { events: events.collect() }).expect("makes sense")
    }

    fn made(path: &str, inode: u64) -> Call {
        Call::Open { path: path.to_owned(), inode, is_folder: false, creates: true, empties: false }
    }

    fn write(inode: u64, offset: u64, byte: u8, length: usize) -> Call {
        let bytes = Bytes { all: vec![byte; length].into(), stored: 0..length, length: length as u64 };
        Call::Write { inode, offset, bytes }
    }

    const FOLDER: u64 = 1;

    fn folder() -> Call {
        Call::Open { path: String::new(), inode: FOLDER, is_folder: true, creates: false, empties: false }
    }

    /// What can stand in the folder after a cut at `moment`: the files of each state, over all shapes and many draws.
    fn states(disk: &Disk, moment: Moment) -> Vec<BTreeMap<String, Vec<u8>>> {
        let cut = Settled::new(disk, &Syncs::Honoured).cut(moment);
        let mut states = Vec::new();
        for (shape, roll) in SHAPES.iter().flat_map(|(shape, ..)| (0..40).map(move |roll| (*shape, roll))) {
            let Some(choice) = cut.choose(shape, roll) else { continue };
            let into = tempfile::tempdir().expect("a folder");
            cut.build(&choice, into.path()).expect("builds");
            let files = fs::read_dir(into.path()).expect("reads").map(|entry| entry.expect("an entry"));
            let read = |entry: fs::DirEntry| {
                (entry.file_name().into_string().expect("text"), fs::read(entry.path()).expect("reads"))
            };
            states.push(files.map(read).collect());
        }
        states
    }

    #[test]
    fn what_was_synced_before_the_cut_is_in_every_state_and_what_was_not_is_in_some() {
        let page = PAGE as usize;
        let disk = disk(vec![
            folder(),
            made("/a", 7),
            write(7, 0, 1, 2 * page),
            Call::Sync { inode: 7 },
            Call::Sync { inode: FOLDER },
            write(7, PAGE, 2, 2 * page),
        ]);
        let states = states(&disk, disk.end);
        assert!(states.iter().all(|files| files["a"].len() >= 2 * page && files["a"][..page] == vec![1; page]));
        let second: Vec<&[u8]> = states.iter().map(|files| &files["a"][page..2 * page]).collect();
        let sectors = |page: &[u8]| page.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]);
        assert!(second.iter().all(|page| sectors(page)), "a sector is whole");
        assert!(second.contains(&&vec![1; page][..]) && second.contains(&&vec![2; page][..]));
        assert!(second.iter().any(|page| page[0] != page[page.len() - 1]), "a page may be torn");
        let lengths: Vec<usize> = states.iter().map(|files| files["a"].len()).collect();
        assert!(lengths.contains(&(2 * page)) && lengths.contains(&(3 * page)));
        // The third page may have arrived without the second.
        let third = |files: &BTreeMap<String, Vec<u8>>| files["a"].get(2 * page).copied();
        assert!(states.iter().any(|files| files["a"][page] == 1 && third(files) == Some(2)));
        assert!(states.iter().any(|files| files["a"][page] == 2 && third(files) == Some(0)));
    }

    #[test]
    fn a_sync_that_is_under_way_keeps_nothing_yet() {
        let disk = disk(vec![
            folder(),
            made("/a", 7),
            Call::Sync { inode: FOLDER },
            write(7, 0, 1, 10),
            Call::Sync { inode: 7 },
        ]);
        let lost = |moment| states(&disk, moment).iter().any(|files| !files["a"].contains(&1));
        assert!(lost(disk.end - 1));
        assert!(!lost(disk.end));
    }

    #[test]
    fn an_entry_is_kept_by_syncing_its_folder_and_not_by_syncing_the_file() {
        let calls =
            vec![folder(), made("/a", 7), write(7, 0, 1, 10), Call::Sync { inode: 7 }, Call::Sync { inode: FOLDER }];
        let disk = disk(calls);
        assert!(states(&disk, disk.end - 2).iter().any(|files| files.is_empty()));
        assert!(states(&disk, disk.end).iter().all(|files| files["a"] == vec![1; 10]));
    }

    #[test]
    fn a_rename_happens_whole_or_not_at_all() {
        let (from, to) = ("/a".to_owned(), "/b".to_owned());
        let calls = vec![
            folder(),
            made("/a", 7),
            Call::Sync { inode: FOLDER },
            Call::Rename { from, to },
            Call::Sync { inode: FOLDER },
        ];
        let disk = disk(calls);
        let names = |moment| -> std::collections::BTreeSet<String> {
            states(&disk, moment).iter().map(|files| files.keys().cloned().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(names(disk.end - 1).into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(names(disk.end).into_iter().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_range_that_was_synced_keeps_only_what_was_there_already_and_not_always() {
        let page = PAGE as usize;
        let disk = disk(vec![
            folder(),
            made("/a", 7),
            write(7, 0, 1, page),
            Call::Sync { inode: 7 },
            Call::Sync { inode: FOLDER },
            write(7, 0, 2, 2 * page),
            Call::SyncRange { inode: 7, offset: 0, length: 2 * PAGE },
        ]);
        let cut = Settled::new(&disk, &Syncs::Honoured).cut(disk.end);
        let versions =
            (0..40).filter_map(|roll| cut.choose(Shape::Nothing, roll)).map(|choice| choice.files[0].versions.clone());
        let versions: std::collections::BTreeSet<_> = versions.collect();
        assert_eq!(versions.into_iter().collect::<Vec<_>>(), [vec![0, 0], vec![1, 0]]);
    }
}
