//! Files and folders that are on the disk, and not only on their way there.

use std::fs::{self, File};
use std::path::Path;

use crate::error::StoreError;

/// Makes the folder `path`, and those it lies in, where they are missing.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|cause| StoreError::backend("make a folder", cause))?;
    sync_folder(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))
}

/// Syncs every file and folder in `folder`, and itself.
#[cfg(any(feature = "sled", feature = "redb"))]
pub(super) fn sync_all_in(folder: &Path) -> Result<(), StoreError> {
    let failed = |cause: std::io::Error| StoreError::backend("sync the new store", cause);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            sync_all_in(&path)?;
        } else {
            match File::open(&path).and_then(|file| file.sync_all()) {
                // An engine that is open may tidy up.
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(failed)?,
            }
        }
    }
    sync_folder(folder)
}

/// Syncs what names `folder` holds.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|cause| StoreError::backend("sync a folder", cause))
}

/// A folder cannot be opened for syncing here.
#[cfg(not(unix))]
pub(super) fn sync_folder(_folder: &Path) -> Result<(), StoreError> {
    Ok(())
}
