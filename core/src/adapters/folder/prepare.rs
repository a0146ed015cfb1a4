//! A folder for a copy, which is no store before all of it is on the disk; and a store that is there, without opening it as one.
//!
//! An engine stays where it was opened, so that a copy cannot be made aside and moved into place while it is in use.
//! Instead the file `aftercommit.copying` stands beside it: removing that, once everything else is synced, makes it a store.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    COPYING, FORMAT, Found, LOCK, NEW, STORE, Tenant, Which, create_engine, disk, hold, look, mark, open_engine,
    part_of_a_copy,
};
use crate::adapters::folder::marker::Marker;
use crate::error::StoreError;
use crate::store::embedded::Journaled;
use crate::store::embedded::copy::Target;

/// Which engine the store in `path` is on; `None` if there is no store.
///
/// # Errors
/// As for opening it.
pub(in crate::adapters) fn which(path: &Path) -> Result<Option<Which>, StoreError> {
    let marker = match fs::read(path.join(STORE).join(FORMAT)) {
        Ok(marker) => Marker::which(&marker),
        Err(_) => None,
    };
    // What cannot be told from the marker is refused as for any engine.
    let which = marker.unwrap_or(Which::Sled);
    match look(path, which)? {
        Found::Store(_) => Ok(Some(which)),
        Found::Nothing => Ok(None),
        Found::PartOfACopy => Err(part_of_a_copy(path)),
    }
}

/// Opens the engine of the store in `path`, and makes nothing.
pub(in crate::adapters) fn open_existing<T: Tenant>(
    tenant: &T,
    path: &Path,
    wait: Duration,
) -> Result<Journaled, StoreError> {
    match look(path, T::WHICH)? {
        Found::Store(_) => super::open(tenant, path, wait),
        Found::PartOfACopy => Err(part_of_a_copy(path)),
        Found::Nothing => {
            let reason = "there is no store in it".to_owned();
            Err(StoreError::NotAStore { path: path.to_owned(), reason })
        }
    }
}

/// A target in the folder `path`, which is made if it is not there. A part of an earlier copy in it goes.
///
/// # Errors
/// [`StoreError::Occupied`] if it holds a store; else as for opening one.
pub(in crate::adapters) fn prepare<T: Tenant>(tenant: &T, path: &Path, wait: Duration) -> Result<Target, StoreError> {
    let free = || match look(path, T::WHICH) {
        Ok(Found::Store(_)) | Err(StoreError::OtherEngine { .. }) => {
            Err(StoreError::Occupied { path: path.to_owned() })
        }
        Ok(Found::Nothing | Found::PartOfACopy) => Ok(()),
        Err(error) => Err(error),
    };
    let failed = |action| move |cause: io::Error| StoreError::backend(action, cause);
    free()?;
    disk::make_folder(path)?;
    let lock = hold::hold(path, LOCK, wait)?;
    free()?;
    let (store, copying) = (path.join(STORE), path.join(COPYING));
    File::create(&copying).and_then(|file| file.sync_all()).map_err(failed("mark a copy as not finished"))?;
    disk::sync_folder(path)?;
    for left in [&store, &path.join(NEW)] {
        match fs::remove_dir_all(left) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                return Err(StoreError::backend("clear away a part of a copy", cause));
            }
            _ => {}
        }
    }
    fs::create_dir(&store).map_err(failed("make the copy's folder"))?;
    let fixed = tenant.fixed();
    drop(create_engine(tenant, &store)?);
    tenant.wait_until_free(&store)?;
    let engine = Arc::new(open_engine(tenant, &store, &fixed, lock)?);
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = place.clone();
    let finish = move || {
        let store = folder.join(STORE);
        mark(&store, &Marker { which: T::WHICH, fixed })?;
        disk::sync_all_in(&store)?;
        fs::remove_file(folder.join(COPYING)).map_err(failed("declare a copy finished"))?;
        disk::sync_folder(&folder)
    };
    Ok(Target::new(place.display().to_string(), engine, finish))
}
