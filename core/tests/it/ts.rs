//! Test support: a case each of the group TS.

use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::event::Event;
use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::testing::{MovedClock, NotSeen, Recorder, Scenario};
use aftercommit::transaction::CallFuture;

use crate::heard::{Heard, until, within};
use crate::scene::{Placed, Rang, bus_on};

/// What follows from a ring, some time later.
#[derive(Clone, Debug, PartialEq)]
struct Answered(u32);

impl Event for Answered {}

const TIME: Duration = Duration::from_secs(5);

/// Answers each ring in the background.
fn answering() -> listener::Registration {
    listener::on::<Rang>("ts.answering").spawn().cloning().call_async(|event, mut call| {
        CallFuture::from_or_box(async move {
            let bus: Bus = call.take()?;
            tokio::task::yield_now().await;
            let answer = Answered(event.0);
            bus.transaction(async |tx| tx.publish(answer)).await?;
            Ok::<_, BoxError>(None)
        })
    })
}

on_every_store! {
    async fn ts_01_a_recorder_captures_what_asynchronous_listeners_publish(home: &dyn Home) {
        let recorder = Recorder::new();
        let bus = bus_on(home)
            .tap(recorder.clone())
            .tap(recorder.keeping::<Answered>())
            .listener(answering())
            .start()
            .await
            .expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Rang(7))).await.expect("committed");
        within(bus.idle()).await;
        assert_eq!(recorder.events::<Answered>(), [Answered(7)]);
        assert_eq!(recorder.published().first(), Some(&Rang::name()));
        assert!(recorder.published().contains(&Answered::name()));
    }

    async fn ts_02_a_scenario_waits_for_its_event_fails_without_it_and_always_cleans_up(home: &dyn Home) {
        let (clock, cleaned) = (MovedClock::default(), Heard::new());
        let bus = bus_on(home).clock(clock.clone()).listener(answering()).start().await.expect("the bus starts");
        let scenario = |what: &'static str| {
            let (first, last) = (cleaned.clone(), cleaned.clone());
            Scenario::on(&bus).within(TIME).clean_up(move || last.note(format!("{what}, last"))).clean_up(move || first.note(what))
        };
        let ring = async |number| bus.transaction(async |tx| tx.publish(Rang(number))).await;

        // The event that matches, and not one that came before.
        let twice = async || {
            ring(1).await?;
            ring(2).await
        };
        let seen = within(scenario("seen").expect(twice, |event: &Answered| event.0 == 2)).await;
        assert_eq!(*seen.expect("it came"), Answered(2));
        assert_eq!(cleaned.take(), ["seen", "seen, last"]);
        within(bus.idle()).await;

        // It comes, and none that matches within the time.
        let other = async || ring(3).await;
        let waiting = within(async {
            let late = async {
                until(|| clock.sleepers() > 0).await;
                bus.idle().await;
                clock.advance(TIME);
            };
            tokio::join!(scenario("late").expect(other, |event: &Answered| event.0 == 4), late).0
        });
        match waiting.await {
            Err(NotSeen::InTime { event, within, others }) => assert_eq!((event, within, others), (Answered::name(), TIME, 1)),
            other => panic!("{other:?}"),
        }
        assert_eq!(cleaned.take(), ["late", "late, last"]);

        // Another type is no match.
        let other = async || ring(5).await;
        let waiting = within(async {
            let late = async {
                until(|| clock.sleepers() > 0).await;
                clock.advance(TIME);
            };
            tokio::join!(scenario("other").expect(other, |_: &Placed| true), late).0
        });
        assert!(matches!(waiting.await, Err(NotSeen::InTime { others: 0, .. })));
        assert_eq!(cleaned.take(), ["other", "other, last"]);

        // What was to bring it failed; and a scenario that is given up.
        let failing = async || Err::<(), std::io::Error>(std::io::Error::other("no"));
        let failed = within(scenario("failed").expect(failing, |_: &Answered| true)).await;
        assert!(matches!(failed, Err(NotSeen::Stimulus(_))));
        drop(scenario("dropped"));
        assert_eq!(cleaned.take(), ["failed", "failed, last", "dropped", "dropped, last"]);
    }
}
