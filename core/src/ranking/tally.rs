//! What a ranking holds in memory: measures by window, item and source, and the boards that follow from them.
//!
//! Everything here is a function of the measures and the weights, so that neither the sequence in which measures came nor what
//! was asked in between makes a difference. Locks, stores and events are left to `live` and `keep`.

mod join;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::board::{Board, Ties};
use super::credit::WEIGHT;
use super::score::{Scale, Score, divided};
use super::window::Windows;
use crate::clock::Timestamp;
use crate::error::RankingError;

/// The measure of each source.
pub(super) type Sums = SmallVec<[i64; 2]>;

/// Which group an item belongs to.
pub(super) type GroupOf<K> = Arc<dyn Fn(&K) -> Option<String> + Send + Sync>;

/// What is done with a window that is let go of.
pub(super) type Dropped<K> = Arc<dyn Fn(Timestamp, &Board<K>) + Send + Sync>;

pub(super) type Map<K, V> = HashMap<K, V, RandomState>;

/// What is declared once.
#[derive(Clone)]
pub(super) struct Rules<K> {
    pub(super) scale: Scale,
    pub(super) measure: Scale,
    pub(super) ties: Ties,
    pub(super) windows: Windows,
    /// The part of a window's scores that the next one begins with, in units of [`WEIGHT`].
    pub(super) carry: i64,
    pub(super) most_items: Option<usize>,
    pub(super) group_of: Option<GroupOf<K>>,
    pub(super) dropped: Option<Dropped<K>>,
}

/// So much was measured of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured<K> {
    pub(super) window: Timestamp,
    pub(super) item: K,
    pub(super) source: usize,
    pub(super) amount: i64,
}

/// A window's measures, and its items in order.
#[derive(Clone)]
pub(super) struct Window<K> {
    pub(super) sums: Map<K, Sums>,
    pub(super) board: Board<K>,
    pub(super) groups: HashMap<String, Board<K>>,
}

impl<K: Ord + Hash + Clone> Window<K> {
    fn new(ties: Ties) -> Self {
        Self { sums: Map::default(), board: Board::with_ties(ties), groups: HashMap::new() }
    }

    fn measure(&mut self, one: &Measured<K>, sources: usize) {
        let sums = match self.sums.get_mut(&one.item) {
            Some(sums) => sums,
            None => self.sums.entry(one.item.clone()).or_default(),
        };
        if sums.len() < sources {
            sums.resize(sources, 0);
        }
        // A store refuses what does not fit before it comes here.
        sums[one.source] = sums[one.source].saturating_add(one.amount);
    }
}

/// All windows that are kept.
#[derive(Clone)]
pub(super) struct Tally<K> {
    pub(super) rules: Rules<K>,
    /// What each source weighs, in units of [`WEIGHT`].
    weights: Vec<i64>,
    windows: BTreeMap<Timestamp, Window<K>>,
    /// What the oldest window began with, where the one before it is gone.
    base: Map<K, i64>,
    /// The board of several windows, of a sliding or decaying ranking.
    joined: Option<Window<K>>,
    /// Items that were let go of and whose measures are stored still.
    let_go: Vec<(Timestamp, K)>,
}

impl<K: Ord + Hash + Clone> Tally<K> {
    pub(super) fn new(rules: Rules<K>, weights: Vec<i64>) -> Self {
        let joined = rules.windows.joins().then(|| Window::new(rules.ties));
        Self { rules, weights, windows: BTreeMap::new(), base: Map::default(), joined, let_go: Vec::new() }
    }

    /// The window at `begin`.
    pub(super) fn window(&self, begin: Timestamp) -> Option<&Window<K>> {
        self.windows.get(&begin)
    }

    /// The newest window, or what several are joined into.
    pub(super) fn current(&self) -> Option<&Window<K>> {
        self.joined.as_ref().or_else(|| self.windows.values().next_back())
    }

    /// Where the kept windows begin, oldest first.
    pub(super) fn begins(&self) -> impl DoubleEndedIterator<Item = Timestamp> {
        self.windows.keys().copied()
    }

    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.windows.keys().next_back().copied()
    }

    /// The first window that is not too old.
    pub(super) fn oldest_kept(&self) -> Timestamp {
        self.newest().map_or(Timestamp(0), |newest| self.rules.windows.oldest(newest))
    }

    pub(super) fn weights(&self) -> &[i64] {
        &self.weights
    }

    pub(super) fn take_let_go(&mut self, most: usize) -> Vec<(Timestamp, K)> {
        let from = self.let_go.len().saturating_sub(most);
        self.let_go.split_off(from)
    }

    pub(super) fn base(&self) -> impl Iterator<Item = (&K, i64)> {
        self.base.iter().map(|(item, carried)| (item, *carried))
    }

    /// Adds what was measured. What belongs to a window that is not kept is left out.
    pub(super) fn apply(&mut self, measured: &[Measured<K>]) {
        let newest = measured.iter().map(|one| one.window).max();
        if let Some(newest) = newest {
            self.open(newest);
        }
        for one in measured {
            let sources = self.weights.len();
            let Some(window) = self.windows.get_mut(&one.window) else { continue };
            window.measure(one, sources);
            self.settle_from(one.window, &one.item);
            self.settle_joined(one, sources);
        }
        self.trim();
    }

    /// Goes on to the window at `begin`, and to those between; lets go of those that are too old. Back it does not go, but an older
    /// window that is kept is opened if it was not.
    pub(super) fn open(&mut self, begin: Timestamp) {
        let Some(newest) = self.newest() else {
            self.windows.insert(begin, Window::new(self.rules.ties));
            return;
        };
        if begin < newest {
            self.open_older(begin);
            return;
        }
        for begin in self.rules.windows.between(newest, begin).into_iter().filter(|begin| *begin > newest) {
            let window = self.begun_with(self.right_before(begin));
            self.windows.insert(begin, window);
            self.let_go_of_old();
        }
        if begin > newest {
            self.join();
        }
    }

    /// A late event may be the first of its window.
    fn open_older(&mut self, begin: Timestamp) {
        if self.windows.contains_key(&begin) || begin < self.oldest_kept() {
            return;
        }
        let oldest = self.begins().next().unwrap_or(begin);
        if begin > oldest {
            // Between two that are there only if the gap was longer than can be meant: nothing is carried over it.
            self.windows.insert(begin, Window::new(self.rules.ties));
            return;
        }
        for begin in std::iter::once(begin).chain(self.rules.windows.between(begin, oldest)) {
            self.windows.entry(begin).or_insert_with(|| Window::new(self.rules.ties));
        }
    }

    /// The window right before the one at `begin`, if it is kept.
    fn right_before(&self, begin: Timestamp) -> Option<Timestamp> {
        self.rules.windows.before(begin).filter(|before| self.windows.contains_key(before))
    }

    /// A window with what the one at `previous` hands on.
    fn begun_with(&self, previous: Option<Timestamp>) -> Window<K> {
        let mut window = Window::new(self.rules.ties);
        if self.rules.carry == 0 {
            return window;
        }
        let previous = previous.and_then(|begin| self.windows.get(&begin));
        let scores = previous.into_iter().flat_map(|window| window.board.unordered());
        let carried: Vec<(K, Score)> = scores
            .map(|(item, total)| (item.clone(), Score(self.carried_of(total.0))))
            .filter(|(_, carried)| *carried != Score::ZERO)
            .collect();
        fill(&mut window, &self.rules, carried);
        window
    }

    fn let_go_of_old(&mut self) {
        let oldest = self.oldest_kept();
        while let Some(entry) = self.windows.first_entry().filter(|entry| *entry.key() < oldest) {
            let (begin, window) = entry.remove_entry();
            if let Some(dropped) = &self.rules.dropped {
                dropped(begin, &window.board);
            }
            if self.rules.carry != 0 {
                let totals = window.board.unordered().map(|(item, total)| (item.clone(), self.carried_of(total.0)));
                self.base = totals.filter(|(_, carried)| *carried != 0).collect();
            }
        }
    }

    /// What an item's score hands on to the next window.
    fn carried_of(&self, total: i64) -> i64 {
        saturated(divided(i128::from(total) * i128::from(self.rules.carry), WEIGHT.one().into()))
    }

    /// What `item` began the window at `begin` with.
    pub(super) fn carried(&self, begin: Timestamp, item: &K) -> Score {
        if self.rules.carry == 0 {
            return Score::ZERO;
        }
        let previous = self.right_before(begin).and_then(|previous| self.windows.get(&previous));
        Score(match previous {
            Some(window) => window.board.score(item).map_or(0, |total| self.carried_of(total.0)),
            None if self.begins().next() == Some(begin) => self.base.get(item).copied().unwrap_or_default(),
            None => 0,
        })
    }

    /// What `item` earned in the window at `begin` itself.
    pub(super) fn earned(&self, begin: Timestamp, item: &K) -> Option<Score> {
        let window = self.windows.get(&begin)?;
        window.sums.get(item).map(|sums| self.score(sums))
    }

    /// Places an item in the window at `begin`, and in those after it that carry over.
    fn settle_from(&mut self, begin: Timestamp, item: &K) {
        let following: SmallVec<[Timestamp; 4]> = match self.rules.carry {
            0 => SmallVec::from_slice(&[begin]),
            _ => self.windows.range(begin..).map(|(begin, _)| *begin).collect(),
        };
        for begin in following {
            let earned = self.earned(begin, item);
            let carried = self.carried(begin, item);
            let total = Score(earned.unwrap_or_default().0.saturating_add(carried.0));
            let rules = &self.rules;
            let Some(window) = self.windows.get_mut(&begin) else { break };
            let is_on = earned.is_some() || carried != Score::ZERO;
            let was = place(window, rules, item, is_on.then_some(total));
            if was == is_on.then_some(total) {
                break;
            }
        }
    }

    /// The scores that measures come to.
    pub(super) fn score(&self, sums: &[i64]) -> Score {
        self.rounded(self.weighted(sums))
    }

    /// In units of the measure times those of weights.
    fn weighted(&self, sums: &[i64]) -> i128 {
        sums.iter().zip(&self.weights).map(|(sum, weight)| i128::from(*sum) * i128::from(*weight)).sum()
    }

    fn rounded(&self, weighted: i128) -> Score {
        let (from, to) =
            (u32::from(self.rules.measure.places() + WEIGHT.places()), u32::from(self.rules.scale.places()));
        Score(saturated(match from.checked_sub(to) {
            Some(down) => divided(weighted, 10_i128.pow(down)),
            None => weighted.saturating_mul(10_i128.pow(to - from)),
        }))
    }

    /// Whether the score that an item would come to fits.
    pub(super) fn check(&self, one: &Measured<K>) -> Result<(), RankingError> {
        let mut sums = self.windows.get(&one.window).and_then(|window| window.sums.get(&one.item)).cloned();
        let sums = sums.get_or_insert_default();
        sums.resize(self.weights.len(), 0);
        let overflow =
            |what: &str| RankingError::Overflow { what: what.to_owned(), decimals: self.rules.scale.places() };
        let sum = sums[one.source].checked_add(one.amount);
        sums[one.source] = sum.ok_or(RankingError::Sum { score: sums[one.source], delta: one.amount })?;
        let (most, least) = (Score(i64::MAX), Score(i64::MIN));
        let score = self.score(sums);
        if score == most || score == least { Err(overflow("the weighted sum of what was measured")) } else { Ok(()) }
    }

    /// All boards as they are under other weights.
    pub(super) fn reweighed(&self, weights: Vec<i64>) -> Self {
        let mut new = Self { weights, ..self.clone() };
        let begins: Vec<Timestamp> = new.begins().collect();
        for begin in begins {
            let previous = new.right_before(begin);
            let mut window = new.begun_with(previous);
            if previous.is_none() && new.begins().next() == Some(begin) {
                let base: Vec<(K, Score)> = new.base.iter().map(|(item, base)| (item.clone(), Score(*base))).collect();
                fill(&mut window, &new.rules, base);
            }
            let Some(old) = new.windows.get_mut(&begin) else { continue };
            window.sums = std::mem::take(&mut old.sums);
            let scores: Vec<(K, Score)> = window
                .sums
                .iter()
                .map(|(item, sums)| {
                    let carried = window.board.score(item).unwrap_or_default();
                    (item.clone(), Score(new.score(sums).0.saturating_add(carried.0)))
                })
                .collect();
            let carried_only = window.board.unordered().filter(|(item, _)| !window.sums.contains_key(*item));
            let scores = scores.into_iter().chain(carried_only.map(|(item, score)| (item.clone(), score))).collect();
            fill(&mut window, &new.rules, scores);
            new.windows.insert(begin, window);
        }
        new.join();
        new
    }

    /// The same without any measures.
    pub(super) fn emptied(&self) -> Self {
        Self { base: self.base.clone(), ..Self::new(self.rules.clone(), self.weights.clone()) }
    }

    /// Everything that follows from stored measures.
    ///
    /// `base` is what the window at that moment began with.
    pub(super) fn restored(
        rules: Rules<K>,
        weights: Vec<i64>,
        base: (Timestamp, Map<K, i64>),
        measured: Vec<Measured<K>>,
    ) -> Self {
        let mut tally = Self::new(rules, weights);
        let (from, base) = base;
        let first = (!base.is_empty()).then_some(from);
        tally.base = base;
        let sources = tally.weights.len();
        let oldest = measured.iter().map(|one| one.window).chain(first).min();
        let newest = measured.iter().map(|one| one.window).chain(first).max();
        if let (Some(oldest), Some(newest)) = (oldest, newest) {
            let between = tally.rules.windows.between(oldest, newest);
            for begin in std::iter::once(oldest).chain(between) {
                tally.windows.insert(begin, Window::new(tally.rules.ties));
            }
        }
        for one in &measured {
            let ties = tally.rules.ties;
            tally.windows.entry(one.window).or_insert_with(|| Window::new(ties)).measure(one, sources);
        }
        let weights = tally.weights.clone();
        let mut tally = tally.reweighed(weights);
        tally.let_go_of_old();
        tally.join();
        tally.trim();
        tally
    }

    /// Lets go of the worst items of windows that hold a quarter more than they may.
    fn trim(&mut self) {
        let Some(most) = self.rules.most_items else { return };
        for (begin, window) in &mut self.windows {
            if window.board.len() <= most + most / 4 {
                continue;
            }
            for one in window.board.page(most, usize::MAX) {
                window.board.remove(&one.item);
                if let Some(group) = group_of(&self.rules, &one.item)
                    && let Some(board) = window.groups.get_mut(&group)
                {
                    board.remove(&one.item);
                }
                if window.sums.remove(&one.item).is_some() {
                    self.let_go.push((*begin, one.item));
                }
            }
        }
    }
}

fn saturated(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value > 0 { i64::MAX } else { i64::MIN })
}

fn group_of<K>(rules: &Rules<K>, item: &K) -> Option<String> {
    rules.group_of.as_ref().and_then(|group_of| group_of(item))
}

/// Gives an item its place in a window's boards, or takes it off them; answers what it had.
fn place<K: Ord + Hash + Clone>(
    window: &mut Window<K>,
    rules: &Rules<K>,
    item: &K,
    score: Option<Score>,
) -> Option<Score> {
    let put = |board: &mut Board<K>| match score {
        // Boards are bounded by memory long before they are full.
        Some(score) => board.set(item, score).ok().flatten(),
        None => board.remove(item),
    };
    let was = put(&mut window.board);
    if let Some(group) = group_of(rules, item) {
        put(window.groups.entry(group).or_insert_with(|| Board::with_ties(rules.ties)));
    }
    was
}

/// Gives a window's boards exactly these scores.
fn fill<K: Ord + Hash + Clone>(window: &mut Window<K>, rules: &Rules<K>, scores: Vec<(K, Score)>) {
    window.groups.clear();
    if rules.group_of.is_some() {
        let mut groups: HashMap<String, Vec<(K, Score)>> = HashMap::new();
        for (item, score) in &scores {
            if let Some(group) = group_of(rules, item) {
                groups.entry(group).or_default().push((item.clone(), *score));
            }
        }
        let boards = groups.into_iter().map(|(group, scores)| (group, board_of(rules, scores)));
        window.groups.extend(boards);
    }
    window.board = board_of(rules, scores);
}

fn board_of<K: Ord + Hash + Clone>(rules: &Rules<K>, scores: Vec<(K, Score)>) -> Board<K> {
    Board::of(rules.ties, scores).unwrap_or_else(|_| Board::with_ties(rules.ties))
}
