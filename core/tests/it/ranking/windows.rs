//! Windows of time, carry-over, weights and groups, in memory.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::error::RankingError;
use aftercommit::prelude::*;
use aftercommit::ranking::{Board, Moved, Parts, Ranking, Scale, Score, Ties, Windows, Zone};
use aftercommit::testing::MovedClock;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{DAY, Sold, Viewed, all, order, plainly, score, sold, viewed};
use crate::heard::within;

const HOUR: u64 = 3_600_000;

fn declared(windows: Windows) -> aftercommit::ranking::RankingBuilder<u32> {
    Ranking::declare("test.ranking")
        .windows(windows)
        .source::<Viewed>("view", "0.1", viewed)
        .source::<Sold>("sale", "0.7", sold)
}

fn ranking(windows: Windows) -> Ranking<u32> {
    declared(windows).build().expect("it can be")
}

fn see(ranking: &Ranking<u32>, item: u32, at: u64) {
    ranking.credit("view", item, 1.0, Timestamp(at)).expect("it is counted");
}

fn points(text: &str) -> Score {
    Scale::default().parse(text).expect("a score")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Late events, and events that come before those before them: all that counts is which there were.
    #[test]
    fn every_window_is_what_its_events_come_to_in_whatever_sequence_they_come(
        events in proptest::collection::vec((0_u64..6, 0_u32..12, 0_usize..2, -3_000_000_000_i64..9_000_000_000), 0..120),
        carry in 0_i64..=1_000_000,
        weights in (0_i64..3_000_000, -500_000_i64..3_000_000),
    ) {
        let text = Scale::decimals(6).show(Score(carry)).to_string();
        let ranking = declared(Windows::daily(Zone::UTC)).carry(text).build()?;
        for (day, item, source, amount) in &events {
            let points = *amount as f64 / 1e9;
            ranking.credit(["view", "sale"][*source], *item, points, Timestamp(day * DAY + 5))?;
        }
        let events: Vec<_> = events.iter().map(|(day, item, source, amount)| (day * DAY, *item, *source, *amount)).collect();
        prop_assert_eq!(all(&ranking), plainly(&events, &[100_000, 700_000], carry));
        let show = |weight| Scale::decimals(6).show(Score(weight)).to_string();
        ranking.reweigh([("view", show(weights.0).as_str()), ("sale", show(weights.1).as_str())])?;
        prop_assert_eq!(all(&ranking), plainly(&events, &[weights.0, weights.1], carry), "weighed differently");
        for (begin, board) in all(&ranking) {
            for (item, total) in board {
                let Parts { carried, earned } = ranking.parts(Timestamp(begin), &item);
                prop_assert_eq!(carried.0 + earned.0, total);
            }
        }
    }

    #[test]
    fn a_sliding_board_is_the_sum_of_its_slots(events in proptest::collection::vec((0_u64..40, 0_u32..8), 0..150)) {
        let ranking = ranking(Windows::sliding(Duration::from_secs(60), 5));
        for (minute, item) in &events {
            // What is too late for the oldest slot is refused.
            let _ = ranking.credit("view", *item, 1.0, Timestamp(minute * 60_000 + 59_999));
        }
        let newest = events.iter().map(|event| event.0).max().unwrap_or_default();
        let mut plain = Board::with_ties(Ties::LowerFirst);
        for (_, item) in events.iter().filter(|(minute, _)| minute + 5 > newest) {
            plain.add(item, Score(100_000))?;
        }
        let read = ranking.top(usize::MAX);
        prop_assert_eq!(read, plain.top(usize::MAX));
    }
}

#[test]
fn a_new_day_begins_with_a_part_of_yesterday_and_what_is_earned_is_told_apart() {
    let ranking = declared(Windows::daily(Zone::UTC)).carry("0.5").build().expect("it can be");
    (0..4).for_each(|_| see(&ranking, 1, 0));
    see(&ranking, 2, 1);
    ranking.advance(Timestamp(DAY));
    assert_eq!(order(&ranking), [1, 2], "the page is not empty at midnight");
    assert_eq!(score(&ranking, 1), Some(points("0.2")));
    see(&ranking, 2, DAY + 7);
    see(&ranking, 2, DAY + 8);
    assert_eq!(order(&ranking), [2, 1]);
    assert_eq!(ranking.parts(Timestamp(DAY), &2), Parts { carried: points("0.05"), earned: points("0.2") });
    assert_eq!(ranking.parts(Timestamp(DAY), &1), Parts { carried: points("0.2"), earned: Score::ZERO });
    // Two days without events: what is carried is halved twice, also where a late event changes what the first day was.
    ranking.advance(Timestamp(3 * DAY));
    (0..4).for_each(|_| see(&ranking, 1, DAY - 1));
    assert_eq!(score(&ranking, 1), Some(points("0.1")));
    assert_eq!(ranking.moved(&1, Timestamp(DAY)), Moved { was: Some(0), is: Some(0) });
}

#[test]
fn days_and_hours_of_a_zone_meet_where_its_clocks_change() {
    let london = Zone::named("Europe/London").expect("a zone");
    let (days, hours) = (ranking(Windows::daily(london.clone())), ranking(Windows::hourly(london)));
    // 2026-03-29, of 23 hours, and 2026-10-25, of 25.
    for (midnight, length) in [(1_774_742_400_000, 23), (1_792_882_800_000, 25)] {
        for half_hour in 0..length * 2 {
            see(&days, half_hour as u32 % 5, midnight + half_hour * HOUR / 2);
            see(&hours, half_hour as u32 % 5, midnight + half_hour * HOUR / 2);
        }
        assert_eq!(days.windows().last(), Some(&Timestamp(midnight)));
        let of_day: Vec<Timestamp> = hours.windows().into_iter().filter(|begin| begin.0 >= midnight).collect();
        assert_eq!(of_day.len() as u64, length);
        let boards: Vec<Board<u32>> =
            of_day.iter().map(|begin| hours.window(*begin, Board::clone).expect("it is kept")).collect();
        let whole = boards.iter().map(|board| (board, Score(1)));
        let merged = Board::merged(Ties::LowerFirst, Scale::decimals(0), whole).expect("it fits");
        assert_eq!(merged.top(9), days.top(9), "hours are merged into their day");
    }
}

#[test]
fn what_decays_is_worth_half_after_its_half_life_and_its_order_is_that_of_the_moment() {
    let week = Duration::from_millis(7 * DAY);
    let ranking = ranking(Windows::decaying(week));
    let now = 1_000 * DAY;
    (0..8).for_each(|_| see(&ranking, 1, now));
    (0..5).for_each(|_| see(&ranking, 2, now + 7 * DAY));
    assert_eq!(order(&ranking), [2, 1], "eight of last week are worth four");
    let as_of = |item, at| ranking.as_of(score(&ranking, item).expect("it is there"), Timestamp(at)).0;
    let near = |left: i64, right: &str| (left - points(right).0).abs() <= 2;
    assert!(near(as_of(1, now + 7 * DAY), "0.4") && near(as_of(2, now + 7 * DAY), "0.5"));
    assert!(near(as_of(2, now + 14 * DAY), "0.25"));
    // Into the next epochs: the order stays, until what is worth less than a unit is nothing, and is let go of.
    see(&ranking, 3, now + 10 * 7 * DAY);
    assert_eq!(order(&ranking), [3, 2, 1]);
    assert!(near(as_of(2, now + 10 * 7 * DAY), "0.000977"));
    see(&ranking, 4, now + 60 * 7 * DAY);
    assert_eq!(order(&ranking), [4]);
}

#[test]
fn only_so_many_windows_are_kept_the_others_are_handed_over_and_what_is_too_late_is_counted() {
    let archived = Arc::new(Mutex::new(Vec::new()));
    let archive = archived.clone();
    let ranking = declared(Windows::daily(Zone::UTC).keep(2))
        .carry("0.5")
        .on_drop(move |begin, board| archive.lock().push((begin.0, board.top(9).len())))
        .build()
        .expect("it can be");
    (0..4).for_each(|item| see(&ranking, item, u64::from(item) * DAY));
    assert_eq!(ranking.windows(), [Timestamp(2 * DAY), Timestamp(3 * DAY)]);
    assert_eq!(*archived.lock(), [(0, 1), (DAY, 2)]);
    assert_eq!(ranking.parts(Timestamp(2 * DAY), &0).carried, points("0.025"), "what was carried over stays");
    let late = ranking.credit("view", 9, 1.0, Timestamp(DAY)).expect_err("it is not kept");
    assert_eq!(late, RankingError::TooLate { at: DAY, oldest: 2 * DAY });
    assert_eq!(ranking.too_late(), 1);
    see(&ranking, 9, 2 * DAY);
    assert_eq!(score(&ranking, 9), Some(points("0.05")), "late, and in time");
}

#[test]
fn only_so_many_items_are_kept() {
    let ranking = declared(Windows::all_time()).most_items(100).build().expect("it can be");
    for item in 0..1_000 {
        (0..=item / 10).for_each(|_| see(&ranking, item, 0));
    }
    let kept = ranking.current(Board::len).expect("a window");
    assert!((100..=125).contains(&kept), "{kept}");
    assert_eq!(order(&ranking)[..3], [990, 991, 992]);
}

#[test]
fn the_best_of_a_group_are_found_by_its_name() {
    let brand = |item: &u32| (*item != 7).then(|| format!("brand {}", item % 3));
    let ranking = declared(Windows::daily(Zone::UTC)).carry("0.5").group_by(brand).build().expect("it can be");
    for item in 0..9 {
        (0..=item).for_each(|_| see(&ranking, item, 0));
    }
    let of =
        |brand: &str| ranking.group(brand, |board| board.top(2).into_iter().map(|one| one.item).collect::<Vec<_>>());
    assert_eq!((of("brand 2"), of("brand 1"), of("brand 9")), (Some(vec![8, 5]), Some(vec![4, 1]), None));
    ranking.advance(Timestamp(DAY));
    see(&ranking, 2, DAY);
    assert_eq!(of("brand 2"), Some(vec![8, 5]), "carried over too");
    ranking.reweigh([("view", "-1")]).expect("a weight");
    assert_eq!(of("brand 2"), Some(vec![2, 5]), "and weighed: -2.5 before -3");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let ranking = ranking(Windows::all_time());
    let credit = |points| ranking.credit("sale", 1, points, Timestamp(0));
    assert!(matches!(credit(f64::NAN), Err(RankingError::NotFinite { .. })));
    assert!(matches!(credit(1e300), Err(RankingError::Overflow { .. })));
    credit(9e9).expect("it fits");
    assert!(matches!(credit(9e9), Err(RankingError::Sum { .. })));
    assert_eq!(score(&ranking, 1), Some(points("6300000000")));
    assert!(matches!(ranking.credit("sail", 1, 1.0, Timestamp(0)), Err(RankingError::UnknownSource { .. })));
    let ahead = Timestamp(u64::MAX / 4);
    assert!(matches!(ranking.credit("view", 1, 1.0, ahead), Err(RankingError::TooEarly { .. })));
    let error = ranking.reweigh([("view", "0.1234567")]).expect_err("seven decimals");
    assert_eq!(error.to_string(), "`0.1234567` is no decimal number of at most 6 places");
    assert_eq!(ranking.weights(), [("view", points("0.1")), ("sale", points("0.7"))]);
}

#[test]
fn what_cannot_be_declared_says_why() {
    fn check(declaration: aftercommit::ranking::RankingBuilder<u32>, reason: &str) {
        let error = declaration.build().expect_err("it cannot be");
        assert_eq!(error.to_string(), format!("ranking `test.ranking` cannot be: {reason}"));
    }
    let plain = || declared(Windows::all_time());
    check(Ranking::declare("test.ranking"), "it has no source");
    check(plain().source::<Viewed>("view", "1", viewed), "two sources are named `view`");
    check(plain().source::<Viewed>("like", "much", viewed), "`much` is no decimal number of at most 6 places");
    check(plain().carry("1.5"), "a part of 1.5 cannot be carried over: it is 0 to 1");
    let sliding = || declared(Windows::sliding(Duration::from_secs(1), 3));
    check(sliding().carry("0.5"), "a sliding or decaying ranking carries nothing over");
    check(sliding().most_items(10), "items are bounded only where windows stand alone");
}

/// However many events come, a page is told at its pace; and what came while nobody waited is told too.
#[tokio::test]
async fn changes_are_told_at_a_pace() {
    let clock = MovedClock::default();
    let ranking = ranking(Windows::all_time());
    let bus = Bus::builder().clock(clock.clone()).ranking(&ranking).start().await.expect("the bus starts");
    let mut changes = ranking.changes(Duration::from_secs(1));
    within(changes.next()).await.expect("the state as it is");
    (0..9).for_each(|item| see(&ranking, item, 0));
    let mut next = Box::pin(changes.next());
    assert!(futures::poll!(&mut next).is_pending(), "a second has not passed");
    see(&ranking, 1, 0);
    clock.advance(Duration::from_secs(1));
    within(next).await.expect("ten events, one change");
    assert!(futures::poll!(Box::pin(changes.next())).is_pending(), "nothing has changed since");
    see(&ranking, 1, 0);
    assert!(futures::poll!(Box::pin(changes.next())).is_pending());
    clock.advance(Duration::from_secs(1));
    let mut dropped = Box::pin(changes.next());
    assert!(futures::poll!(&mut dropped).is_pending(), "a future that was dropped lost no change, but its second");
    clock.advance(Duration::from_secs(1));
    within(dropped).await.expect("told");
    let mut another = ranking.changes(Duration::from_secs(1));
    within(another.next()).await.expect("the state as it is, at once");
    drop(bus);
}
