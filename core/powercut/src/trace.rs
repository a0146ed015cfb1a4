//! The trace a recorder wrote: what a life did to its files, in the order in which each call ended.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::Failed;

/// A moment of a life: the recorder's counter, of which each call draws one number before it and one after it.
pub(crate) type Moment = u64;

/// Bytes that were written: what is stored of them, and as many zeros as are missing.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    pub(crate) all: Arc<[u8]>,
    pub(crate) stored: Range<usize>,
    pub(crate) length: u64,
}

impl Bytes {
    /// How many they are.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// How many they are without the zeros at the end, with which sled fills segments.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.len() as u64
    }

    /// Those from `from` on, without the zeros at the end.
    pub(crate) fn stored_from(&self, from: u64) -> &[u8] {
        self.all[self.stored.clone()].get(from as usize..).unwrap_or_default()
    }
}

/// What was done.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// A file or folder was opened, and perhaps made or emptied.
    Open {
        path: String,
        inode: u64,
        is_folder: bool,
        creates: bool,
        empties: bool,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: Bytes,
    },
    Truncate {
        inode: u64,
        length: u64,
    },
    Allocate {
        inode: u64,
        offset: u64,
        length: u64,
    },
    /// `fsync` or `fdatasync`, of a file or a folder.
    Sync {
        inode: u64,
    },
    /// `sync_file_range`.
    SyncRange {
        inode: u64,
        offset: u64,
        length: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    /// A file or an empty folder was removed.
    Remove {
        path: String,
    },
    MakeFolder {
        path: String,
    },
    /// The program said something, for instance what was acknowledged.
    Mark {
        text: String,
    },
}

/// A call and when it ran. Calls of several threads overlap.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
    pub(crate) call: Call,
}

/// Everything recorded of one life, by the end of each call.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) events: Vec<Event>,
}

const HEAD: usize = 64;

impl Trace {
    /// Reads what the recorder wrote, for the folder `root`; paths are relative to it.
    ///
    /// # Errors
    /// If the file cannot be read, or ends in the middle of an entry.
    pub(crate) fn read(file: &Path, root: &Path) -> Result<Self, Failed> {
        let all: Arc<[u8]> = fs::read(file).map_err(Failed::io("read the trace", file))?.into();
        let root = root.to_string_lossy();
        let mut events = Vec::new();
        let mut at = 0;
        while at < all.len() {
            let (event, next) =
                read_entry(&all, at, &root).ok_or_else(|| Failed::Trace(format!("it cannot be read at byte {at}")))?;
            events.push(event);
            at = next;
        }
        Ok(Self { events })
    }

    /// The last moment there is.
    pub(crate) fn end(&self) -> Moment {
        self.events.last().map_or(0, |event| event.end)
    }
}

fn read_entry(all: &Arc<[u8]>, at: usize, root: &str) -> Option<(Event, usize)> {
    let head = all.get(at..at + HEAD)?;
    let small = |from: usize| Some(u32::from_ne_bytes(head[from..from + 4].try_into().ok()?) as usize);
    let large = |from: usize| Some(u64::from_ne_bytes(head[from..from + 8].try_into().ok()?));
    let (path_at, other_at) = (at + HEAD, at + HEAD + small(4)?);
    let data_at = other_at + small(8)?;
    let next = data_at + small(12)?;
    let text = |from: usize, to: usize| Some(String::from_utf8_lossy(all.get(from..to)?).into_owned());
    let inside = |path: String| Some(path.strip_prefix(root)?.to_owned());
    let path = || inside(text(path_at, other_at)?);
    let other = || inside(text(other_at, data_at)?);
    all.get(data_at..next)?;
    let (inode, offset, length, flags) = (large(32)?, large(40)?, large(48)?, large(56)?);
    let call = match head[0] {
        b'O' => Call::Open {
            path: path()?,
            inode,
            is_folder: offset != 0,
            creates: flags & 1 != 0,
            empties: flags & 2 != 0,
        },
        b'W' => Call::Write { inode, offset, bytes: Bytes { all: all.clone(), stored: data_at..next, length } },
        b'T' => Call::Truncate { inode, length },
        b'F' => Call::Allocate { inode, offset, length },
        b'S' => Call::Sync { inode },
        b'R' => Call::SyncRange { inode, offset, length },
        b'N' => Call::Rename { from: path()?, to: other()? },
        b'U' => Call::Remove { path: path()? },
        b'M' => Call::MakeFolder { path: path()? },
        b'A' => Call::Mark { text: text(data_at, next)? },
        _ => return None,
    };
    Some((Event { begin: large(16)?, end: large(24)?, call }, next))
}
