//! One copy for backup and move: read what stands, follow what is committed meanwhile, end between two groups.
//!
//! From the beginning of a copy a tap hands on every batch that is applied. The copier reads the store in slices, beside whoever
//! commits, and applies to the target: a slice as soon as it is read, then the batches that came. A slice may hold values newer
//! than batches that are still to come, but every key that was written since the beginning is in a batch, whole values and no
//! changes; so once the last slice was read and the batches are applied up to some point between two groups, the target holds
//! exactly what stood at that point. Whoever commits pays for a copy of each batch, and waits only if the target is slower than
//! the commits for so long that 16 MiB wait for it; a target that makes no room for 5 seconds is given up.

mod compare;
mod follow;
mod moving;
mod tap;

pub use moving::Moved;
pub(super) use moving::{move_to, say_moved};

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures::executor::block_on;

use super::Limits;
use super::engine::{Batch, Engine};
use super::layout::{ABSORBED, CLEAN, MOVED, after, describe, frame};
use super::shared::Shared;
use super::store::Hand;
use crate::error::StoreError;
use crate::store::{Direction, Durability, Row};
use follow::{Follower, guarded};
use tap::{Lag, Tapped};

/// Where a copy goes: an engine that is empty but for what is its own, and what makes a store of it once everything is in it.
pub struct Target {
    place: String,
    engine: Arc<dyn Engine>,
    finish: Finish,
    lag: Lag,
    limits: Option<Limits>,
}

type Finish = Box<dyn FnOnce() -> Result<(), StoreError> + Send>;

impl Target {
    /// A target called `place`, for messages. `finish` comes once, when everything is in `engine` and synced; what was not finished
    /// must never be taken for a store.
    pub fn new(
        place: impl Into<String>,
        engine: Arc<dyn Engine>,
        finish: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Self {
        Self { place: place.into(), engine, finish: Box::new(finish), lag: Lag::default(), limits: None }
    }

    /// What the engine bears in one batch: a running store that commits more does not move there.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// How far the target may fall behind the commits: how many bytes of batches wait for it before commits wait too, and how long
    /// one of those waits before the target is given up.
    ///
    /// # Default
    /// 16 MiB, 5 seconds.
    pub fn lag(mut self, bytes: usize, patience: Duration) -> Self {
        self.lag = Lag { bytes, patience };
        self
    }
}

impl Target {
    /// Has `fill` fill the engine, and makes a store of it.
    pub(super) fn fill<T>(self, fill: impl FnOnce(&dyn Engine) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let filled = guarded(|| fill(&*self.engine))?;
        guarded(self.finish)?;
        Ok(filled)
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// How many entries were read.
    pub entries: u64,
    /// How many bytes of keys and values.
    pub bytes: u64,
    /// How many batches were committed meanwhile and followed.
    pub followed: u64,
}

impl Copied {
    fn add(&mut self, rows: &[Row]) {
        self.entries += rows.len() as u64;
        self.bytes += rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
    }
}

/// How many entries, and about how many bytes, are read at once.
const ENTRIES: usize = 512;
const BYTES: usize = 256 * 1024;

/// Whether an entry belongs to the engine that holds it, and not to the store.
pub(super) fn is_the_engines_own(key: &[u8]) -> bool {
    key == MOVED || key == ABSORBED
}

/// Copies a store that is open, as it stands at one moment between two groups, and marks the copy as closed in good order.
pub(super) fn backup(shared: &Arc<Shared>, hand: &Hand, target: Target) -> Result<Copied, StoreError> {
    let Target { engine, finish, lag, .. } = target;
    let mut copier = Copier::begin(shared, hand, engine, lag)?;
    copier.copy()?;
    copier.end()?;
    copier.follower.apply(Batch::from([(CLEAN.to_vec(), Some(frame(CLEAN, &[1])))]))?;
    copier.follower.sync()?;
    guarded(finish)?;
    Ok(copier.copied)
}

/// Copies an engine that no store has open, as it is.
pub(super) fn copy_closed(source: &dyn Engine, target: Target) -> Result<Copied, StoreError> {
    target.fill(|engine| copy_into(source, engine))
}

fn copy_into(source: &dyn Engine, engine: &dyn Engine) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    slices(
        |from, limit| source.scan(&from..&ALL_END[..], Direction::Forward, limit),
        |rows| {
            copied.add(&rows);
            engine.apply(rows.into_iter().map(|(key, value)| (key, Some(value))).collect())
        },
    )?;
    engine.sync(Durability::Sync)?;
    Ok(copied)
}

/// As [`copy_closed`], compares both sides, and marks the source as one that moved away.
pub(super) fn move_closed(source: &dyn Engine, target: Target) -> Result<Copied, StoreError> {
    let place = target.place.clone();
    let read = |engine: &dyn Engine, from: Vec<u8>| engine.scan(&from..&ALL_END[..], Direction::Forward, ENTRIES);
    let copied = target.fill(|engine| {
        let copied = copy_into(source, engine)?;
        let mut from = Vec::new();
        loop {
            let mut here = read(source, from.clone())?;
            let Some((last, _)) = here.last() else { return Ok(copied) };
            let upto = after(last);
            let mut there = engine.scan(&from..&upto, Direction::Forward, here.len() + 2)?;
            for side in [&mut here, &mut there] {
                side.retain(|(key, _)| !is_the_engines_own(key));
            }
            if here != there {
                let differs = here.iter().zip(&there).find(|(here, there)| here != there);
                let key = differs.map_or(&upto, |((key, _), _)| key);
                let reason = "the copy of it, or of what follows it, is not the same".to_owned();
                return Err(StoreError::Damaged { what: describe(key), reason });
            }
            from = upto;
        }
    })?;
    say_moved(source, Some(&place))?;
    Ok(copied)
}

const ALL_END: [u8; 1] = [u8::MAX];

/// Reads everything in slices of bounded size, without what is the engine's own, and hands each on.
fn slices(
    read: impl Fn(Vec<u8>, usize) -> Result<Vec<Row>, StoreError>,
    mut give: impl FnMut(Vec<Row>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = Vec::new();
    let mut limit = 1;
    loop {
        let mut rows = read(from, limit)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = after(last);
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        limit = (BYTES * rows.len() / bytes.max(1)).clamp(1, ENTRIES);
        rows.retain(|(key, _)| !is_the_engines_own(key));
        give(rows)?;
    }
}

/// A copy on its way.
struct Copier<'a> {
    shared: &'a Arc<Shared>,
    hand: &'a Hand,
    source: Arc<dyn Engine>,
    follower: Arc<Follower>,
    tapped: bool,
    copied: Copied,
}

impl<'a> Copier<'a> {
    /// Taps what is committed from now on.
    fn begin(shared: &'a Arc<Shared>, hand: &'a Hand, target: Arc<dyn Engine>, lag: Lag) -> Result<Self, StoreError> {
        let follower = Follower::new(target, lag);
        let (state, tap) = (shared.clone(), follower.tap.clone());
        let source = block_on(hand.turn(move |_| {
            let engine = state.engine()?;
            if state.copying.swap(true, SeqCst) {
                return Err(StoreError::CopyRuns);
            }
            state.replace(Arc::new(Tapped { engine: engine.clone(), tap }))?;
            Ok(engine)
        }))?;
        Ok(Self { shared, hand, source, follower, tapped: true, copied: Copied::default() })
    }

    /// Copies everything, so that the target is a moment behind the store.
    fn copy(&mut self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let read = |from: Vec<u8>, limit| shared.scan_raw(&(from..ALL_END.to_vec()), Direction::Forward, limit);
        slices(read, |rows| {
            self.copied.add(&rows);
            self.follower.apply(rows.into_iter().map(|(key, value)| (key, Some(value))).collect())?;
            self.follower.follow(self.follower.tap.came())
        })
    }

    /// Ends between two groups: the target stands where the store stands then.
    fn end(&mut self) -> Result<(), StoreError> {
        self.untap()?;
        self.copied.followed = self.follower.tap.came();
        self.follower.follow(u64::MAX)
    }

    fn untap(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.tapped) {
            return Ok(());
        }
        let (state, tap, source) = (self.shared.clone(), self.follower.tap.clone(), self.source.clone());
        self.follower.turn(self.hand, move |_| {
            tap.close();
            state.copying.store(false, SeqCst);
            state.replace(source)
        })
    }
}

impl Drop for Copier<'_> {
    fn drop(&mut self) {
        // It failed, or it has ended: the store goes on without a tap. One that is closed has none.
        if self.tapped {
            self.follower.tap.close();
            let _ = self.untap();
        }
    }
}
