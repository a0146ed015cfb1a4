//! Power-cut replay: what a store's files can look like after a power cut, and whether its promises hold on all of them.
//!
//! `kill -9` does not show this, as the page cache survives the process. So a life of a store is recorded, every write, sync, rename
//! and removal with its data (`record`, with `recorder.c`, a library loaded before libc); at many moments the files are rebuilt as a
//! cut could have left them (`disk` holds what stood there, `cut` draws what survives); each state is opened by the store itself, in
//! a process of its own, and audited (`auditor`, `audit`). After some cuts the store lives on under the recorder, and that life, its
//! recovery above all, is cut again (`run`).
//!
//! After each recording the files are compared with what the trace says: a change that went past the recorder fails the run.
//!
//! # What is assumed of the disk and its file system
//! - A completed `fsync` or `fdatasync` of a file keeps what was written to it before the call began, and its length then.
//! - A completed `fsync` of a folder keeps the entries made, renamed and removed in it before the call began. A rename is one step,
//!   and kept by syncing either of its folders. Syncing a file does not keep its entry.
//! - `sync_file_range` keeps nothing; in a quarter of the states it keeps what it covers below the length last synced.
//! - Everything else may be kept or lost, in any order: pages of 4096 bytes, each as it stood after any of its writes; of a write that
//!   is torn, sectors of 512 bytes, which are whole or not there; lengths; entries.
//! - What never arrived reads as zeros. The disk does not lie about a completed sync, and what is kept does not rot.
//!
//! No power is cut; states are drawn, and not all of them tried; one machine's timing decides which calls overlap.

mod audit;
mod auditor;
mod bare;
pub mod command;
mod cut;
mod disk;
mod image;
mod life;
mod record;
mod run;
mod store;
mod trace;
mod waiting;
mod workload;

pub use audit::Violation;
pub use cut::{Ignored, Syncs};
pub use run::{Plan, Summary, run};
pub use store::Subject;
pub use workload::{WORKLOADS, Workload};

use std::path::{Path, PathBuf};

/// Why a run could not be made: what failed was not the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// A file of the run itself.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The recorder cannot be built.
    #[error("the recorder cannot be built: {0}")]
    Recorder(String),
    /// A life did not end well, or an auditor did not work.
    #[error("a process did not end well: {0}")]
    Life(String),
    /// What was recorded makes no sense.
    #[error("the trace makes no sense: {0}")]
    Trace(String),
}

impl Failed {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |cause| Failed::Io { action, path, cause }
    }
}
