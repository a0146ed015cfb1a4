//! Boards beside a sorted vector.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use proptest::prelude::*;

use super::*;
use crate::clock::Chance;
use crate::ranking::Scale;

/// The same, kept the plain way.
#[derive(Default, Clone)]
struct Plain {
    ties: Ties,
    scores: BTreeMap<u16, i64>,
}

impl Plain {
    fn sorted(&self) -> Vec<(u16, i64)> {
        let mut all: Vec<(u16, i64)> = self.scores.iter().map(|(item, score)| (*item, *score)).collect();
        all.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| self.ties.compare(&left.0, &right.0)));
        all
    }
}

impl<K: Ord + Hash + Clone + std::fmt::Debug> Board<K> {
    fn check(&self) {
        self.order.check();
        let mut seen = 0;
        for id in self.order.ids() {
            let block = self.order.block(id);
            let first = id == self.order.first();
            assert_eq!(first, block.is_first());
            assert!(block.slots.len() <= if first { FIRST } else { BLOCK });
            assert!(first || !block.slots.is_empty());
            for (place, slot) in block.slots.iter().enumerate() {
                let item = &self.items[*slot as usize];
                assert_eq!((item.block, item.place as usize), (id, place));
                assert!(block.holds(item.score, &item.key, self.order.ties));
            }
            let sorted = block.slots.is_sorted_by(|left, right| self.compare(*left, *right).is_lt());
            assert!(!first || sorted);
            seen += block.slots.len();
        }
        assert_eq!(seen, self.items.len());
        assert_eq!(self.slots.len(), self.items.len());
        for item in &self.items {
            assert!(self.slot(&item.key).is_some());
        }
    }
}

fn check(board: &Board<u16>, plain: &Plain) {
    board.check();
    let sorted = plain.sorted();
    let read: Vec<(u16, i64)> = board.iter().map(|one| (one.item, one.score.0)).collect();
    assert_eq!(read, sorted);
    let page: Vec<(u16, i64)> = board.page(0, usize::MAX).into_iter().map(|one| (one.item, one.score.0)).collect();
    assert_eq!(page, sorted);
    let step = (sorted.len() / 40).max(1);
    for (rank, (item, score)) in sorted.iter().enumerate().step_by(step) {
        assert_eq!(board.rank(item), Some(rank));
        assert_eq!(board.rank_from_last(item), Some(sorted.len() - 1 - rank));
        assert_eq!(board.score(item), Some(Score(*score)));
        let page = board.page(rank, 7);
        let expected = &sorted[rank..(rank + 7).min(sorted.len())];
        assert!(page.iter().map(|one| (one.item, one.score.0)).eq(expected.iter().copied()));
        assert!(page.iter().enumerate().all(|(offset, one)| one.rank == rank + offset));
        let near = board.neighbours(item, 2);
        let expected = &sorted[rank.saturating_sub(2)..(rank + 3).min(sorted.len())];
        assert!(near.iter().map(|one| one.item).eq(expected.iter().map(|one| one.0)));
        for bounds in [
            (Bound::Included(Score(*score)), Bound::Unbounded),
            (Bound::Excluded(Score(*score)), Bound::Unbounded),
            (Bound::Unbounded, Bound::Included(Score(*score))),
            (Bound::Unbounded, Bound::Excluded(Score(*score))),
            (Bound::Included(Score(score - 3)), Bound::Excluded(Score(score + 3))),
        ] {
            let within: Vec<u16> =
                sorted.iter().filter(|one| bounds.contains(&Score(one.1))).map(|one| one.0).collect();
            assert_eq!(board.count(bounds), within.len());
            let read: Vec<u16> = board.scored(bounds, 1, 5).into_iter().map(|one| one.item).collect();
            assert!(read.iter().eq(within.iter().skip(1).take(5)));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(u16, i64),
    AddAll(Vec<(u16, i64)>),
    Set(u16, i64),
    Remove(u16),
    Keep(usize),
}

fn steps(items: u16, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let item = 0..items;
    let many = proptest::collection::vec((item.clone(), -3_i64..6), 0..150);
    let step = prop_oneof![
        1 => many.prop_map(Step::AddAll),
        8 => (item.clone(), -3_i64..6).prop_map(|(item, delta)| Step::Add(item, delta)),
        2 => (item.clone(), -40_i64..40).prop_map(|(item, score)| Step::Set(item, score)),
        2 => item.prop_map(Step::Remove),
        1 => (0..usize::from(items)).prop_map(move |most| Step::Keep(most.max(usize::from(items) * 3 / 4))),
    ];
    proptest::collection::vec(step, 0..most)
}

fn run(ties: Ties, steps: &[Step]) -> (Board<u16>, Plain) {
    let (mut board, mut plain) = (Board::with_ties(ties), Plain { ties, ..Plain::default() });
    for step in steps {
        match step {
            Step::Add(item, delta) => {
                let score = plain.scores.entry(*item).or_default();
                *score += delta;
                assert_eq!(board.add(item, Score(*delta)), Ok(Score(*score)));
            }
            Step::AddAll(many) => {
                board.add_all(many.iter().map(|(item, delta)| (item, Score(*delta)))).expect("they fit");
                many.iter().for_each(|(item, delta)| *plain.scores.entry(*item).or_default() += delta);
            }
            Step::Set(item, score) => {
                let was = plain.scores.insert(*item, *score);
                assert_eq!(board.set(item, Score(*score)), Ok(was.map(Score)));
            }
            Step::Remove(item) => assert_eq!(board.remove(item), plain.scores.remove(item).map(Score)),
            Step::Keep(most) => {
                let worst: Vec<u16> = plain.sorted().iter().skip(*most).map(|one| one.0).collect();
                assert_eq!(board.keep(*most), worst.len());
                plain.scores.retain(|item, _| !worst.contains(item));
            }
        }
    }
    (board, plain)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_board_reads_as_a_sorted_vector(steps in steps(60, 300), higher_first in any::<bool>()) {
        let ties = if higher_first { Ties::HigherFirst } else { Ties::LowerFirst };
        let (board, plain) = run(ties, &steps);
        check(&board, &plain);
    }

    /// Enough items for many blocks, most of them tied.
    #[test]
    fn a_board_of_many_tied_items_reads_as_a_sorted_vector(steps in steps(6_000, 9_000)) {
        let (board, plain) = run(Ties::LowerFirst, &steps);
        check(&board, &plain);
    }

    #[test]
    fn a_board_made_at_once_is_the_one_made_step_by_step(steps in steps(3_000, 4_000)) {
        let (board, plain) = run(Ties::LowerFirst, &steps);
        let mut at_once = Board::of(Ties::LowerFirst, board.unordered().map(|(item, score)| (*item, score)))?;
        check(&at_once, &plain);
        let mut plain = plain;
        for item in (0..3_000).step_by(3) {
            *plain.scores.entry(item).or_default() += 2;
            at_once.add(&item, Score(2))?;
        }
        check(&at_once, &plain);
    }

    #[test]
    fn the_sequence_of_additions_makes_no_difference(additions in proptest::collection::vec((0_u16..50, -9_i64..9), 0..200), seed in any::<u64>()) {
        let mut shuffled = additions.clone();
        let chance = Chance::seeded(seed);
        for left in (1..shuffled.len()).rev() {
            shuffled.swap(left, chance.below(left as u64 + 1) as usize);
        }
        let board = |additions: &[(u16, i64)]| {
            let mut board = Board::new();
            additions.iter().for_each(|(item, delta)| drop(board.add(item, Score(*delta))));
            board.iter().collect::<Vec<_>>()
        };
        prop_assert_eq!(board(&additions), board(&shuffled));
    }
}

/// Long lives of a board, in the ways boards live: rising from ties, sinking, one by one off and on.
#[test]
fn boards_hold_through_long_lives() {
    let chance = Chance::seeded(7);
    let (mut board, mut plain) = (Board::new(), Plain::default());
    let add = |board: &mut Board<u16>, plain: &mut Plain, item: u16, delta: i64| {
        *plain.scores.entry(item).or_default() += delta;
        board.add(&item, Score(delta)).expect("it fits");
    };
    for item in 0..40_000 {
        add(&mut board, &mut plain, item, 1);
    }
    check(&board, &plain);
    for _ in 0..200_000 {
        let item = (40_000.0 * chance.fraction().powi(4)) as u16;
        add(&mut board, &mut plain, item, 1);
    }
    check(&board, &plain);
    for _ in 0..200_000 {
        let item = (40_000.0 * chance.fraction().powi(4)) as u16;
        add(&mut board, &mut plain, item, -1);
    }
    check(&board, &plain);
    for item in 0..39_900 {
        assert_eq!(board.remove(&item), plain.scores.remove(&item).map(Score));
    }
    check(&board, &plain);
    assert!(board.order.ids().count() < 10, "blocks that nobody needs are gone");
    for item in 0..40_000 {
        add(&mut board, &mut plain, item, i64::from(item));
    }
    check(&board, &plain);
}

/// More blocks than one group lists.
#[test]
fn a_board_of_many_groups_is_in_order() {
    let mut board = Board::new();
    for item in 0_u32..300_000 {
        board.add(&item.reverse_bits(), Score(i64::from(item % 1_000))).expect("it fits");
    }
    board.check();
    let mut last: Option<Entry<u32>> = None;
    for (place, one) in board.iter().enumerate() {
        assert_eq!(one.rank, place);
        if let Some(last) = last {
            assert!((last.score, std::cmp::Reverse(last.item)) > (one.score, std::cmp::Reverse(one.item)));
        }
        last = Some(one);
    }
    for item in 0_u32..300_000 {
        board.remove(&item.reverse_bits());
        if item % 50_000 == 0 {
            board.check();
        }
    }
    assert!(board.is_empty());
    board.check();
}

#[test]
fn what_does_not_fit_leaves_the_board_as_it_was() {
    let mut board = Board::new();
    board.add(&1, Score(i64::MAX)).expect("it fits");
    board.add(&2, Score(i64::MIN)).expect("it fits");
    assert_eq!(board.add(&1, Score(1)), Err(RankingError::Sum { score: i64::MAX, delta: 1 }));
    assert_eq!(board.add(&2, Score(-1)), Err(RankingError::Sum { score: i64::MIN, delta: -1 }));
    let many = [(1, 1), (3, 5), (2, -1), (3, 6)].map(|(item, delta)| (item, Score(delta)));
    let refused = board.add_all(many.iter().map(|(item, delta)| (item, *delta)));
    assert_eq!(refused, Err(RankingError::Sum { score: i64::MAX, delta: 1 }), "the first of them");
    assert_eq!(board.remove(&3), Some(Score(11)), "what fits was added");
    let other = board.clone();
    let scale = Scale::decimals(0);
    assert!(matches!(board.merge(&other, Score(2), scale), Err(RankingError::Overflow { .. })));
    let read: Vec<_> = board.iter().map(|one| (one.item, one.score.0)).collect();
    assert_eq!(read, [(1, i64::MAX), (2, i64::MIN)]);
}

#[test]
fn an_item_takes_at_most_a_hundred_bytes() {
    let mut board = Board::new();
    let mut most = 0.0_f64;
    for item in 0_u64..300_000 {
        board.add(&item, Score((item % 7) as i64)).expect("it fits");
        if item > 10_000 {
            most = most.max(board.bytes() as f64 / board.len() as f64);
        }
    }
    assert!(most <= 100.0, "{most}");
}
