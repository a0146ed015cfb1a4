//! Carries out an [`AckMode`]: when what was handled outside the store becomes a settlement.
//!
//! Gathers what calls came to, and settles it in one commit. While one is being settled the next is gathered.
//! What is not settled when the process ends is called again; nothing here is ever lost, only done again.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::Ground;
use super::record::{record, record_each};
use super::worker::Progress;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::listener::AckMode;
use crate::store::{CursorChange, Durability, Position};

/// More is not gathered, whatever the mode says.
pub(super) const MOST: usize = 1 << 16;

/// What was handled and is not settled.
pub(super) struct Acks {
    mode: AckMode,
    handled: Vec<Handled>,
    /// How many of them are to be settled at once, whatever the mode says.
    pressing: usize,
    /// The lowest position of them that the log has.
    lowest: Option<Position>,
    /// When the first of them was handled.
    since: Option<Timestamp>,
    settling: Option<JoinHandle<Result<(), StoreError>>>,
    /// The lowest position that is being settled.
    settling_from: Option<Position>,
    progress: Arc<Progress>,
}

/// A delivery that was handled.
#[derive(Debug, Clone, Copy)]
struct Handled {
    position: Position,
    /// Whether the store keeps something about it that goes with it.
    kept: Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    /// What it failed with, or a mark.
    Row,
    Parked,
}

/// What the worker is at when it asks whether to settle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// Nothing is being called or could be.
    pub(super) drained: bool,
    /// Nothing more will be called for now.
    pub(super) ending: bool,
    /// How many are gathered at most in mode `Batch`.
    pub(super) window: usize,
}

impl Acks {
    pub(super) fn new(mode: AckMode, progress: Arc<Progress>) -> Self {
        Self {
            mode,
            handled: Vec::new(),
            pressing: 0,
            lowest: None,
            since: None,
            settling: None,
            settling_from: None,
            progress,
        }
    }

    /// It was handled; to be settled at once if `is_pressing`.
    pub(super) fn add(&mut self, position: Position, kept: Kept, is_pressing: bool, now: Timestamp) {
        self.since.get_or_insert(now);
        self.pressing += usize::from(is_pressing);
        self.handled.push(Handled { position, kept });
        if kept != Kept::Parked && self.lowest.is_none_or(|lowest| position < lowest) {
            self.lowest = Some(position);
        }
    }

    /// How many are handled and not being settled.
    pub(super) fn gathered(&self) -> usize {
        self.handled.len()
    }

    /// How many are handled, and are to be settled as soon as what is being settled is.
    pub(super) fn pressing(&self) -> usize {
        self.pressing
    }

    /// How many are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.handled.len() + usize::from(self.settling.is_some())
    }

    pub(super) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// The lowest position that is handled and not settled.
    pub(super) fn lowest(&self) -> Option<Position> {
        self.lowest.into_iter().chain(self.settling_from).min()
    }

    /// When something is to be settled for its age.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.mode {
            AckMode::Time(after) | AckMode::CountOrTime(_, after) if self.settling.is_none() => {
                self.since.map(|since| since.saturating_add(after))
            }
            _ => None,
        }
    }

    /// Begins to settle what is to be settled at this moment; `open` is the lowest position that is pending.
    pub(super) fn begin(
        &mut self,
        ground: &Arc<Ground>,
        listener: &Arc<str>,
        moment: Moment,
        open: impl FnOnce() -> Option<Position>,
    ) {
        if self.settling.is_some() || self.handled.is_empty() {
            return;
        }
        let timely = self.due().is_some_and(|due| due <= moment.now);
        let enough = |count: usize| self.handled.len() >= count;
        let all = moment.ending
            || self.pressing > 0
            || enough(MOST)
            || match self.mode {
                AckMode::Record | AckMode::ManualImmediate => true,
                AckMode::Batch => moment.drained || enough(moment.window),
                AckMode::Count(count) => moment.drained || enough(count),
                AckMode::Time(_) => timely,
                AckMode::CountOrTime(count, _) => timely || enough(count),
                AckMode::Manual => false,
            };
        let mut chosen = Vec::new();
        if all {
            chosen = std::mem::take(&mut self.handled);
            self.pressing = 0;
        } else if self.mode == AckMode::Manual {
            // Until everything before it has been acknowledged.
            let before = open().unwrap_or(Position(u64::MAX));
            (chosen, self.handled) =
                self.handled.drain(..).partition(|one| one.position < before || one.kept == Kept::Parked);
        }
        if chosen.is_empty() {
            return;
        }
        self.since = self.handled.first().map(|_| moment.now);
        (self.lowest, self.settling_from) = (lowest(&self.handled), lowest(&chosen));
        let durability = match self.mode {
            AckMode::ManualImmediate => ground.durability,
            // Losing it in a power cut means another call, which these listeners have to reckon with anyway.
            _ => ground.durability.min(Durability::Flush),
        };
        let (ground, listener, progress) = (ground.clone(), listener.clone(), self.progress.clone());
        self.settling = Some(tokio::spawn(async move {
            let positions: Vec<Position> = chosen.iter().map(|one| one.position).collect();
            settle(ground, listener, chosen, durability).await?;
            progress.desk().settled(positions.into_iter());
            Ok(())
        }));
    }

    /// Waits for what is being settled.
    ///
    /// # Cancel safety
    /// Dropped, it is still being settled, and waited for by the next call.
    pub(super) async fn settled(&mut self) -> Result<(), StoreError> {
        let Some(settling) = &mut self.settling else { return Ok(()) };
        let settled = settling.await;
        self.settling = None;
        self.settling_from = None;
        settled.unwrap_or_else(|error| Err(StoreError::backend("settle what was handled", error)))
    }
}

/// Settles deliveries: in one commit, but for those that take a record of their own with them, of which a commit takes few.
async fn settle(
    ground: Arc<Ground>,
    listener: Arc<str>,
    mut handled: Vec<Handled>,
    durability: Durability,
) -> Result<(), StoreError> {
    handled.sort_by_key(|one| one.position);
    let (plain, kept): (Vec<Handled>, Vec<Handled>) = handled.into_iter().partition(|one| one.kept == Kept::Nothing);
    let ranges = ranges(plain.iter().map(|one| one.position.0));
    let done = |at: u64, covers| CursorChange::Done { position: Position(at), covers };
    let changes: Vec<CursorChange> = ranges.into_iter().map(|(from, to)| done(from, from..to)).collect();
    if !changes.is_empty() && !record(&ground, &listener, changes, durability).await? {
        // One was settled before: each by itself.
        let each = plain.iter().map(|one| done(one.position.0, one.position.0..one.position.0 + 1)).collect();
        record_each(&ground, &listener, each, durability).await?;
    }
    let kept = kept.into_iter().map(|one| match one.kept {
        Kept::Parked => CursorChange::Resolved { position: one.position },
        _ => done(one.position.0, one.position.0..one.position.0 + 1),
    });
    record_each(&ground, &listener, kept.collect(), durability).await.map(drop)
}

/// The lowest position that the log has.
fn lowest(handled: &[Handled]) -> Option<Position> {
    handled.iter().filter(|one| one.kept != Kept::Parked).map(|one| one.position).min()
}

/// Neighbours as half open ranges; `positions` ascend.
fn ranges(positions: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for at in positions {
        match ranges.last_mut() {
            Some((_, end)) if *end == at => *end = at + 1,
            _ => ranges.push((at, at + 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_range() {
        assert_eq!(ranges([3, 4, 5, 9, 11, 12].into_iter()), [(3, 6), (9, 10), (11, 13)]);
    }
}
