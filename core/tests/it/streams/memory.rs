//! Subscribers hear what was committed, in memory.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::bus::{Lagged, Subscription};
use aftercommit::error::PublishError;
use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::testing::{FailingStore, Fault, Step};
use aftercommit::transaction::CallFuture;
use futures::{FutureExt, StreamExt};

use super::{Priced, price};
use crate::heard::within;
use crate::scene::{Heard, No, Rang, bus_on};

/// What waits to be read.
fn waiting<E: Clone>(stream: &mut Subscription<E>) -> Vec<Result<E, u64>> {
    let mut read = Vec::new();
    while let Some(Some(item)) = stream.next().now_or_never() {
        read.push(item.map(|event| (*event).clone()).map_err(|lagged: Lagged| lagged.missed));
    }
    read
}

on_every_store! {
    async fn a_subscriber_hears_what_was_committed_and_nothing_before(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let mut stream = bus.subscribe::<Rang>();
        let early = bus
            .transaction(async |tx| {
                tx.publish(Rang(1))?;
                let undone: Result<(), Error> = tx
                    .savepoint(async |tx| {
                        tx.publish(Rang(2))?;
                        tx.publish(Rang(3))?;
                        Err(aftercommit::error::UnitError::RollbackOnly { reason: "undone".to_owned() }.into())
                    })
                    .await;
                assert!(undone.is_err());
                tx.publish(Rang(4))?;
                Ok::<_, Error>(waiting(&mut stream))
            })
            .await
            .expect("committed");
        assert_eq!(early.value, []);
        assert_eq!(waiting(&mut stream), [Ok(Rang(1)), Ok(Rang(4))]);
        let refused = bus.transaction(async |tx| {
            tx.publish(Rang(5))?;
            tx.set_rollback_only("no");
            Ok::<_, Error>(())
        });
        assert!(refused.await.is_err());
        assert_eq!(waiting(&mut stream), []);
    }

    async fn events_published_under_one_lock_are_heard_in_the_order_of_their_commits(home: &dyn Home) {
        const LAST: Table<u8, u32> = Table::new("streams.last");
        let heard = Heard::default();
        let bus = bus_on(home).listener(heard.in_phase::<Rang>(Phase::AfterCommit)).start().await.expect("the bus starts");
        let mut stream = bus.subscribe::<Rang>();
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    for _ in 0..25 {
                        let committed = bus.transaction(async |tx| {
                            tx.lock(7_u8).await?;
                            let next = LAST.get(tx, &7)?.unwrap_or(0) + 1;
                            LAST.put(tx, &7, &next)?;
                            tx.publish(Rang(next))
                        });
                        committed.await.expect("committed");
                    }
                })
            })
            .collect();
        for writer in writers {
            within(writer).await.expect("no panic");
        }
        let expected: Vec<_> = (1..=100).map(|number| Ok(Rang(number))).collect();
        assert_eq!(waiting(&mut stream), expected);
        assert_eq!(heard.all().len(), 100, "listeners hear as they did before");
    }

    async fn an_after_commit_listener_that_hangs_holds_no_subscriber_up(home: &dyn Home) {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let hangs = listener::on::<Rang>("streams.hangs").order(i32::MIN).call_async({
            let gate = gate.clone();
            move |_, _| {
                let gate = gate.clone();
                CallFuture::from_or_box(async move {
                    let _permit = gate.acquire().await?;
                    Ok(None)
                })
            }
        });
        let bus = bus_on(home).listener(hangs).start().await.expect("the bus starts");
        let mut stream = bus.subscribe::<Rang>();
        let unit = tokio::spawn({
            let bus = bus.clone();
            async move { bus.transaction(async |tx| tx.publish(Rang(1))).await.map(drop) }
        });
        assert_eq!(within(stream.next()).await, Some(Ok(Arc::new(Rang(1)))));
        assert!(!unit.is_finished());
        gate.add_permits(1);
        within(unit).await.expect("no panic").expect("committed");
    }

    async fn all_subscribers_hear_the_same_order(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let mut streams: Vec<_> = (0..3).map(|_| bus.subscribe::<Rang>()).collect();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    for number in 0..25 {
                        bus.transaction(async |tx| tx.publish(Rang(writer * 100 + number))).await.expect("committed");
                    }
                })
            })
            .collect();
        for writer in writers {
            within(writer).await.expect("no panic");
        }
        let all: Vec<_> = streams.iter_mut().map(waiting).collect();
        assert_eq!(all[0].len(), 100);
        assert!(all.iter().all(|one| *one == all[0]));
    }

    async fn a_commit_in_doubt_is_not_heard(home: &dyn Home) {
        let store = FailingStore::around(home.open());
        let bus = Bus::builder().store(store.clone()).start().await.expect("the bus starts");
        let mut stream = bus.subscribe::<Rang>();
        store.fail_next(Step::Commit, Fault::InDoubt { stored: true });
        let doubted = bus.transaction(async |tx| tx.publish(Rang(1))).await;
        assert!(doubted.is_err_and(|error| error.is_in_doubt()));
        assert_eq!(waiting(&mut stream), []);
    }

    async fn a_slow_reader_is_told_what_it_missed_and_holds_nobody_up(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let (mut slow, mut quick) = (bus.subscribe::<Rang>().capacity(2), bus.subscribe::<Rang>());
        for number in 1..=5 {
            bus.transaction(async |tx| tx.publish(Rang(number))).await.expect("committed");
        }
        assert_eq!(waiting(&mut quick).len(), 5);
        assert_eq!(waiting(&mut slow), [Err(3), Ok(Rang(4)), Ok(Rang(5))]);
    }

    async fn a_reader_of_the_latest_sees_the_newest_of_each_key(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let mut stream = bus.subscribe::<Priced>().latest();
        for (article, cents) in [("tea", 1), ("jam", 2), ("tea", 3), ("tea", 4)] {
            price(&bus, article, cents).await;
        }
        assert_eq!(waiting(&mut stream), [Ok(Priced::new("tea", 4)), Ok(Priced::new("jam", 2))]);
        price(&bus, "tea", 5).await;
        assert_eq!(waiting(&mut stream), [Ok(Priced::new("tea", 5))]);
    }

    async fn a_stopped_bus_ends_the_streams_once_what_waits_was_read(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("the bus starts");
        let stream = bus.subscribe::<Rang>();
        bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
        let reader = tokio::spawn(stream.count());
        within(bus.shutdown(Duration::from_secs(30))).await.expect("nothing is left");
        assert_eq!(within(reader).await.expect("no panic"), 1);
        let mut late = bus.subscribe::<Rang>();
        assert_eq!(within(late.next()).await, None);
    }
}

#[tokio::test]
async fn a_dropped_bus_ends_the_streams() {
    let bus = Bus::builder().start().await.expect("the bus starts");
    let mut stream = bus.subscribe::<Rang>();
    drop(bus);
    assert_eq!(within(stream.next()).await, None);
}

#[tokio::test]
async fn without_a_unit_of_work_an_event_is_heard_at_once() {
    let bus = Bus::builder().start().await.expect("the bus starts");
    let mut stream = bus.subscribe::<Rang>();
    bus.publish(&Rang(1)).expect("nobody objects");
    bus.publish_all(&[Rang(2), Rang(3)]).expect("nobody objects");
    assert_eq!(waiting(&mut stream), [Ok(Rang(1)), Ok(Rang(2)), Ok(Rang(3))]);
    assert_eq!(bus.counts().dead_events, 0, "somebody listens");
}

#[tokio::test]
async fn a_subscriber_does_not_do_away_with_the_need_for_a_unit_of_work() {
    let needing = listener::on::<Rang>("streams.needs-unit").call(|_| {});
    let bus = Bus::builder().listener(needing).start().await.expect("the bus starts");
    let mut stream = bus.subscribe::<Rang>();
    match bus.publish(&Rang(1)) {
        Err(Error::Publish(PublishError::NeedsUnit { listeners, .. })) => assert_eq!(listeners, ["streams.needs-unit"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(waiting(&mut stream), []);
}

#[tokio::test]
async fn who_leaves_hears_nothing_and_the_event_is_as_it_was() {
    let heard = Heard::default();
    let to = heard.clone();
    let immediate = listener::on::<Rang>("streams.immediate").phase(Phase::Immediate).call(move |event| {
        to.note(format!("{}", event.0));
        if event.0 == 2 { Err(No) } else { Ok(()) }
    });
    let bus = Bus::builder().listener(immediate).start().await.expect("the bus starts");
    let before = bus.describe().to_string();
    for _ in 0..3 {
        let mut stream = bus.subscribe::<Rang>();
        assert_eq!(bus.describe().to_string(), before, "a stream is no listener to be described");
        bus.publish(&Rang(1)).expect("nobody objects");
        bus.publish(&Rang(2)).expect_err("the listener objects");
        assert_eq!(waiting(&mut stream), [Ok(Rang(1))], "what was refused is not heard");
        drop(stream);
        bus.publish(&Rang(1)).expect("nobody objects");
    }
    assert_eq!(heard.count("1"), 6);
}

#[tokio::test]
async fn a_reader_in_another_task_is_woken() {
    let bus = Bus::builder().start().await.expect("the bus starts");
    let mut stream = bus.subscribe::<Rang>();
    let reader = tokio::spawn(async move { stream.next().await.and_then(Result::ok).map(|event: Arc<Rang>| event.0) });
    tokio::task::yield_now().await;
    bus.publish(&Rang(7)).expect("nobody objects");
    assert_eq!(within(reader).await.expect("no panic"), Some(7));
}
