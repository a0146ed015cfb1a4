//! Moving a running store from one engine to another, with the old one kept for going back.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

use super::follow::{Follower, guarded};
use super::tap::Tapped;
use super::{Copied, Copier, Target};
use crate::error::StoreError;
use crate::store::Durability;
use crate::store::embedded::commit::CommitCore;
use crate::store::embedded::engine::{Batch, Engine};
use crate::store::embedded::layout::{CLEAN, MOVED, frame};
use crate::store::embedded::shared::Shared;
use crate::store::embedded::store::Hand;

/// A store that has moved: units commit to the new engine, and the old one follows a moment behind until it is told otherwise.
///
/// Dropped, it changes nothing: the old engine follows until the store is closed.
#[must_use = "the old engine follows until `finish` or `go_back`"]
pub struct Moved {
    shared: Arc<Shared>,
    hand: Hand,
    /// The new engine, and its name.
    new: Arc<dyn Engine>,
    place: String,
    /// The old one.
    follower: Arc<Follower>,
    thread: JoinHandle<Result<(), StoreError>>,
    copied: Copied,
}

/// Copies, follows, compares and switches.
pub(in super::super) fn move_to(shared: &Arc<Shared>, hand: &Hand, target: Target) -> Result<Moved, StoreError> {
    let Target { place, engine: new, finish, lag, limits } = target;
    let (most, used) = (limits.unwrap_or(shared.limits), shared.limits);
    if used.group_bytes > most.group_bytes || used.unit_bytes > most.unit_bytes {
        let action = "move while it runs to an engine that takes smaller units only: copy it closed";
        return Err(StoreError::Unsupported { action, store: shared.engine()?.kind() });
    }
    let mut copier = Copier::begin(shared, hand, new.clone(), lag)?;
    copier.copy()?;
    copier.compare()?;
    let old = copier.source.clone();
    let back = Follower::new(old.clone(), lag);
    let thread = {
        let back = back.clone();
        std::thread::Builder::new()
            .name("aftercommit-follower".to_owned())
            .spawn(move || back.follow_to_the_end().inspect_err(|error| back.tap.fail(error.clone())))
            .map_err(|cause| StoreError::backend("start the thread that follows", cause))?
    };
    let (state, there, back_tap, mark) = (shared.clone(), copier.follower.clone(), back.tap.clone(), place.clone());
    let switched = copier.follower.turn(hand, move |core: &mut CommitCore| {
        core.sync_all()?;
        there.tap.close();
        there.follow(u64::MAX)?;
        there.sync()?;
        guarded(finish)?;
        // From here on there are two whole stores; the old one must not be taken for the one in use.
        if let Err(error) = say_moved(&*old, Some(&mark)) {
            // It stays where it is; the other one is the one not to be taken for it.
            say_moved(&*there.engine, Some("where it came from: the move there was not completed"))?;
            return Err(error);
        }
        state.replace(Arc::new(Tapped { engine: there.engine.clone(), tap: back_tap }))
    });
    if let Err(error) = switched {
        back.tap.close();
        let _ = thread.join();
        return Err(error);
    }
    copier.tapped = false;
    let copied = Copied { followed: copier.follower.tap.came(), ..copier.copied };
    Ok(Moved { shared: shared.clone(), hand: hand.clone(), new, place, follower: back, thread, copied })
}

/// Marks an engine as one that moved away, so that it is not opened unasked; or as one that did not.
pub(in super::super) fn say_moved(engine: &dyn Engine, to: Option<&str>) -> Result<(), StoreError> {
    let mark = to.map(|to| frame(MOVED, to.as_bytes()));
    guarded(|| {
        engine.apply(Batch::from([(MOVED.to_vec(), mark)]))?;
        engine.sync(Durability::Sync)
    })
}

impl Moved {
    /// What was copied.
    pub fn copied(&self) -> Copied {
        self.copied
    }

    /// Gives the old engine up. It is whole, as of this moment; opening it is refused with words, unless the move is to be ignored.
    ///
    /// # Errors
    /// Why the old engine did not follow to the end; the store is on the new one all the same.
    pub fn finish(self) -> Result<(), StoreError> {
        let Self { shared, hand, new, follower, thread, .. } = self;
        let tap = follower.tap.clone();
        follower.turn(&hand, move |core| {
            core.sync_all()?;
            tap.close();
            shared.copying.store(false, SeqCst);
            shared.replace(new)
        })?;
        followed(thread)?;
        follower.apply(Batch::from([(CLEAN.to_vec(), Some(frame(CLEAN, &[1])))]))?;
        follower.sync()
    }

    /// Goes back to the old engine, with everything that was committed meanwhile. The new one is given up and says so.
    ///
    /// # Errors
    /// Why the old engine did not follow; the store stays on the new one, and the old one is given up.
    pub fn go_back(self) -> Result<(), StoreError> {
        let Self { shared, hand, new, place, follower, thread, .. } = self;
        let back = follower.clone();
        let there = new.clone();
        let state = shared.clone();
        let switched = follower.turn(&hand, move |core| {
            core.sync_all()?;
            back.tap.close();
            back.follow(u64::MAX)?;
            back.sync()?;
            say_moved(&*there, Some(&format!("where it came from, before it was moved to {place}")))?;
            say_moved(&*back.engine, None)?;
            state.copying.store(false, SeqCst);
            state.replace(back.engine.clone())
        });
        if let Err(error) = switched {
            // It stays where it is.
            let tap = follower.tap.clone();
            follower.turn(&hand, move |_| {
                tap.close();
                say_moved(&*new, None)?;
                shared.copying.store(false, SeqCst);
                shared.replace(new)
            })?;
            let _ = followed(thread);
            return Err(error);
        }
        followed(thread)
    }
}

/// Waits for the thread that follows.
fn followed(thread: JoinHandle<Result<(), StoreError>>) -> Result<(), StoreError> {
    thread.join().unwrap_or_else(|panic| Err(crate::store::embedded::shared::panicked(&*panic)))
}
