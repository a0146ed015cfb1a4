//! The folder of a store, whatever engine is in it: telling whose it is, holding it, and making it.
//!
//! ```text
//! shop-data/
//!   aftercommit.lock     held while a store has the folder open
//!   aftercommit.new/     a store that is being made; renamed to `store` once all of it is on the disk
//!   aftercommit.copying  there as long as a copy into this folder is not whole
//!   store/
//!     format             what the folder holds
//!     journal            what was committed and may not be in the engine yet
//!     ...                the engine's own files
//! ```
//!
//! What the engine's own files are, and how they are opened, is left to its [`Tenant`].

mod marker;
mod prepare;

pub(super) use prepare::{open_existing, prepare, which};

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{disk, hold};
use marker::Marker;
pub(super) use marker::Which;

use crate::error::{Panicked, StoreError};
use crate::store::embedded::{EmbeddedStore, Engine, Journaled, Limits};

const LOCK: &str = "aftercommit.lock";
const NEW: &str = "aftercommit.new";
const COPYING: &str = "aftercommit.copying";
const STORE: &str = "store";
const FORMAT: &str = "format";
const JOURNAL: &str = "journal";

/// An engine as the folder knows it: its files lie in the folder `store`, beside the format marker and the journal.
pub(super) trait Tenant {
    /// The opened engine.
    type Engine: Engine;

    /// Which engine it is.
    const WHICH: Which;

    /// What the marker says of a new store besides which engine it is: what can never be changed later.
    fn fixed(&self) -> Vec<u8>;

    /// Makes the engine's files in the empty folder `store`, and opens them.
    fn create(&self, store: &Path) -> Result<Self::Engine, StoreError>;

    /// Opens the engine's files in `store`; `lock` is to be let go of after them.
    fn open(&self, store: &Path, fixed: &[u8], lock: File) -> Result<Self::Engine, StoreError>;

    /// How much the engine may take between two full syncs, among others.
    fn limits(&self) -> Limits;

    /// Waits until an engine that was dropped has let go of its files in `store`.
    fn wait_until_free(&self, store: &Path) -> Result<(), StoreError>;
}

/// What a path holds.
enum Found {
    /// A store.
    Store(Marker),
    /// Nothing yet, or a store whose making was cut short.
    Nothing,
    /// A copy of a store that is not whole.
    PartOfACopy,
}

/// Opens the store in `path`, or makes one there; waits up to `wait` while somebody else holds it.
pub(super) fn open<T: Tenant>(tenant: &T, path: &Path, wait: Duration) -> Result<Journaled, StoreError> {
    // Whatever is not ours is left as it is: look before the lock file is made, and again once nobody else can change it.
    if let Found::PartOfACopy = look(path, T::WHICH)? {
        return Err(part_of_a_copy(path));
    }
    disk::make_folder(path)?;
    let lock = hold::hold(path, LOCK, wait)?;
    let marker = match look(path, T::WHICH)? {
        Found::Store(marker) => marker,
        Found::Nothing => make(tenant, path)?,
        Found::PartOfACopy => return Err(part_of_a_copy(path)),
    };
    let store = path.join(STORE);
    tenant.wait_until_free(&store)?;
    open_engine(tenant, &store, &marker.fixed, lock)
}

/// Makes the engine in the empty folder `store`, behind a journal.
fn create_engine<T: Tenant>(tenant: &T, store: &Path) -> Result<Journaled, StoreError> {
    let engine = guarded(|| tenant.create(store))?;
    Journaled::create(&engine, &store.join(JOURNAL))?;
    Journaled::open(Arc::new(engine), &store.join(JOURNAL), tenant.limits())
}

/// Opens the engine in the folder `store`, and hands it what the journal has and it has not.
fn open_engine<T: Tenant>(tenant: &T, store: &Path, fixed: &[u8], lock: File) -> Result<Journaled, StoreError> {
    let engine = guarded(|| tenant.open(store, fixed, lock))?;
    Journaled::open(Arc::new(engine), &store.join(JOURNAL), tenant.limits())
}

fn part_of_a_copy(path: &Path) -> StoreError {
    let reason = "it holds a part of a copy that was not finished: copy into it once more, or remove it".to_owned();
    StoreError::NotAStore { path: path.to_owned(), reason }
}

fn look(path: &Path, which: Which) -> Result<Found, StoreError> {
    let not_ours = |reason: &str| StoreError::NotAStore { path: path.to_owned(), reason: reason.to_owned() };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => return Err(not_ours("it is no folder")),
        Err(cause) => return Err(StoreError::backend("read the store's folder", cause)),
    };
    let names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|cause| StoreError::backend("read the store's folder", cause))?;
    if names.iter().all(|name| name == LOCK || name == NEW) {
        return Ok(Found::Nothing);
    }
    // Where our lock file is, a store of ours has been.
    let held_before = names.iter().any(|name| name == LOCK);
    if held_before && names.iter().any(|name| name == COPYING) {
        return Ok(Found::PartOfACopy);
    }
    match fs::read(path.join(STORE).join(FORMAT)) {
        Ok(bytes) if held_before || Marker::is_one(&bytes) => Marker::decode(&bytes, which, path).map(Found::Store),
        Ok(_) => Err(not_ours(&format!("its `{STORE}/{FORMAT}` is no format marker"))),
        Err(_) if held_before && names.iter().any(|name| name == STORE) => Err(StoreError::Damaged {
            what: format!("the store in {path:?}"),
            reason: format!("its format marker `{STORE}/{FORMAT}` cannot be read"),
        }),
        Err(_) => Err(not_ours(&format!("the folder is not empty and holds no `{STORE}/{FORMAT}`"))),
    }
}

/// Makes a store aside and moves it into place in one step.
fn make<T: Tenant>(tenant: &T, path: &Path) -> Result<Marker, StoreError> {
    let failed = |action| move |cause: io::Error| StoreError::backend(action, cause);
    let new = path.join(NEW);
    match fs::remove_dir_all(&new) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::backend("clear away a half-made store", cause));
        }
        _ => {}
    }
    fs::create_dir(&new).map_err(failed("make the store's folder"))?;
    let marker = Marker { which: T::WHICH, fixed: tenant.fixed() };
    let engine = create_engine(tenant, &new)?;
    EmbeddedStore::create(&engine)?;
    drop(engine);
    tenant.wait_until_free(&new)?;
    mark(&new, &marker)?;
    disk::sync_all_in(&new)?;
    fs::rename(&new, path.join(STORE)).map_err(failed("move the new store into place"))?;
    disk::sync_folder(path)?;
    Ok(marker)
}

/// Writes the marker of the store in the folder `store`.
fn mark(store: &Path, marker: &Marker) -> Result<(), StoreError> {
    let written = File::create(store.join(FORMAT)).and_then(|mut format| format.write_all(&marker.encode()));
    written.map_err(|cause| StoreError::backend("write the format marker", cause))
}

/// What `opens` answers; its panic is an error.
fn guarded<E>(opens: impl FnOnce() -> Result<E, StoreError>) -> Result<E, StoreError> {
    catch_unwind(AssertUnwindSafe(opens)).unwrap_or_else(|panic| {
        Err(StoreError::backend("open the storage engine, which panicked", Panicked::from_payload(&*panic)))
    })
}
