//! What stood on the disk and what was on its way there, at any moment of a life, under what the crate's documentation assumes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use crate::Failed;
use crate::image::{Change, Image};
use crate::trace::{Call, Moment, Trace};

/// Which file or folder, by number; the recorded folder itself is 0.
pub(crate) type Object = usize;

/// Something that was done between two moments.
#[derive(Debug)]
pub(crate) struct Timed<T> {
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
    pub(crate) what: T,
}

/// A file, from the beginning of a life to its end.
#[derive(Debug, Default)]
pub(crate) struct FileLife {
    /// Every name it had.
    pub(crate) names: BTreeSet<String>,
    pub(crate) base: Image,
    pub(crate) changes: Vec<Timed<Change>>,
    pub(crate) syncs: Vec<Timed<()>>,
    /// Offset and length of each `sync_file_range`.
    pub(crate) ranges: Vec<Timed<(u64, u64)>>,
    /// How long it ever was.
    pub(crate) longest: u64,
}

/// Names of a folder, and what they stand for.
pub(crate) type Entries = BTreeMap<String, Object>;

#[derive(Debug)]
enum Kind {
    File(FileLife),
    Folder { base: Entries, syncs: Vec<Timed<()>> },
}

/// An entry that goes, an entry that comes, or both at once.
#[derive(Debug)]
pub(crate) struct Renaming {
    pub(crate) gone: Option<(Object, String)>,
    pub(crate) come: Option<(Object, String, Object)>,
}

/// Everything that happened to the files of a life.
#[derive(Debug)]
pub(crate) struct Disk {
    objects: Vec<Kind>,
    pub(crate) renamings: Vec<Timed<Renaming>>,
    pub(crate) marks: Vec<Timed<String>>,
    /// The last moment there is.
    pub(crate) end: Moment,
    /// Every moment at which a call that changes something began or ended.
    pub(crate) boundaries: Vec<Moment>,
}

impl Disk {
    /// Follows `trace` from the files in `base` on.
    ///
    /// # Errors
    /// If it does something that cannot have happened, or that is not modelled.
    pub(crate) fn follow(base: &Path, trace: Trace) -> Result<Self, Failed> {
        let mut following =
            Following { objects: Vec::new(), now: Vec::new(), sizes: Vec::new(), inodes: HashMap::new() };
        following.read_folder(base)?;
        let (mut renamings, mut marks, mut boundaries) = (Vec::new(), Vec::new(), Vec::new());
        let end = trace.end();
        let mut filled = None;
        for event in trace.events {
            let (begin, end) = (event.begin, event.end);
            // Zeros after zeros, with which a file is filled when it is made, are one place to cut.
            let fills = match &event.call {
                Call::Write { inode, offset, bytes } if bytes.stored() == 0 => {
                    Some((*inode, *offset, offset + bytes.length()))
                }
                _ => None,
            };
            let goes_on = fills.zip(filled).is_some_and(|(now, before): ((u64, u64, u64), (u64, u64, u64))| {
                (now.0, now.1) == (before.0, before.2)
            });
            filled = fills;
            if !goes_on && !matches!(event.call, Call::Open { creates: false, empties: false, .. }) {
                boundaries.extend([begin, end]);
            }
            if let Call::Mark { text } = event.call {
                marks.push(Timed { begin, end, what: text });
            } else if let Some(what) = following.carry_out(begin, end, event.call)? {
                renamings.push(Timed { begin, end, what });
            }
        }
        boundaries.sort_unstable();
        Ok(Self { objects: following.objects, renamings, marks, end, boundaries })
    }

    /// The file `object`, if it is one.
    pub(crate) fn file(&self, object: Object) -> Option<&FileLife> {
        match &self.objects[object] {
            Kind::File(file) => Some(file),
            Kind::Folder { .. } => None,
        }
    }

    /// Every file there ever was.
    pub(crate) fn files(&self) -> impl Iterator<Item = (Object, &FileLife)> {
        (0..self.objects.len()).filter_map(|object| Some((object, self.file(object)?)))
    }

    /// Whether a sync that was complete at `cut` keeps `renaming`.
    pub(crate) fn keeps(&self, renaming: &Timed<Renaming>, cut: Moment) -> bool {
        let gone = renaming.what.gone.as_ref().map(|(folder, _)| *folder);
        let come = renaming.what.come.as_ref().map(|(folder, ..)| *folder);
        [gone, come].into_iter().flatten().any(|folder| match &self.objects[folder] {
            Kind::Folder { syncs, .. } => syncs.iter().any(|sync| sync.end <= cut && renaming.end < sync.begin),
            Kind::File(_) => false,
        })
    }

    /// The folders, with `kept` of the renamings carried out.
    pub(crate) fn folders<'a>(&'a self, kept: impl Iterator<Item = &'a Renaming>) -> HashMap<Object, Entries> {
        let folders = self.objects.iter().enumerate().filter_map(|(object, kind)| match kind {
            Kind::Folder { base, .. } => Some((object, base.clone())),
            Kind::File(_) => None,
        });
        let mut folders: HashMap<Object, Entries> = folders.collect();
        for renaming in kept {
            if let Some((folder, name)) = &renaming.gone
                && let Some(entries) = folders.get_mut(folder)
            {
                entries.remove(name);
            }
            if let Some((folder, name, object)) = &renaming.come
                && let Some(entries) = folders.get_mut(folder)
            {
                entries.insert(name.clone(), *object);
            }
        }
        folders
    }

    /// Compares what the trace says with the files as they stand after the life.
    ///
    /// # Errors
    /// If they differ: then something was done that was not recorded.
    pub(crate) fn check_whole(&self, folder: &Path) -> Result<(), Failed> {
        let folders = self.folders(self.renamings.iter().map(|renaming| &renaming.what));
        self.check_folder(&folders, 0, folder)
    }

    fn check_folder(&self, folders: &HashMap<Object, Entries>, object: Object, path: &Path) -> Result<(), Failed> {
        let differs = |what: &Path| Failed::Trace(format!("{what:?} is not what was recorded"));
        let entries = &folders[&object];
        let found = names_in(path)?;
        if !found.iter().eq(entries.keys()) {
            return Err(differs(path));
        }
        for (name, object) in entries {
            let path = path.join(name);
            if let Some(file) = self.file(*object) {
                let mut image = file.base.clone();
                file.changes.iter().for_each(|change| image.change(&change.what));
                if !image.is_same(&Image::read(&path)?) {
                    return Err(differs(&path));
                }
            } else {
                self.check_folder(folders, *object, &path)?;
            }
        }
        Ok(())
    }
}

fn names_in(path: &Path) -> Result<Vec<String>, Failed> {
    let entries = fs::read_dir(path).map_err(Failed::io("read a folder", path))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(Failed::io("read a folder", path))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The files as the process saw them, call by call.
struct Following {
    objects: Vec<Kind>,
    /// The entries of each folder, by its number.
    now: Vec<Entries>,
    sizes: Vec<u64>,
    inodes: HashMap<u64, Object>,
}

impl Following {
    fn add(&mut self, kind: Kind) -> Object {
        let (now, size) = match &kind {
            Kind::File(file) => (Entries::new(), file.base.size()),
            Kind::Folder { base, .. } => (base.clone(), 0),
        };
        self.objects.push(kind);
        self.now.push(now);
        self.sizes.push(size);
        self.objects.len() - 1
    }

    fn read_folder(&mut self, path: &Path) -> Result<Object, Failed> {
        let folder = self.add(Kind::Folder { base: Entries::new(), syncs: Vec::new() });
        let mut entries = Entries::new();
        for name in names_in(path)? {
            let path = path.join(&name);
            let object = if path.is_dir() {
                self.read_folder(&path)?
            } else {
                let base = Image::read(&path)?;
                self.add(Kind::File(FileLife {
                    names: [name.clone()].into(),
                    longest: base.size(),
                    base,
                    ..FileLife::default()
                }))
            };
            entries.insert(name, object);
        }
        self.now[folder] = entries.clone();
        self.objects[folder] = Kind::Folder { base: entries, syncs: Vec::new() };
        Ok(folder)
    }

    /// The folder a path lies in, its name there, and what stands under it.
    fn find(&self, path: &str) -> Result<(Object, String, Option<Object>), Failed> {
        let unknown = || Failed::Trace(format!("{path:?} lies in no folder that is known"));
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
        let mut folder = 0;
        while let Some(part) = parts.next() {
            if part == ".." {
                return Err(Failed::Trace(format!("{path:?} is not a plain path")));
            }
            let found = self.now[folder].get(part).copied();
            if parts.peek().is_none() {
                return Ok((folder, part.to_owned(), found));
            }
            folder = found.ok_or_else(unknown)?;
        }
        Ok((0, String::new(), Some(0)))
    }

    fn carry_out(&mut self, begin: Moment, end: Moment, call: Call) -> Result<Option<Renaming>, Failed> {
        let change = |what| Timed { begin, end, what };
        match call {
            Call::Open { path, inode, is_folder, creates, empties } => {
                let (folder, name, found) = self.find(&path)?;
                let made = found.is_none();
                let object = match found {
                    Some(object) => object,
                    None if creates && !is_folder => {
                        self.add(Kind::File(FileLife { names: [name.clone()].into(), ..FileLife::default() }))
                    }
                    None => return Err(Failed::Trace(format!("{path:?} was opened and is not known"))),
                };
                self.inodes.insert(inode, object);
                if empties && self.sizes[object] > 0 {
                    self.change(object, change(Change::Truncate { length: 0 }))?;
                }
                if made {
                    self.now[folder].insert(name.clone(), object);
                    return Ok(Some(Renaming { gone: None, come: Some((folder, name, object)) }));
                }
            }
            Call::MakeFolder { path } => {
                let (folder, name, _) = self.find(&path)?;
                let object = self.add(Kind::Folder { base: Entries::new(), syncs: Vec::new() });
                self.now[folder].insert(name.clone(), object);
                return Ok(Some(Renaming { gone: None, come: Some((folder, name, object)) }));
            }
            Call::Remove { path } => {
                let (folder, name, _) = self.find(&path)?;
                self.now[folder].remove(&name);
                return Ok(Some(Renaming { gone: Some((folder, name)), come: None }));
            }
            Call::Rename { from, to } => {
                let (from_folder, from_name, object) = self.find(&from)?;
                let (to_folder, to_name, _) = self.find(&to)?;
                let object = object.ok_or_else(|| Failed::Trace(format!("{from:?} was renamed and is not known")))?;
                if let Kind::File(file) = &mut self.objects[object] {
                    file.names.insert(to_name.clone());
                }
                self.now[from_folder].remove(&from_name);
                self.now[to_folder].insert(to_name.clone(), object);
                return Ok(Some(Renaming {
                    gone: Some((from_folder, from_name)),
                    come: Some((to_folder, to_name, object)),
                }));
            }
            Call::Write { inode, offset, bytes } => {
                self.change(self.object(inode)?, change(Change::Write { offset, bytes }))?;
            }
            Call::Truncate { inode, length } => {
                self.change(self.object(inode)?, change(Change::Truncate { length }))?;
            }
            Call::Allocate { inode, offset, length } => {
                self.change(self.object(inode)?, change(Change::Extend { length: offset + length }))?;
            }
            Call::Sync { inode } => {
                let object = self.object(inode)?;
                match &mut self.objects[object] {
                    Kind::File(FileLife { syncs, .. }) | Kind::Folder { syncs, .. } => {
                        syncs.push(Timed { begin, end, what: () });
                    }
                }
            }
            Call::SyncRange { inode, offset, length } => {
                let length = if length == 0 { u64::MAX - offset } else { length };
                let object = self.object(inode)?;
                if let Kind::File(file) = &mut self.objects[object] {
                    file.ranges.push(Timed { begin, end, what: (offset, length) });
                }
            }
            Call::Mark { .. } => {}
        }
        Ok(None)
    }

    fn object(&self, inode: u64) -> Result<Object, Failed> {
        let found = self.inodes.get(&inode).copied();
        found.ok_or_else(|| Failed::Trace(format!("inode {inode} was used and never opened")))
    }

    fn change(&mut self, object: Object, change: Timed<Change>) -> Result<(), Failed> {
        let Kind::File(file) = &mut self.objects[object] else {
            return Err(Failed::Trace("a folder was written to".to_owned()));
        };
        self.sizes[object] = change.what.size_after(self.sizes[object]);
        file.longest = file.longest.max(self.sizes[object]);
        file.changes.push(change);
        Ok(())
    }
}
