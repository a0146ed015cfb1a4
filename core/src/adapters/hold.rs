//! Holding a folder: a lock file, waited for within a bound.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::clock::pause_thread;
use crate::error::StoreError;

/// Takes the lock file `name` of the folder `path`, which also tells two stores of one process apart.
pub(super) fn hold(path: &Path, name: &str, wait: Duration) -> Result<File, StoreError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(name))
        .map_err(|cause| StoreError::backend("open a folder's lock file", cause))?;
    if take(&lock, wait)? { Ok(lock) } else { Err(StoreError::Held { path: path.to_owned(), waited: wait }) }
}

/// Locks `file`, waiting up to `wait` while somebody else holds it; answers whether it is locked now.
pub(super) fn take(file: &File, wait: Duration) -> Result<bool, StoreError> {
    let locked = within(wait, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(StoreError::backend("lock a folder", cause)),
    })?;
    Ok(locked.is_some())
}

/// Attempts until something comes of it, for about as long as `wait`, and at least once.
pub(super) fn within<R>(
    wait: Duration,
    mut attempt: impl FnMut() -> Result<Option<R>, StoreError>,
) -> Result<Option<R>, StoreError> {
    const PAUSE: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    loop {
        let came = attempt()?;
        if came.is_some() || waited >= wait {
            return Ok(came);
        }
        pause_thread(PAUSE);
        waited += PAUSE;
    }
}
