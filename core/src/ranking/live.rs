//! A ranking that lives: what is read off it, and what changes it.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use tokio::sync::watch;

use super::board::{Board, Entry};
use super::changes::Changes;
use super::credit::{Credits, WEIGHT};
use super::declare::Source;
use super::keep::Generations;
use super::score::{Scale, Score, nearest};
use super::tally::{Measured, Tally};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::RankingError;
use crate::key::Key;
use crate::listener::Registration;

/// What can stand in a ranking: it is a key, compares, and hashes.
pub trait Item: Key + Ord + Hash + Clone + fmt::Debug {}

impl<K: Key + Ord + Hash + Clone + fmt::Debug> Item for K {}

/// A live ranking, fed by events. Clones are the same one.
///
/// Given to a bus with [`BusBuilder::ranking`](crate::runtime::BusBuilder::ranking), it is kept: what its durable listeners are given
/// is added to stored measures in the commit that settles the delivery, and to the boards in memory once that stands.
/// A restart reads the measures; nothing is replayed.
///
/// # Reading while events come
/// Boards are read under a lock that many readers share; what a commit brings is added under the same lock, an event at a time.
/// A reader never sees half an event, and may ask the ranking again while it reads. Opening a window that carries over, or joins others, puts its items in order under the lock.
pub struct Ranking<K>(pub(super) Arc<Inner<K>>);

impl<K> Clone for Ranking<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct Inner<K> {
    pub(super) name: &'static str,
    pub(super) sources: Vec<Source<K>>,
    pub(super) ahead: Duration,
    pub(super) tally: RwLock<State<K>>,
    pub(super) generations: Mutex<Generations>,
    pub(super) reweighing: Mutex<()>,
    pub(super) rebuilding: tokio::sync::Mutex<()>,
    pub(super) version: watch::Sender<u64>,
    pub(super) too_late: AtomicU64,
    pub(super) clock: OnceLock<Arc<dyn Clock>>,
}

pub(super) struct State<K> {
    pub(super) tally: Tally<K>,
    /// What is rebuilt from the log while `tally` serves.
    pub(super) building: Option<Tally<K>>,
    /// What came while boards are made anew aside.
    pub(super) missed: Option<Vec<Vec<Measured<K>>>>,
}

impl<K: Item> Ranking<K> {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The decimals of its scores.
    pub fn scale(&self) -> Scale {
        self.0.tally.read_recursive().tally.rules.scale
    }

    /// Its durable listeners, one for each source; `BusBuilder::ranking` takes them.
    pub fn listeners(&self) -> Vec<Registration> {
        self.0.sources.iter().enumerate().map(|(place, source)| (source.listen)(self, place)).collect()
    }

    /// Reads the newest window's board; of a sliding or decaying ranking, the board of all its windows. `None` before the first event.
    pub fn current<R>(&self, read: impl FnOnce(&Board<K>) -> R) -> Option<R> {
        self.0.tally.read_recursive().tally.current().map(|window| read(&window.board))
    }

    /// Reads the board of the window that `at` belongs to; `None` if it is not kept.
    pub fn window<R>(&self, at: Timestamp, read: impl FnOnce(&Board<K>) -> R) -> Option<R> {
        let state = self.0.tally.read_recursive();
        let begin = state.tally.rules.windows.begin_of(at);
        state.tally.window(begin).map(|window| read(&window.board))
    }

    /// As [`current`](Self::current), of the items of one group: found by its name, without a look at the others.
    pub fn group<R>(&self, group: &str, read: impl FnOnce(&Board<K>) -> R) -> Option<R> {
        self.0.tally.read_recursive().tally.current().and_then(|window| window.groups.get(group)).map(read)
    }

    /// As [`window`](Self::window), of the items of one group.
    pub fn group_of_window<R>(&self, at: Timestamp, group: &str, read: impl FnOnce(&Board<K>) -> R) -> Option<R> {
        let state = self.0.tally.read_recursive();
        let begin = state.tally.rules.windows.begin_of(at);
        state.tally.window(begin).and_then(|window| window.groups.get(group)).map(read)
    }

    /// The best `count` of the newest window, best first.
    pub fn top(&self, count: usize) -> Vec<Entry<K>> {
        self.current(|board| board.top(count)).unwrap_or_default()
    }

    /// Where the kept windows begin, oldest first.
    pub fn windows(&self) -> Vec<Timestamp> {
        self.0.tally.read_recursive().tally.begins().collect()
    }

    /// How much of an item's score in the window of `at` was carried over from the one before, and how much it earned in it.
    pub fn parts(&self, at: Timestamp, item: &K) -> Parts {
        let state = self.0.tally.read_recursive();
        let begin = state.tally.rules.windows.begin_of(at);
        let carried = state.tally.carried(begin, item);
        Parts { carried, earned: state.tally.earned(begin, item).unwrap_or_default() }
    }

    /// Where an item stood in the window of `since`, and where it stands now.
    pub fn moved(&self, item: &K, since: Timestamp) -> Moved {
        let state = self.0.tally.read_recursive();
        let begin = state.tally.rules.windows.begin_of(since);
        let was = state.tally.window(begin).and_then(|window| window.board.rank(item));
        Moved { was, is: state.tally.current().and_then(|window| window.board.rank(item)) }
    }

    /// A score of a decaying ranking as it is at `now`: boards hold them in units of a common moment, which changes no order.
    /// Any other ranking's score as it is.
    pub fn as_of(&self, score: Score, now: Timestamp) -> Score {
        self.0.tally.read_recursive().tally.as_of(score, now)
    }

    /// What each source weighs.
    pub fn weights(&self) -> Vec<(&'static str, Score)> {
        let state = self.0.tally.read();
        self.0
            .sources
            .iter()
            .map(|source| source.name)
            .zip(state.tally.weights().iter().map(|one| Score(*one)))
            .collect()
    }

    /// Weighs sources differently from now on, in all windows: decimals of at most six places, by the name of the source.
    ///
    /// Boards are made anew from the measures in memory while the old ones serve, then swapped at once; events that come
    /// meanwhile are in them. It lasts until the process ends or the next call: weights belong to the program, not to the store.
    /// What a window began with, where the one before it is gone, stays as it was weighed.
    ///
    /// Works off all kept windows on the calling thread.
    ///
    /// # Errors
    /// [`RankingError::UnknownSource`], [`RankingError::NotDecimal`], [`RankingError::Overflow`]; nothing has changed then.
    pub fn reweigh<'a>(&self, weights: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), RankingError> {
        let _one = self.0.reweighing.lock();
        let snapshot = {
            let mut state = self.0.tally.write();
            state.missed = Some(Vec::new());
            state.tally.clone()
        };
        let new = self.weighed(&snapshot, weights);
        let mut state = self.0.tally.write();
        let missed = state.missed.take().unwrap_or_default();
        let mut new = new?;
        missed.iter().for_each(|measured| new.apply(measured));
        if let Some(building) = &state.building {
            state.building = Some(building.reweighed(new.weights().to_vec()));
        }
        state.tally = new;
        drop(state);
        self.changed();
        Ok(())
    }

    fn weighed<'a>(
        &self,
        tally: &Tally<K>,
        weights: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Tally<K>, RankingError> {
        let mut new = tally.weights().to_vec();
        for (name, weight) in weights {
            let place = self.0.sources.iter().position(|source| source.name == name);
            let place = place.ok_or_else(|| RankingError::UnknownSource {
                ranking: self.0.name.to_owned(),
                source_name: name.to_owned(),
                known: self.0.sources.iter().map(|source| source.name).collect::<Vec<_>>().join(", "),
            })?;
            new[place] = WEIGHT.parse(weight)?.0;
        }
        Ok(tally.reweighed(new))
    }

    /// Tells when something has changed, at most once in every `pause`: for pages that show the ranking live.
    pub fn changes(&self, pause: Duration) -> Changes {
        Changes::new(self.0.version.subscribe(), self.clock(), pause)
    }

    /// How many measures came for windows that were not kept any more, since the process began.
    pub fn too_late(&self) -> u64 {
        self.0.too_late.load(Ordering::Relaxed)
    }

    /// Goes on to the window of `now`, though no event has come in it yet: what it begins with can then be read.
    pub fn advance(&self, now: Timestamp) {
        let mut state = self.0.tally.write();
        let begin = state.tally.rules.windows.begin_of(now);
        if state.tally.newest().is_some_and(|newest| newest < begin) {
            state.tally.open(begin);
            drop(state);
            self.changed();
        }
    }

    /// Adds to the measure of a source by hand, in memory alone: for rankings that no bus keeps.
    ///
    /// # Errors
    /// [`RankingError::UnknownSource`]; [`RankingError::NotFinite`], [`RankingError::Overflow`] and [`RankingError::Sum`] for what does
    /// not fit, [`RankingError::TooEarly`] and [`RankingError::TooLate`] for a window that cannot be. Nothing is added then.
    pub fn credit(&self, source: &str, item: K, points: f64, at: Timestamp) -> Result<(), RankingError> {
        let place = self.0.sources.iter().position(|one| one.name == source);
        let place = place.ok_or_else(|| RankingError::UnknownSource {
            ranking: self.0.name.to_owned(),
            source_name: source.to_owned(),
            known: self.0.sources.iter().map(|source| source.name).collect::<Vec<_>>().join(", "),
        })?;
        let mut credits = self.credits(at);
        credits.points(item, points);
        let (measured, late) = self.measured(place, credits, false)?;
        if let Some(late) = late {
            return Err(late);
        }
        self.apply(&measured, false);
        Ok(())
    }

    pub(super) fn credits(&self, at: Timestamp) -> Credits<K> {
        Credits::new(self.0.tally.read().tally.rules.measure, at)
    }

    /// What credits come to, in the windows they belong to; beside it why some were left out, if any were.
    pub(super) fn measured(
        &self,
        source: usize,
        credits: Credits<K>,
        building: bool,
    ) -> Result<(Vec<Measured<K>>, Option<RankingError>), RankingError> {
        let state = self.0.tally.read();
        let tally = state.building.as_ref().filter(|_| building).unwrap_or(&state.tally);
        let windows = &tally.rules.windows;
        let latest = self.clock().now().saturating_add(self.0.ahead);
        let oldest = tally.oldest_kept();
        let mut late = None;
        let mut measured: Vec<Measured<K>> = Vec::new();
        for credit in credits.end()? {
            if credit.at > latest {
                return Err(RankingError::TooEarly { at: credit.at.0, now: self.clock().now().0 });
            }
            let window = windows.begin_of(credit.at);
            if window < oldest {
                self.0.too_late.fetch_add(1, Ordering::Relaxed);
                late = Some(RankingError::TooLate { at: credit.at.0, oldest: oldest.0 });
                continue;
            }
            let growth = windows.growth(credit.at);
            let amount = if growth == 1.0 { Some(credit.amount) } else { nearest(credit.amount as f64 * growth, 1) };
            let amount = amount.ok_or_else(|| RankingError::Overflow {
                what: format!("{} units, grown {growth} times", credit.amount),
                decimals: tally.rules.measure.places(),
            })?;
            match measured.iter_mut().find(|one| one.window == window && one.item == credit.item) {
                Some(one) => {
                    let sum = one.amount.checked_add(amount);
                    one.amount = sum.ok_or(RankingError::Sum { score: one.amount, delta: amount })?;
                }
                None => measured.push(Measured { window, item: credit.item, source, amount }),
            }
        }
        for one in &measured {
            tally.check(one)?;
        }
        Ok((measured, late))
    }

    /// Adds what a commit brought.
    pub(super) fn apply(&self, measured: &[Measured<K>], building: bool) {
        let mut state = self.0.tally.write();
        match &mut state.building {
            Some(tally) if building => tally.apply(measured),
            _ => {
                state.tally.apply(measured);
                if let Some(missed) = &mut state.missed {
                    missed.push(measured.to_vec());
                }
            }
        }
        // To readers that wait, before the next event.
        RwLockWriteGuard::unlock_fair(state);
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.0.version.send_modify(|version| *version += 1);
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock.get().cloned().unwrap_or_else(|| Arc::new(SystemClock))
    }
}

impl<K: Item> fmt::Debug for Ranking<K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ranking")
            .field("name", &self.0.name)
            .field("windows", &self.windows().len())
            .finish_non_exhaustive()
    }
}

/// Where the score of an item in a window comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// A part of its score in the window before.
    pub carried: Score,
    /// What events brought in this one.
    pub earned: Score,
}

/// Where an item stood, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Its place then, counted from 0; `None` if it had none, or the window is not kept.
    pub was: Option<usize>,
    /// Its place now; `None` if it has none.
    pub is: Option<usize>,
}

impl Moved {
    /// By how many places it went up; below zero, down. `None` if it came or went.
    pub fn up(self) -> Option<i64> {
        let place = |place: usize| i64::try_from(place).ok();
        Some(place(self.was?)? - place(self.is?)?)
    }
}
