//! Boards beside the sorted sets of Redis: a case each of the group RK.

use aftercommit::ranking::{Board, Entry, Scale, Score, Ties};

const WHOLE: Scale = Scale::decimals(0);

fn board(scores: &[(&'static str, i64)]) -> Board<&'static str> {
    let mut board = Board::new();
    for (item, score) in scores {
        board.add(item, Score(*score)).expect("it fits");
    }
    board
}

fn items(page: &[Entry<&'static str>]) -> Vec<&'static str> {
    page.iter().map(|one| one.item).collect()
}

fn both(page: &[Entry<&'static str>]) -> Vec<(&'static str, i64)> {
    page.iter().map(|one| (one.item, one.score.0)).collect()
}

#[test]
fn rk_01_an_item_that_is_not_there_begins_at_zero() {
    let mut board = Board::default();
    assert_eq!(board.score(&"mug"), None);
    assert_eq!(board.add(&"mug", Score(3)), Ok(Score(3)));
    assert_eq!(both(&board.top(9)), [("mug", 3)]);
}

#[test]
fn rk_02_what_is_added_or_taken_reorders_at_once() {
    let mut board = board(&[("bag", 1), ("mug", 2), ("pen", 3)]);
    assert_eq!(board.add(&"bag", Score(9)), Ok(Score(10)));
    assert_eq!(items(&board.top(9)), ["bag", "pen", "mug"]);
    assert_eq!(board.add(&"bag", Score(-12)), Ok(Score(-2)));
    assert_eq!(both(&board.top(9)), [("pen", 3), ("mug", 2), ("bag", -2)]);
}

#[test]
fn rk_03_a_new_score_moves_the_item_and_never_lists_it_twice() {
    let mut board = board(&[("bag", 10), ("mug", 20), ("pen", 30)]);
    assert_eq!(board.set(&"pen", Score(1)), Ok(Some(Score(30))));
    assert_eq!(board.set(&"cup", Score(15)), Ok(None));
    assert_eq!(both(&board.top(9)), [("mug", 20), ("cup", 15), ("bag", 10), ("pen", 1)]);
    assert_eq!(board.len(), 4);
}

/// The peer's best-first lists have equal members in descending order. Ours has the lower item first in them, so that the
/// order people read is the ascending one; worst-first lists are the exact reverse. The peer's order can be declared.
#[test]
fn rk_04_equal_scores_go_to_the_lower_item_best_first_whatever_came_first() {
    let scores = [("mug", 1), ("bag", 1), ("pen", 2), ("cup", 1)];
    let mut reversed = scores;
    reversed.reverse();
    for scores in [scores, reversed] {
        let board = board(&scores);
        assert_eq!(items(&board.top(9)), ["pen", "bag", "cup", "mug"]);
        assert_eq!(items(&board.bottom(9)), ["mug", "cup", "bag", "pen"]);
    }
    let mut as_the_peer = Board::with_ties(Ties::HigherFirst);
    scores.iter().for_each(|(item, score)| drop(as_the_peer.add(item, Score(*score))));
    assert_eq!(items(&as_the_peer.top(9)), ["pen", "mug", "cup", "bag"]);
}

#[test]
fn rk_05_ranks_begin_at_zero_from_either_end_and_an_unknown_item_has_none() {
    let board = board(&[("bag", 10), ("mug", 20), ("pen", 30)]);
    assert_eq!((board.rank(&"pen"), board.rank(&"bag")), (Some(0), Some(2)));
    assert_eq!((board.rank_from_last(&"pen"), board.rank_from_last(&"bag")), (Some(2), Some(0)));
    assert_eq!((board.rank(&"cup"), board.rank_from_last(&"cup")), (None, None));
}

#[test]
fn rk_07_a_range_includes_both_ends_counts_from_the_end_and_is_cut_off_at_the_board() {
    let board = board(&[("a", 4), ("b", 3), ("c", 2), ("d", 1)]);
    fn check(board: &Board<&'static str>, start: i64, stop: i64, expected: &[&str]) {
        assert_eq!(items(&board.range(start, stop)), expected, "{start} to {stop}");
    }
    check(&board, 0, -1, &["a", "b", "c", "d"]);
    check(&board, 0, -2, &["a", "b", "c"]);
    check(&board, 1, 2, &["b", "c"]);
    check(&board, -2, -1, &["c", "d"]);
    check(&board, -2, 2, &["c"]);
    check(&board, 5, -1, &[]);
    check(&board, 0, 99, &["a", "b", "c", "d"]);
    check(&board, -99, 0, &["a"]);
    check(&board, 2, 1, &[]);
    check(&board, i64::MIN, i64::MAX, &["a", "b", "c", "d"]);
    check(&Board::new(), 0, -1, &[]);
}

#[test]
fn rk_08_a_range_of_scores_includes_or_excludes_its_ends_and_pages() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let board = board(&[("a", i64::MIN), ("b", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5), ("g", i64::MAX)]);
    let all = |range| items(&board.scored(range, 0, usize::MAX));
    assert_eq!(all((Included(Score(2)), Included(Score(4)))), ["e", "d", "c"]);
    assert_eq!(all((Excluded(Score(2)), Included(Score(4)))), ["e", "d"]);
    assert_eq!(all((Included(Score(2)), Excluded(Score(4)))), ["d", "c"]);
    assert_eq!(all((Unbounded, Included(Score(1)))), ["b", "a"]);
    assert_eq!(all((Excluded(Score(4)), Unbounded)), ["g", "f"]);
    assert_eq!(all((Included(Score(4)), Included(Score(2)))), [""; 0], "the wrong way round");
    assert_eq!(all((Excluded(Score(2)), Excluded(Score(3)))), [""; 0]);
    assert_eq!(board.count(Score(2)..=Score(4)), 3);
    assert_eq!(board.count(..), 7);
    assert_eq!(items(&board.scored(Score(1)..=Score(5), 1, 2)), ["e", "d"]);
    assert_eq!(items(&board.scored(Score(1)..=Score(5), 4, 9)), ["b"]);
    assert_eq!(items(&board.scored(Score(1)..=Score(5), 5, 9)), [""; 0]);
}

/// A board is a value, so that an empty result is an empty board.
#[test]
fn rk_11_boards_merge_by_weight_and_items_of_one_alone_are_kept() {
    let (views, sales) = (board(&[("bag", 10), ("mug", 5)]), board(&[("mug", 2), ("pen", 1)]));
    let merged = |pairs: Vec<(&Board<&'static str>, i64)>| {
        let weighted = pairs.into_iter().map(|(board, weight)| (board, Score(weight)));
        Board::merged(Ties::default(), WHOLE, weighted).expect("it fits")
    };
    assert_eq!(both(&merged(vec![(&views, 1), (&sales, 7)]).top(9)), [("mug", 19), ("bag", 10), ("pen", 7)]);
    assert_eq!(both(&merged(vec![(&sales, 7), (&views, 1)]).top(9)), [("mug", 19), ("bag", 10), ("pen", 7)]);
    assert_eq!(both(&merged(vec![(&views, 1), (&Board::new(), 9)]).top(9)), [("bag", 10), ("mug", 5)]);
    assert!(merged(vec![(&Board::new(), 1)]).is_empty() && merged(vec![]).is_empty());
    let mut hour = views.clone();
    hour.merge(&sales, Scale::decimals(1).parse("0.5").expect("a weight"), Scale::decimals(1)).expect("it fits");
    assert_eq!(both(&hour.top(9)), [("bag", 10), ("mug", 6), ("pen", 1)], "half a point is rounded away from zero");
}
