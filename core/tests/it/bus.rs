//! Dispatch in one process: who sees what, who is told of failures, how it ends.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Redeliver, StartAt, fixed};
use aftercommit::observe::{Interceptor, Notice};
use aftercommit::prelude::*;
use aftercommit::runtime::ShutdownError;
use aftercommit::testing::{MovedClock, Recorder};
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::heard::{Heard, until, within};

#[derive(Clone, Debug, PartialEq)]
struct Placed(u32);
impl Event for Placed {}

#[derive(Clone, Debug, PartialEq)]
struct Shipped(u32);
impl Event for Shipped {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Booked(u32);
impl Event for Booked {
    const STORED: Option<Stored<Self>> = Some(Stored::json("bus.booked"));
}
impl StoredEvent for Booked {}

#[derive(Debug, thiserror::Error)]
#[error("no space left")]
struct NoSpace;

/// The peer delivers to listeners of supertypes. Events here have none: a listener names one type, and who wants to see every event
/// is a `Tap`, which gets each as `&dyn Any` with its name, at publish.
#[tokio::test]
async fn bus_01_a_tap_sees_every_event_whatever_its_type() {
    let heard = Heard::new();
    let recorder = Recorder::new();
    let (tapped, listened) = (heard.clone(), heard.clone());
    let bus = Bus::builder()
        .tap(move |name: &'static str, event: &dyn Any| {
            let number = event.downcast_ref::<Placed>().map(|event| event.0);
            let number = number.or_else(|| event.downcast_ref::<Shipped>().map(|event| event.0 * 100));
            tapped.note(format!("tap {} {number:?}", name.rsplit("::").next().unwrap_or(name)));
        })
        .tap(recorder.clone())
        .tap(recorder.keeping::<Shipped>())
        .listener(listener::on::<Placed>("bus-01").phase(Phase::Immediate).call(move |_| listened.note("listener")))
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Placed(1)).expect("published");
    bus.transaction(async |tx| tx.publish(Shipped(2))).await.expect("committed");
    assert_eq!(heard.all(), ["tap Placed Some(1)", "listener", "tap Shipped Some(200)"]);
    assert_eq!(recorder.events::<Shipped>(), [Shipped(2)]);
    assert_eq!(recorder.published().len(), 3, "two by name, and the one that was kept");
}

/// What an interceptor was told: event, listener and error, on the bus that has it.
struct Failures(Heard);
impl Interceptor for Failures {
    fn before(&self, _: &str, _: &dyn Any) {}

    fn after(&self, listener: &str, event: &dyn Any, error: Option<&(dyn std::error::Error + 'static)>) {
        if let (Some(event), Some(error)) = (event.downcast_ref::<Placed>(), error) {
            self.0.note(format!("{listener} on {event:?}: {error}, {}", error.is::<NoSpace>()));
        }
    }
}

on_every_store! {
    /// The peer has one handler per bus; here an interceptor sees the event, the listener and its error, and the observer what nobody awaits.
    async fn bus_02_a_failing_listener_is_told_with_its_event_and_error(home: &dyn Home) {
        let heard = Heard::new();
        let observed = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .interceptor(Failures(heard.clone()))
            .observer(move |notice: &Notice<'_>| {
                if let Notice::AfterFailed { error, spawned: false } = notice {
                    observed.note(format!("observed {} in {}", error.who, error.phase));
                }
            })
            .listener(listener::on::<Placed>("bus-02.fails").call(|_| Err::<(), _>(NoSpace)))
            .listener(listener::on::<Placed>("bus-02.works").call(|_| ()))
            .start()
            .await
            .expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
        assert_eq!(heard.all(), ["bus-02.fails on Placed(1): no space left, true", "observed bus-02.fails in AfterCommit"]);
        let late = listener::on::<Placed>("bus-02.late").order(1).call(|_| Err::<(), _>(NoSpace));
        bus.register(late).await.expect("its id is free");
        bus.transaction(async |tx| tx.publish(Placed(2))).await.expect("committed");
        assert_eq!(heard.all()[2], "bus-02.late on Placed(2): no space left, true", "one that came later is no exception");
    }
}

/// The peer wraps an event without listeners in a "dead event" and posts that. Here it is a notice, which is no event and so is never
/// wrapped again; the event itself is seen by a tap.
#[tokio::test]
async fn bus_04_an_event_that_nobody_listens_to_is_told_once() {
    let recorder = Recorder::new();
    let bus = Bus::builder()
        .observer(recorder.clone())
        .tap(recorder.keeping::<Placed>())
        .listener(listener::on::<Shipped>("bus-04").when(|event| event.0 > 1).phase(Phase::Immediate).call(|_| ()))
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Placed(1)).expect("published");
    bus.publish(&Shipped(1)).expect("a listener that declines has been asked, so the event is not dead");
    assert_eq!(recorder.notices().len(), 1, "{:?}", recorder.notices());
    assert!(recorder.notices()[0].starts_with("DeadEvent"), "{:?}", recorder.notices());
    assert_eq!((recorder.events::<Placed>(), bus.counts().dead_events), (vec![Placed(1)], 1));
}

/// The peer throws for a listener that is not registered; here `unregister` answers whether it was.
#[tokio::test]
async fn bus_05_unregistering_stops_at_once_and_answers_whether_there_was_anything() {
    let heard = Heard::new();
    let to = heard.clone();
    let bus = Bus::builder()
        .listener(
            listener::on::<Placed>("bus-05").phase(Phase::Immediate).call(move |event| to.note(format!("{}", event.0))),
        )
        .start()
        .await
        .expect("the bus starts");
    assert!(!bus.unregister("bus-05.unknown"));
    bus.publish(&Placed(1)).expect("published");
    assert!(bus.unregister("bus-05"));
    bus.publish(&Placed(2)).expect("published");
    assert!(!bus.unregister("bus-05"), "the second time there is nothing");
    assert_eq!(heard.all(), ["1"]);
}

on_every_store! {
    /// Replies wait until all siblings ran, as in the peer's queued mode; an explicit publish inside a listener is depth-first, which the
    /// peer's per-thread queue has no word for.
    async fn bus_07_replies_wait_for_all_siblings_and_explicit_publishes_do_not(home: &dyn Home) {
        let heard = Heard::new();
        let (one, two, three, shipped) = (heard.clone(), heard.clone(), heard.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("bus-07.1").phase(Phase::Immediate).order(1).call(move |event| {
                one.note("placed 1");
                [Publish(Shipped(event.0 + 1)), Publish(Shipped(event.0 + 2))]
            }))
            .listener(listener::on::<Placed>("bus-07.2").phase(Phase::Immediate).order(2).takes_tx().call_with(move |_, call| -> Result<(), BoxError> {
                two.note("placed 2 begins");
                call.tx()?.publish(Shipped(50))?;
                two.note("placed 2 ends");
                Ok(())
            }))
            .listener(listener::on::<Placed>("bus-07.3").phase(Phase::Immediate).order(3).call(move |event| {
                three.note("placed 3");
                Some(Publish(Shipped(event.0 + 3)))
            }))
            .listener(listener::on::<Shipped>("bus-07.shipped").phase(Phase::Immediate).call(move |event| shipped.note(format!("shipped {}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Placed(0))).await.expect("committed");
        let expected = [
            "placed 1", "placed 2 begins", "shipped 50", "placed 2 ends", "placed 3", "shipped 1", "shipped 2", "shipped 3",
        ];
        assert_eq!(heard.all(), expected);
    }

    async fn bus_09_a_listener_that_never_answers_holds_no_other(home: &dyn Home) {
        let heard = Heard::new();
        let (stuck, other) = (heard.clone(), heard.clone());
        let gate = Arc::new(Semaphore::new(0));
        let closed = gate.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Booked>("bus-09.stuck").durable().call_async(move |_, _| {
                let (closed, to) = (closed.clone(), stuck.clone());
                CallFuture::from_or_box(async move {
                    to.note("stuck");
                    closed.acquire().await?.forget();
                    Ok(None)
                })
            }))
            .listener(listener::on::<Booked>("bus-09.other").durable().call(move |event| other.note(format!("other {}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        for number in 1..=3 {
            bus.transaction(async |tx| tx.publish(Booked(number))).await.expect("committed");
        }
        heard.until(4).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines, ["other 1", "other 2", "other 3", "stuck"]);
        gate.add_permits(3);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 6, "what waited is delivered");
    }

    /// The peer's router negatively acknowledges; here the delivery counts as failed, and is called again when its time has come.
    async fn bus_10_a_panic_or_a_cut_off_call_loses_nothing_and_the_bus_lives(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::default();
        let (panics, hangs) = (heard.clone(), heard.clone());
        let second = Redeliver::new().backoff(fixed(Duration::from_secs(1)));
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listener(listener::on::<Booked>("bus-10.panics").durable().redeliver(second).call(move |event| {
                panics.note(format!("panics {}", event.0));
                if panics.all().iter().filter(|line| line.starts_with("panics")).count() == 1 {
                    panic!("the first time");
                }
            }))
            .listener(listener::on::<Booked>("bus-10.hangs").durable().redeliver(second).time_limit(Duration::from_secs(5)).call_async(move |event, _| {
                let to = hangs.clone();
                CallFuture::from_or_box(async move {
                    to.note(format!("hangs {}", event.0));
                    if to.all().iter().filter(|line| line.starts_with("hangs")).count() == 1 {
                        std::future::pending::<()>().await;
                    }
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Booked(1))).await.expect("committed");
        heard.until(2).await;
        // The limit of the one that hangs passes, and the time of the one that panicked comes.
        until(|| clock.sleepers() >= 2).await;
        clock.advance(Duration::from_secs(5));
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(1));
        within(bus.idle()).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines, ["hangs 1", "hangs 1", "panics 1", "panics 1"]);
        assert_eq!((bus.counts().redeliveries, bus.counts().parked), (2, 0));
        bus.transaction(async |tx| tx.publish(Booked(2))).await.expect("committed");
        within(bus.idle()).await;
        assert_eq!(heard.len(), 6);
    }

    async fn bus_11_shutdown_waits_for_what_runs_until_its_deadline(home: &dyn Home) {
        for answers in [true, false] {
            let heard = Heard::new();
            let to = heard.clone();
            let gate = Arc::new(Semaphore::new(0));
            let closed = gate.clone();
            let clock = MovedClock::default();
            let bus = Bus::builder()
                .shared_store(home.open())
                .clock(clock.clone())
                .listener(listener::on::<Booked>("bus-11").durable().call_async(move |_, _| {
                    let (closed, to) = (closed.clone(), to.clone());
                    CallFuture::from_or_box(async move {
                        to.note("begins");
                        closed.acquire().await?.forget();
                        to.note("ends");
                        Ok(None)
                    })
                }))
                .start()
                .await
                .expect("the bus starts");
            bus.transaction(async |tx| tx.publish(Booked(1))).await.expect("committed");
            heard.until(1).await;
            let stopping = tokio::spawn({
                let bus = bus.clone();
                async move { bus.shutdown(Duration::from_secs(7)).await }
            });
            until(|| clock.sleepers() >= 1).await;
            assert!(!stopping.is_finished(), "it waits for the call that runs");
            if answers {
                gate.add_permits(1);
                within(stopping).await.expect("no panic").expect("everything ended in time");
                assert_eq!(heard.all(), ["begins", "ends"]);
            } else {
                clock.advance(Duration::from_secs(7));
                match within(stopping).await.expect("no panic") {
                    Err(ShutdownError::Abandoned { what }) => assert_eq!(what, [("bus-11".to_owned(), 1)]),
                    other => panic!("{other:?}"),
                }
                assert_eq!((heard.all(), bus.counts().abandoned), (vec!["begins".to_owned()], 1));
            }
        }
    }

    /// The peer acknowledges a message of an unknown type, or not, as configured. Here an event that no listener knows is owed to nobody:
    /// the log passes it by, and nobody waits for it. One of a known name that cannot be read parks, where it can be seen.
    async fn bus_12_a_logged_event_that_no_listener_knows_holds_nobody_up(home: &dyn Home) {
        #[derive(Serialize, Deserialize)]
        struct Unknown;
        impl Event for Unknown {
            const STORED: Option<Stored<Self>> = Some(Stored::json("bus-12.unknown").logged());
        }
        #[derive(Serialize, Deserialize)]
        struct Newer;
        impl Event for Newer {
            const STORED: Option<Stored<Self>> = Some(Stored::json("bus.booked").version(2).oldest(2).logged());
        }
        let before = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        before.transaction(async |tx| {
            tx.publish(Unknown)?;
            tx.publish(Newer)
        }).await.expect("committed");
        before.shutdown(Duration::from_secs(5)).await.expect("nothing runs");
        drop(before);
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Booked>("bus-12").durable().start_at(StartAt::Beginning).call(move |event| to.note(format!("{}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Booked(3))).await.expect("committed");
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["3"]);
        let parked = bus.parked().await.expect("the parked ones");
        assert_eq!(parked.len(), 1, "the unknown one is not among them: {parked:?}");
        assert_eq!((parked[0].envelope.header.name.as_str(), parked[0].envelope.header.version), ("bus.booked", 2));
    }
}
