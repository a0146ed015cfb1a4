//! When what was handled is settled: a case each of the group ACK.

use std::sync::Arc;
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::listener::{self, AckMode, Batch, Declaration, ErrorRules, FailedAt, Redeliver, Registration, fixed};
use aftercommit::prelude::*;
use aftercommit::store::ParkedCause;
use aftercommit::testing::{FailingStore, Fault, MovedClock, Step};
use parking_lot::Mutex;

use super::{Failed, Gated, Life, Placed, place, place_all, settled, stop};
use crate::heard::{Heard, until, within};

fn on(mode: AckMode) -> Declaration<Placed> {
    listener::on::<Placed>("ack").durable().ack(mode)
}

fn noting(heard: &Heard, declaration: Declaration<Placed>) -> Registration {
    let to = heard.clone();
    declaration.call(move |event| to.note(event.line()))
}

/// Keeps every acknowledgment, for the test to give.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(u32, Ack)>>>);

impl Kept {
    fn listener(&self, heard: &Heard, declaration: Declaration<Placed>) -> Registration {
        let (kept, to) = (self.0.clone(), heard.clone());
        declaration.takes_ack().call_with(move |event, call| -> Result<(), BoxError> {
            let ack: Ack = call.take()?;
            let line = format!("{} attempt {}", event.line(), ack.attempt());
            kept.lock().push((event.order, ack));
            to.note(line);
            Ok(())
        })
    }

    /// Takes out that of an order.
    fn take(&self, order: u32) -> Ack {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|(of, _)| *of == order).expect("it was called");
        kept.remove(at).1
    }
}

const FOUR: [(&str, u32); 4] = [("a", 0), ("b", 1), ("c", 2), ("d", 3)];

on_every_store! {
    async fn ack_01_by_record_each_is_settled_before_the_next_is_called(home: &dyn Home) {
        let store = home.open();
        let heard = Heard::new();
        let (to, seen) = (heard.clone(), store.clone());
        let bus = Bus::builder()
            .shared_store(store.clone())
            .listener(listener::on::<Placed>("ack").durable().call_async(move |event, _| {
                let (to, seen) = (to.clone(), seen.clone());
                aftercommit::transaction::CallFuture::from_or_box(async move {
                    let cursors = seen.cursors().await?;
                    to.note(format!("{} with everything below {} settled", event.order, cursors[0].1.low()));
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        let at = place_all(&bus, &[("a", 1), ("b", 2), ("a", 3)]).await;
        within(bus.idle()).await;
        let mut expected: Vec<String> = at.iter().zip(1..).map(|(at, order)| format!("{order} with everything below {} settled", at.0)).collect();
        expected.sort();
        assert_eq!(heard.all(), expected);
    }

    async fn ack_03_by_batch_all_that_was_at_hand_is_settled_once(home: &dyn Home) {
        let (store, heard) = (FailingStore::around(home.open()), Heard::new());
        let bus = Bus::builder().store(store.clone()).listener(noting(&heard, on(AckMode::Batch))).start().await.expect("the bus starts");
        let at = place_all(&bus, &FOUR).await;
        within(bus.idle()).await;
        assert_eq!((heard.len(), settled(&store, "ack")), (4, vec![vec![(at[0].0, at[3].0)]]));
    }

    async fn ack_04_by_count_each_third_settles_and_so_does_the_end(home: &dyn Home) {
        let (store, heard) = (FailingStore::around(home.open()), Heard::new());
        let bus = Bus::builder().store(store.clone()).listener(noting(&heard, on(AckMode::Count(3)))).start().await.expect("the bus starts");
        assert!(bus.pause("ack"));
        let mut at = Vec::new();
        for some in [&[("a", 1), ("a", 2)][..], &[("a", 3), ("a", 4)], &[("a", 5), ("a", 6), ("a", 7)]] {
            at.extend(place_all(&bus, some).await.iter().map(|at| at.0));
        }
        assert!(bus.resume("ack"));
        within(bus.idle()).await;
        let commits = settled(&store, "ack");
        let ends: Vec<u64> = commits.iter().map(|runs| runs[0].1).collect();
        assert_eq!(ends.last(), Some(&at[6]), "{commits:?}");
        assert_eq!(ends.first(), Some(&at[2]), "{commits:?}");
        assert!((2..=3).contains(&ends.len()), "what was handled while the first was settled may be settled with it: {commits:?}");
    }

    async fn ack_05_by_count_or_time_the_time_alone_settles(home: &dyn Home) {
        let (store, heard, clock) = (FailingStore::around(home.open()), Heard::new(), MovedClock::default());
        let mode = AckMode::CountOrTime(1_000_000, Duration::from_secs(5));
        let bus = Bus::builder().store(store.clone()).clock(clock.clone()).listener(noting(&heard, on(mode))).start().await.expect("the bus starts");
        let at = place_all(&bus, &FOUR).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_millis(4_999));
        within(bus.quiet()).await;
        assert_eq!((heard.len(), settled(&store, "ack").len()), (4, 0));
        clock.advance(Duration::from_millis(1));
        within(bus.idle()).await;
        assert_eq!(settled(&store, "ack"), [vec![(at[0].0, at[3].0)]]);
        // And the count alone.
        let mode = AckMode::CountOrTime(2, Duration::from_secs(5));
        stop(bus).await;
        let store = FailingStore::around(home.open());
        let bus = Bus::builder().store(store.clone()).clock(clock.clone()).listener(noting(&heard, on(mode))).start().await.expect("the bus starts");
        place_all(&bus, &FOUR[..2]).await;
        within(bus.idle()).await;
        assert_eq!(settled(&store, "ack").len(), 1);
    }

    async fn ack_06_what_was_handled_is_settled_at_the_stop(home: &dyn Home) {
        for mode in [AckMode::Count(1_000), AckMode::Time(Duration::from_secs(1_000)), AckMode::CountOrTime(9, Duration::from_secs(1_000))] {
            let (heard, clock) = (Heard::new(), MovedClock::default());
            let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(noting(&heard, on(mode))).start().await.expect("the bus starts");
            place_all(&bus, &FOUR).await;
            within(bus.quiet()).await;
            stop(bus).await;
            let bus = Bus::builder().shared_store(home.open()).clock(clock).listener(noting(&heard, on(mode))).start().await.expect("the bus starts");
            within(bus.idle()).await;
            assert_eq!(heard.len(), 4, "{mode:?}: nothing is called again");
            stop(bus).await;
        }
    }

    async fn ack_08_manual_acknowledgments_in_any_order_are_settled_once_all_before_them_came(home: &dyn Home) {
        let (store, heard, kept) = (FailingStore::around(home.open()), Heard::new(), Kept::default());
        let bus = Bus::builder().store(store.clone()).listener(kept.listener(&heard, on(AckMode::Manual).concurrency(4))).start().await.expect("the bus starts");
        // Each that is acknowledged makes room for another, by which it is seen to have been taken in.
        let at = place_all(&bus, &[("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5), ("g", 6)]).await;
        heard.until(4).await;
        for (order, next) in [(3, 5), (2, 6), (1, 7)] {
            kept.take(order).done();
            heard.until(next).await;
            assert_eq!(settled(&store, "ack").len(), 0);
        }
        kept.take(0).done();
        until(|| !settled(&store, "ack").is_empty()).await;
        assert_eq!(settled(&store, "ack"), [vec![(at[0].0, at[3].0)]], "exactly one commit");
        (4..7).for_each(|order| kept.take(order).done());
        within(bus.idle()).await;
        assert_eq!(settled(&store, "ack").concat().last().map(|run| run.1), Some(at[6].0));
    }

    async fn ack_10_while_acknowledgments_are_missing_nothing_new_is_delivered(home: &dyn Home) {
        let (heard, kept) = (Heard::new(), Kept::default());
        let bus = Bus::builder().shared_store(home.open()).listener(kept.listener(&heard, on(AckMode::Manual).concurrency(2))).start().await.expect("the bus starts");
        place_all(&bus, &FOUR).await;
        heard.until(2).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(heard.len(), 2, "as many as its concurrency are not acknowledged");
        kept.take(1).done();
        heard.until(3).await;
        kept.take(0).done();
        heard.until(4).await;
        kept.take(3).done();
        kept.take(2).done();
        within(bus.idle()).await;
        assert_eq!(bus.counts().redeliveries, 0);
    }

    /// The peer refuses it, as it can only seek back; here each delivery stands for itself.
    async fn ack_11_a_nack_among_acknowledgments_out_of_order_brings_back_that_one_alone(home: &dyn Home) {
        let (heard, kept, clock) = (Heard::new(), Kept::default(), MovedClock::default());
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(kept.listener(&heard, on(AckMode::ManualImmediate).concurrency(3))).start().await.expect("the bus starts");
        place_all(&bus, &FOUR[..3]).await;
        heard.until(3).await;
        kept.take(2).done();
        kept.take(1).nack(Duration::from_secs(7));
        kept.take(0).done();
        within(bus.quiet()).await;
        clock.advance(Duration::from_millis(6_999));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 3);
        clock.advance(Duration::from_millis(1));
        heard.until(4).await;
        assert_eq!(heard.all()[3], "b 1 attempt 2");
        kept.take(1).done();
        within(bus.idle()).await;
        assert_eq!((heard.len(), bus.counts().redeliveries), (4, 1));
    }

    async fn ack_12_a_nack_by_record_settles_what_came_before_and_delivers_the_rest_after_it(home: &dyn Home) {
        let (store, heard, clock) = (FailingStore::around(home.open()), Heard::new(), MovedClock::default());
        let to = heard.clone();
        let bus = Bus::builder()
            .store(store.clone())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("ack").durable().call(move |event| {
                to.note(event.line());
                if event.order == 4 && to.len() == 4 { Decision::redeliver_after(Duration::from_secs(3)) } else { Decision::Done }
            }))
            .start()
            .await
            .expect("the bus starts");
        let at = place_all(&bus, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5), ("a", 6)]).await;
        within(bus.quiet()).await;
        assert_eq!(heard.all(), ["a 1", "a 2", "a 3", "a 4"]);
        assert_eq!(settled(&store, "ack").concat().last().map(|run| run.1), Some(at[2].0));
        clock.advance(Duration::from_secs(3));
        within(bus.idle()).await;
        assert_eq!(heard.all()[4..], ["a 4", "a 5", "a 6"]);
    }

    async fn ack_14_attempts_are_counted_by_delivery_whatever_comes_between(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::default());
        let to = heard.clone();
        let redeliver = Redeliver::new().attempts(4).backoff(fixed(Duration::from_secs(1)));
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Placed>("ack").durable().redeliver(redeliver).call(move |event| {
                to.note(event.line());
                let calls = to.all().iter().filter(|line| **line == event.line()).count();
                match event.shop.as_str() {
                    "never" => Err(Failed("never")),
                    "second" if calls == 1 => Err(Failed("not yet")),
                    _ => Ok(()),
                }
            }))
            .start()
            .await
            .expect("the bus starts");
        place_all(&bus, &[("never", 1), ("second", 2)]).await;
        for _ in 0..4 {
            within(bus.quiet()).await;
            place(&bus, "fine", 3).await;
            clock.advance(Duration::from_secs(1));
        }
        within(bus.idle()).await;
        let calls = |line: &str| heard.all().iter().filter(|heard| *heard == line).count();
        assert_eq!((calls("never 1"), calls("second 2"), calls("fine 3")), (4, 2, 4));
        let parked = bus.parked().await.expect("readable");
        assert_eq!((parked.len(), parked[0].attempts, &parked[0].cause), (1, 4, &ParkedCause::Failed("never".into())));
    }

    /// The peer starts anew unless told not to; here it goes on unless told to, as errors that alternate would never end.
    async fn ack_15_another_kind_of_error_has_its_own_backoff_and_starts_the_count_anew_where_declared(home: &dyn Home) {
        #[derive(Debug, thiserror::Error)]
        #[error("busy")]
        struct Busy;
        for (rules, expected) in [(ErrorRules::new().restart_on_change(), 5), (ErrorRules::new(), 3)] {
            let (heard, clock) = (Heard::new(), MovedClock::default());
            let to = heard.clone();
            let policy = |millis| Redeliver::new().attempts(3).backoff(fixed(Duration::from_millis(millis)));
            let id = format!("ack-{expected}");
            let bus = Bus::builder()
                .shared_store(home.open())
                .clock(clock.clone())
                .listener(listener::on::<Placed>(&id).durable().redeliver(policy(1_000)).errors(rules.redeliver_as::<Busy>(policy(10))).call(move |event| -> Result<(), BoxError> {
                    to.note(event.line());
                    // Twice of one kind, then of the other.
                    if to.len() <= 2 { Err(Busy.into()) } else { Err(Failed("broken").into()) }
                }))
                .start()
                .await
                .expect("the bus starts");
            place(&bus, "a", 1).await;
            within(bus.quiet()).await;
            clock.advance(Duration::from_millis(10));
            within(bus.quiet()).await;
            assert_eq!(heard.len(), 2, "the wait of its kind");
            clock.advance(Duration::from_millis(10));
            within(bus.quiet()).await;
            for _ in 0..4 {
                clock.advance(Duration::from_millis(1_000));
                within(bus.quiet()).await;
            }
            within(bus.idle()).await;
            assert_eq!(heard.len(), expected);
            assert!(bus.unregister(&id) && bus.forget_listener(&id).await.expect("forgotten"));
            stop(bus).await;
        }
    }

    /// The peer treats a recovery that fails as not exhausted; here the event parks with both causes, and nothing is lost.
    async fn ack_16_of_a_batch_that_failed_at_one_what_is_before_it_is_settled_and_it_alone_is_given_up(home: &dyn Home) {
        let (store, heard, clock) = (FailingStore::around(home.open()), Heard::new(), MovedClock::default());
        let (to, back) = (heard.clone(), heard.clone());
        let bus = Bus::builder()
            .store(store.clone())
            .clock(clock.clone())
            .listener(
                listener::on::<Placed>("ack")
                    .durable()
                    .batch(Batch::new(9, Duration::ZERO))
                    .ack(AckMode::Batch)
                    .redeliver(Redeliver::new().attempts(2).backoff(fixed(Duration::from_secs(1))))
                    .fallback(move |event: &Placed, _, _| {
                        back.note(format!("recovered {}", event.order));
                        if event.order == 9 { Err(Failed("no recovery")) } else { Ok(()) }
                    })
                    .call_batch(move |events, _| {
                        let orders: Vec<u32> = events.iter().map(|one| one.event.order).collect();
                        to.note(format!("{orders:?}"));
                        match orders.iter().position(|order| order % 3 == 0) {
                            Some(index) => Err(FailedAt::new(index, Failed("a third"))),
                            None => Ok(()),
                        }
                    }),
            )
            .start()
            .await
            .expect("the bus starts");
        let at = place_all(&bus, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]).await;
        within(bus.quiet()).await;
        assert_eq!(heard.take(), ["[1, 2, 3, 4, 5]"]);
        assert_eq!(settled(&store, "ack").concat(), [(at[0].0, at[1].0)], "what is before it");
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["[3, 4, 5]", "recovered 3", "[4, 5]"], "recovered, and on behind it");
        let last = place(&bus, "a", 9).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        let parked = bus.parked().await.expect("readable");
        assert_eq!((parked.len(), parked[0].position), (1, last));
        assert!(matches!(&parked[0].cause, ParkedCause::Failed(text) if text.ends_with("its fallback failed: no recovery")), "{parked:?}");
        stop(bus).await;
    }

    async fn a_dropped_acknowledgment_and_a_failed_call_are_called_again(home: &dyn Home) {
        let (heard, kept, clock) = (Heard::new(), Kept::default(), MovedClock::default());
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(kept.listener(&heard, on(AckMode::Manual))).start().await.expect("the bus starts");
        place(&bus, "a", 1).await;
        heard.until(1).await;
        drop(kept.take(1));
        within(bus.quiet()).await;
        clock.advance(Duration::from_millis(100));
        heard.until(2).await;
        kept.take(1).decide(Decision::park("enough"));
        within(bus.idle()).await;
        assert_eq!(bus.parked().await.expect("readable")[0].cause, ParkedCause::Decided("enough".into()));
    }

}

on_embedded_stores! {
    /// A delivery that was called and not settled is called again after a crash: at least once, never lost.
    async fn what_is_handled_and_not_settled_when_the_process_dies_is_called_again(home: &dyn Home) {
        let gated = Gated::new();
        gated.open(4);
        let clock = MovedClock::default();
        let mode = AckMode::Time(Duration::from_secs(60));
        let life = Life::begin();
        let store = FailingStore::around(home.open());
        let bus = life.start(Bus::builder().store(store.clone()).clock(clock.clone()).listener(gated.listener(on(mode)))).await;
        place_all(&bus, &FOUR).await;
        within(bus.quiet()).await;
        assert_eq!(gated.heard.len(), 4);
        // A process that dies settles nothing on its way.
        store.fail_every(Step::Commit, Fault::Error);
        life.crash(bus);
        drop(store);
        gated.open(4);
        let life = Life::begin();
        let bus = life.start(Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(gated.listener(on(mode)))).await;
        gated.heard.until(8).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(60));
        within(bus.idle()).await;
        life.crash(bus);
    }
}
