//! What can be read off a board.

use std::hash::Hash;
use std::ops::{Bound, RangeBounds};

use super::Board;
use super::order::At;
use crate::ranking::score::Score;

/// An item in its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry<K> {
    /// Its place, counted from 0 for the best.
    pub rank: usize,
    /// The item.
    pub item: K,
    /// Its score.
    pub score: Score,
}

impl<K: Ord + Hash + Clone> Board<K> {
    /// The score of `item`.
    pub fn score(&self, item: &K) -> Option<Score> {
        self.slot(item).map(|slot| Score(self.items[slot as usize].score))
    }

    /// The place of `item`, counted from 0 for the best; `None` if it is not on the board.
    pub fn rank(&self, item: &K) -> Option<usize> {
        let slot = self.slot(item)?;
        let item = &self.items[slot as usize];
        let before = self.order.before(self.order.at(item.block));
        if item.block == self.order.first() {
            return Some(before + item.place as usize);
        }
        let slots = &self.order.block(item.block).slots;
        Some(before + slots.iter().filter(|other| self.compare(**other, slot).is_lt()).count())
    }

    /// The place of `item`, counted from 0 for the worst.
    pub fn rank_from_last(&self, item: &K) -> Option<usize> {
        self.rank(item).map(|rank| self.len() - 1 - rank)
    }

    /// The best `count` items, best first.
    pub fn top(&self, count: usize) -> Vec<Entry<K>> {
        self.page(0, count)
    }

    /// The worst `count` items, worst first: the exact reverse of the best-first order, also where scores are equal.
    pub fn bottom(&self, count: usize) -> Vec<Entry<K>> {
        let count = count.min(self.len());
        let mut page = self.page(self.len() - count, count);
        page.reverse();
        page
    }

    /// Up to `count` items from place `offset` on, best first; fewer or none where the board ends.
    pub fn page(&self, offset: usize, count: usize) -> Vec<Entry<K>> {
        let count = count.min(self.len().saturating_sub(offset));
        let mut page = Vec::with_capacity(count);
        if count == 0 {
            return page;
        }
        let (at, before) = self.order.with(offset);
        let mut next = Some(at);
        let mut skip = offset - before;
        while let Some(at) = next.filter(|_| page.len() < count) {
            self.read_block(at, |slots| {
                let slots = slots.get(skip..).unwrap_or_default();
                for slot in &slots[..slots.len().min(count - page.len())] {
                    let item = &self.items[*slot as usize];
                    let rank = offset + page.len();
                    page.push(Entry { rank, item: item.key.clone(), score: Score(item.score) });
                }
            });
            skip = 0;
            next = self.order.next(at);
        }
        page
    }

    /// The items from place `start` to place `stop`, both included; below zero they count from the end, -1 being the last.
    /// What lies outside of the board is cut off.
    pub fn range(&self, start: i64, stop: i64) -> Vec<Entry<K>> {
        let len = i64::try_from(self.len()).unwrap_or(i64::MAX);
        let place = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
        let (start, stop) = (place(start).max(0), place(stop).min(len - 1));
        if start > stop {
            return Vec::new();
        }
        // Both are within the board.
        self.page(start as usize, (stop - start) as usize + 1)
    }

    /// `item` with up to `around` others on either side of it, best first; none if it is not on the board.
    pub fn neighbours(&self, item: &K, around: usize) -> Vec<Entry<K>> {
        let Some(rank) = self.rank(item) else { return Vec::new() };
        let from = rank.saturating_sub(around);
        self.page(from, rank.saturating_add(around) - from + 1)
    }

    /// How many items have a score within `scores`.
    pub fn count(&self, scores: impl RangeBounds<Score>) -> usize {
        let (from, to) = self.places(&scores);
        to - from
    }

    /// The items whose scores lie within `scores`, best first: up to `count` of them from the one at `offset` on.
    /// None if the range's end lies below its start.
    pub fn scored(&self, scores: impl RangeBounds<Score>, offset: usize, count: usize) -> Vec<Entry<K>> {
        let (from, to) = self.places(&scores);
        let from = from.saturating_add(offset).min(to);
        self.page(from, count.min(to - from))
    }

    /// All items, best first, a block at a time.
    pub fn iter(&self) -> impl Iterator<Item = Entry<K>> {
        let mut rank = 0;
        self.order.ids().flat_map(move |id| {
            let mut slots = self.order.block(id).slots.clone();
            slots.sort_unstable_by(|left, right| self.compare(*left, *right));
            let from = rank;
            rank += slots.len();
            slots.into_iter().enumerate().map(move |(place, slot)| {
                let item = &self.items[slot as usize];
                Entry { rank: from + place, item: item.key.clone(), score: Score(item.score) }
            })
        })
    }

    /// All items with their scores, in no order.
    pub fn unordered(&self) -> impl ExactSizeIterator<Item = (&K, Score)> {
        self.items.iter().map(|item| (&item.key, Score(item.score)))
    }

    /// The places of what lies within a range of scores: from the first to behind the last.
    fn places(&self, scores: &impl RangeBounds<Score>) -> (usize, usize) {
        let from = match scores.end_bound() {
            Bound::Included(most) => self.above(most.0, false),
            Bound::Excluded(most) => self.above(most.0, true),
            Bound::Unbounded => 0,
        };
        let to = match scores.start_bound() {
            Bound::Included(least) => self.above(least.0, true),
            Bound::Excluded(least) => self.above(least.0, false),
            Bound::Unbounded => self.len(),
        };
        (from, to.max(from))
    }

    /// How many items have a score above `score`, or `score` itself where `with`.
    fn above(&self, score: i64, with: bool) -> usize {
        let at = self.order.find_above(score, with);
        let slots = &self.order.block(self.order.id(at)).slots;
        let fits = |slot: &&u32| {
            let one = self.items[**slot as usize].score;
            one > score || (with && one == score)
        };
        self.order.before(at) + slots.iter().filter(fits).count()
    }

    /// Hands over the slots of a block, in order.
    fn read_block(&self, at: At, read: impl FnOnce(&[u32])) {
        let id = self.order.id(at);
        let slots = &self.order.block(id).slots;
        if id == self.order.first() {
            return read(slots);
        }
        let mut sorted: Vec<(i64, u32)> = slots.iter().map(|slot| (self.items[*slot as usize].score, *slot)).collect();
        sorted.sort_unstable_by(|left, right| self.compare_scored(left, right));
        read(&sorted.into_iter().map(|(_, slot)| slot).collect::<Vec<_>>());
    }
}
