//! sled's snapshots, kept through an opening that is cut short.
//!
//! While it opens, sled writes a snapshot under a new name, removes the old one, and clears segments that it then cannot do without
//! the new one; none of that is synced. After a power cut there may be neither, and sled would take the store for empty.
//! So the snapshots are copied before sled opens, put back if there are none, and removed once the new one is on the disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::adapters::folder::disk::sync_folder;
use crate::error::StoreError;

const SNAPSHOT: &str = "snap.";
const HALF_WRITTEN: &str = ".generating";
/// What a copy is called, so that sled does not see it.
const KEPT: &str = "kept.snap.";

/// Before sled opens: clears what a crash left half-written, with which sled would never open, and keeps the snapshots there are.
pub(super) fn keep(folder: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::backend("keep sled's snapshot", cause);
    let names = match names_in(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(failed)?,
    };
    for name in names.iter().filter(|name| name.starts_with(SNAPSHOT) && name.ends_with(HALF_WRITTEN)) {
        fs::remove_file(folder.join(name)).map_err(failed)?;
    }
    let snapshots: Vec<&String> =
        names.iter().filter(|name| name.starts_with(SNAPSHOT) && !name.ends_with(HALF_WRITTEN)).collect();
    if snapshots.is_empty() {
        for kept in names.iter().filter(|name| name.starts_with(KEPT)) {
            let name = kept.replacen(KEPT, SNAPSHOT, 1);
            let half_written = folder.join(format!("{name}{HALF_WRITTEN}"));
            copy(&folder.join(kept), &half_written).map_err(failed)?;
            fs::rename(&half_written, folder.join(name)).map_err(failed)?;
        }
        return sync_folder(folder);
    }
    forget(folder)?;
    for name in snapshots {
        copy(&folder.join(name), &folder.join(name.replacen(SNAPSHOT, KEPT, 1))).map_err(failed)?;
    }
    sync_folder(folder)
}

/// Once sled is open, before anything is synced into it: its snapshot is on the disk, and no copy is needed.
pub(super) fn release(folder: &Path) -> Result<(), StoreError> {
    sync_folder(folder)?;
    forget(folder)
}

fn forget(folder: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::backend("remove a copy of sled's snapshot", cause);
    for name in names_in(folder).map_err(failed)?.iter().filter(|name| name.starts_with(KEPT)) {
        fs::remove_file(folder.join(name)).map_err(failed)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::create(to)?;
    file.write_all(&fs::read(from)?)?;
    file.sync_all()
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    // sled's own names are text; others are none of ours.
    Ok(names.collect::<io::Result<Vec<OsString>>>()?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
