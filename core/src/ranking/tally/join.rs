//! Several windows as one board: those that slide, and those that decay.

use std::hash::Hash;

use super::{Measured, Tally, Window, fill, place};
use crate::clock::Timestamp;
use crate::ranking::score::{Score, divided, nearest};
use crate::ranking::window::{EPOCH, Kind, Windows};

impl<K: Ord + Hash + Clone> Tally<K> {
    /// Places an item on the board of several windows.
    pub(super) fn settle_joined(&mut self, one: &Measured<K>, sources: usize) {
        let Some(mut joined) = self.joined.take() else { return };
        if let Kind::Sliding { .. } = self.rules.windows.kind {
            if one.window >= self.first_joined() {
                joined.measure(one, sources);
                let score = joined.sums.get(&one.item).map(|sums| self.score(sums));
                place(&mut joined, &self.rules, &one.item, score);
            }
        } else {
            let score = self.decayed(&one.item);
            place(&mut joined, &self.rules, &one.item, score);
        }
        self.joined = Some(joined);
    }

    /// The first window that is joined with the newest.
    fn first_joined(&self) -> Timestamp {
        let Some(newest) = self.newest() else { return Timestamp(0) };
        match self.rules.windows.kind {
            Kind::Sliding { slots, .. } => Windows { keep: Some(slots), ..self.rules.windows.clone() }.oldest(newest),
            _ => self.rules.windows.oldest(newest),
        }
    }

    /// What the windows are joined into, made anew: a newer one has come.
    pub(super) fn join(&mut self) {
        if self.joined.is_none() {
            return;
        }
        let mut joined = Window::new(self.rules.ties);
        let from = self.first_joined();
        let is_sliding = matches!(self.rules.windows.kind, Kind::Sliding { .. });
        for window in self.windows.range(from..).map(|(_, window)| window) {
            for (item, sums) in &window.sums {
                let all = joined.sums.entry(item.clone()).or_default();
                if is_sliding {
                    all.resize(all.len().max(sums.len()), 0);
                    all.iter_mut().zip(sums).for_each(|(all, sum)| *all = all.saturating_add(*sum));
                }
            }
        }
        let scores: Vec<(K, Score)> = joined
            .sums
            .iter()
            .filter_map(|(item, sums)| {
                let score = if is_sliding { Some(self.score(sums)) } else { self.decayed(item) };
                score.map(|score| (item.clone(), score))
            })
            .collect();
        fill(&mut joined, &self.rules, scores);
        self.joined = Some(joined);
    }

    /// The score of an item in units of the newest epoch; older epochs halve it once for each half-life between.
    fn decayed(&self, item: &K) -> Option<Score> {
        let newest = self.newest()?;
        let Kind::Decaying { half_life } = self.rules.windows.kind else { return None };
        let epoch = half_life.saturating_mul(u64::from(EPOCH));
        let mut total = 0_i128;
        let mut is_there = false;
        for (begin, window) in &self.windows {
            let Some(sums) = window.sums.get(item) else { continue };
            is_there = true;
            let halved = (newest.0 - begin.0) / epoch * u64::from(EPOCH);
            if let Ok(halved) = u32::try_from(halved)
                && halved < 64
            {
                total += divided(self.weighted(sums), 1_i128 << halved);
            }
        }
        is_there.then(|| self.rounded(total))
    }

    /// By what a shown score of the joined board is to be multiplied: it is kept in units of its newest epoch's begin.
    pub(in crate::ranking) fn as_of(&self, score: Score, now: Timestamp) -> Score {
        match (&self.rules.windows.kind, self.newest()) {
            (Kind::Decaying { .. }, Some(newest)) => {
                let factor = self.rules.windows.decay(newest, now);
                Score(nearest(score.0 as f64 * factor, 1).unwrap_or(score.0))
            }
            _ => score,
        }
    }
}
