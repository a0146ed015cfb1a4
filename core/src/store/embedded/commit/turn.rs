//! A turn between two groups: work that needs the store to stand still.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::CommitCore;
use crate::error::StoreError;
use crate::store::Position;
use crate::store::embedded::shared::panicked;

/// What is done in a turn, with its answer on its way already.
pub(in super::super) type Task = Box<dyn FnOnce(&mut CommitCore) + Send>;

/// What has been given out so far.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Horizon {
    /// The next log position.
    pub(in super::super) position: Position,
    /// The id of the next large value.
    pub(in super::super) chunk: u64,
}

impl CommitCore {
    /// Does `work` as long as the store may be used; a panic of it stops the store.
    pub(in super::super) fn turn<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.shared.engine()?;
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| Err(self.stop(panicked(&*panic))))
    }

    /// What has been given out so far.
    pub(in super::super) fn horizon(&self) -> Horizon {
        Horizon { position: self.next_position, chunk: self.next_chunk }
    }
}
