//! Rankings that durable listeners keep, across restarts and rebuilds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::prelude::*;
use aftercommit::ranking::{Ranking, Windows, Zone};
use proptest::test_runner::{Config, TestRunner};

use super::{DAY, Sold, Viewed, all, plainly, sold, viewed};
use crate::heard::within;
use crate::stores::Home;

/// Counts how often an event was measured.
fn daily(measured: &Arc<AtomicUsize>, keep: usize) -> Ranking<u32> {
    let (views, sales) = (measured.clone(), measured.clone());
    Ranking::declare("kept.daily")
        .windows(Windows::daily(Zone::UTC).keep(keep))
        .carry("0.5")
        .from_the_beginning()
        .source("view", "0.1", move |event: &Viewed, credits| {
            views.fetch_add(1, Ordering::Relaxed);
            viewed(event, credits);
        })
        .source("sale", "0.7", move |event: &Sold, credits| {
            sales.fetch_add(1, Ordering::Relaxed);
            sold(event, credits);
        })
        .build()
        .expect("it can be")
}

async fn started(home: &dyn Home, ranking: &Ranking<u32>) -> Bus {
    let bus = Bus::builder().shared_store(home.open()).durability(Durability::Flush).ranking(ranking);
    bus.start().await.expect("the bus starts")
}

async fn stopped(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

/// Events of a few days in no order, as (day, item, thousandths sold or a view).
fn events(seed: u64, count: usize) -> Vec<(u64, u32, Option<u32>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| (random.u64(0..5), random.u32(0..20), random.bool().then(|| random.u32(0..90_000)))).collect()
}

async fn publish(bus: &Bus, events: &[(u64, u32, Option<u32>)]) {
    for some in events.chunks(10) {
        let published = bus.transaction(async |tx| {
            some.iter().try_for_each(|(day, item, amount)| match amount {
                None => tx.publish(Viewed { item: *item, at: day * DAY }),
                Some(amount) => tx.publish(Sold { item: *item, amount: f64::from(*amount) / 1e3, at: day * DAY + 1 }),
            })
        });
        published.await.expect("committed");
    }
}

fn expected(events: &[(u64, u32, Option<u32>)]) -> std::collections::BTreeMap<u64, Vec<(u32, i64)>> {
    let plain: Vec<(u64, u32, usize, i64)> = events
        .iter()
        .map(|(day, item, amount)| match amount {
            None => (day * DAY, *item, 0, 1_000_000_000),
            Some(amount) => (day * DAY, *item, 1, i64::from(*amount) * 1_000_000),
        })
        .collect();
    plainly(&plain, &[100_000, 700_000], 500_000)
}

/// The measures as they are stored.
fn cells(bus: &Bus) -> Vec<((Timestamp, u32, String), i64)> {
    let cells: Counters<(u32, Timestamp, u32, String)> = Counters::new("kept.daily");
    let mut reader = bus.reader().expect("a reader");
    cells
        .iter(&mut reader)
        .map(|row| row.map(|((_, window, item, source), amount)| ((window, item, source), amount)))
        .collect::<Result<_, _>>()
        .expect("rows")
}

on_embedded_stores! {
    async fn a_ranking_is_what_its_events_come_to_also_after_a_restart_which_replays_nothing(home: &dyn Home) {
        let (measured, some) = (Arc::new(AtomicUsize::new(0)), events(1, 200));
        let ranking = daily(&measured, 100);
        let bus = started(home, &ranking).await;
        publish(&bus, &some).await;
        within(bus.idle()).await;
        assert_eq!(all(&ranking), expected(&some));
        assert_eq!(measured.load(Ordering::Relaxed), 200, "each once");
        stopped(bus).await;
        let ranking = daily(&measured, 100);
        let bus = started(home, &ranking).await;
        assert_eq!(all(&ranking), expected(&some), "at once");
        let more = events(2, 100);
        publish(&bus, &more).await;
        within(bus.idle()).await;
        assert_eq!(all(&ranking), expected(&[some, more].concat()));
        assert_eq!(measured.load(Ordering::Relaxed), 300, "nothing twice");
        stopped(bus).await;
    }

    async fn what_rolled_back_does_not_count_and_what_is_refused_parks_alone(home: &dyn Home) {
        let measured = Arc::default();
        let ranking = daily(&measured, 100);
        let bus = started(home, &ranking).await;
        let rolled_back = bus.transaction(async |tx| {
            tx.publish(Viewed { item: 1, at: 0 })?;
            tx.set_rollback_only("not today");
            Ok::<_, Error>(())
        });
        rolled_back.await.expect_err("rolled back");
        bus.transaction(async |tx| {
            tx.publish(Sold { item: 2, amount: 1e200, at: 0 })?;
            tx.publish(Sold { item: 3, amount: 2.0, at: 0 })
        })
        .await
        .expect("committed");
        within(bus.idle()).await;
        assert_eq!(all(&ranking)[&0], [(3, 1_400_000)]);
        let parked = bus.parked().await.expect("the parked ones");
        assert!(parked.len() == 1 && parked[0].cause.to_string().contains("does not fit a score of 9 decimals"), "{parked:?}");
        stopped(bus).await;
    }

    async fn a_rebuild_from_the_log_is_the_same_to_the_bit_and_the_old_one_serves_meanwhile(home: &dyn Home) {
        let (measured, some) = (Arc::new(AtomicUsize::new(0)), events(3, 150));
        let ranking = daily(&measured, 100);
        let bus = started(home, &ranking).await;
        publish(&bus, &some).await;
        within(bus.idle()).await;
        let (before, stored) = (all(&ranking), cells(&bus));
        let (watched, was) = (ranking.clone(), before.clone());
        let rebuilt = async {
            ranking.rebuild(&bus).await.expect("rebuilt");
        };
        let watching = async {
            while measured.load(Ordering::Relaxed) == 150 || watched.is_rebuilding() {
                assert_eq!(all(&watched), was, "the old one, then the same");
                tokio::task::yield_now().await;
            }
        };
        within(futures::future::join(rebuilt, watching)).await;
        assert_eq!((all(&ranking), cells(&bus)), (before, stored));
        assert_eq!(measured.load(Ordering::Relaxed), 300, "the log was read again");
        let more = events(4, 50);
        publish(&bus, &more).await;
        within(bus.idle()).await;
        let whole = expected(&[some, more].concat());
        assert_eq!(all(&ranking), whole, "and goes on");
        stopped(bus).await;
        let ranking = daily(&measured, 100);
        let bus = started(home, &ranking).await;
        assert_eq!(all(&ranking), whole);
        assert!(!ranking.is_rebuilding());
        stopped(bus).await;
    }

    async fn windows_that_are_let_go_of_are_removed_and_what_they_handed_on_stays(home: &dyn Home) {
        let measured = Arc::default();
        let ranking = daily(&measured, 2);
        let bus = started(home, &ranking).await;
        for day in 0..5 {
            publish(&bus, &[(day, 7, Some(8_000)), (day, day as u32, None)]).await;
            within(bus.idle()).await;
        }
        let kept = all(&ranking);
        assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [3 * DAY, 4 * DAY]);
        within(ranking.tidy(&bus)).await.expect("tidied");
        assert!(cells(&bus).iter().all(|((window, ..), _)| window.0 >= 3 * DAY) && cells(&bus).len() == 4);
        publish(&bus, &[(3, 1, None), (2, 1, None)]).await;
        within(bus.idle()).await;
        assert_eq!(ranking.too_late(), 1);
        let kept = all(&ranking);
        stopped(bus).await;
        let ranking = daily(&measured, 2);
        let bus = started(home, &ranking).await;
        assert_eq!(all(&ranking), kept);
        // Without the days before: 5.6 a day, and half of the day before, from the first on.
        assert_eq!(kept[&(4 * DAY)][0], (7, 10_850_000));
        stopped(bus).await;
    }
}

/// In whatever units, and whatever came in between, the measures are those of the events.
#[test]
fn any_sequence_of_units_restarts_and_rebuilds_comes_to_the_same() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: 12, ..Config::default() });
    let steps = proptest::collection::vec((0_u64..1_000, 0_usize..40, 0_u8..4), 1..8);
    let held = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let home = crate::stores::Memory::new();
            let (mut published, measured) = (Vec::new(), Arc::default());
            for (seed, count, then) in steps {
                let ranking = daily(&measured, 100);
                let bus = started(&home, &ranking).await;
                let some = events(seed, count);
                publish(&bus, &some).await;
                published.extend(some);
                if then == 1 {
                    within(ranking.rebuild(&bus)).await.expect("rebuilt");
                }
                if then > 1 {
                    within(bus.idle()).await;
                    assert_eq!(all(&ranking), expected(&published));
                }
                stopped(bus).await;
            }
            let ranking = daily(&measured, 100);
            let bus = started(&home, &ranking).await;
            within(bus.idle()).await;
            assert_eq!(all(&ranking), expected(&published));
            stopped(bus).await;
        });
        Ok(())
    });
    held.expect("the same");
}
