//! What stays in the log of what everybody is done with: how far replays and streams reach back, and what is never touched.

use std::time::Duration;

use aftercommit::bus::StreamError;
use aftercommit::clock::Clock;
use aftercommit::error::{BoxError, StartError, StoreError};
use aftercommit::listener::{self, Redeliver, Registration, StartAt, fixed};
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::Position;
use aftercommit::testing::MovedClock;

use crate::heard::{Heard, until, within};
use crate::scene::Placed;
use crate::stores::Home;

const DAY: Duration = Duration::from_secs(86_400);
const START: Position = Position(1);

fn noting(heard: &Heard, id: &str, start: StartAt) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>(id).durable().start_at(start).call(move |event| to.note(event.0.to_string()))
}

fn first(home: &dyn Home, clock: &MovedClock) -> BusBuilder {
    let heard = Heard::new();
    Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(noting(
        &heard,
        "retention.first",
        StartAt::Now,
    ))
}

/// An order a day: the last was placed a day ago.
async fn place_daily(bus: &Bus, clock: &MovedClock, days: u32) {
    for day in 1..=days {
        bus.transaction(async |tx| tx.publish(Placed(day))).await.expect("committed");
        within(bus.idle()).await;
        clock.advance(DAY);
    }
    bus.tidy().await.expect("tidies");
}

async fn stop(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

on_embedded_stores! {
    async fn replays_reach_back_a_week_unless_it_is_said_otherwise(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = first(home, &clock).start().await.expect("the bus starts");
        place_daily(&bus, &clock, 10).await;
        stop(bus).await;
        let heard: Vec<Heard> = (0..2).map(|_| Heard::new()).collect();
        let three_days_ago = StartAt::Time(clock.now().saturating_sub(3 * DAY));
        let bus = first(home, &clock)
            .listener(noting(&heard[0], "retention.beginning", StartAt::Beginning))
            .listener(noting(&heard[1], "retention.time", three_days_ago))
            .start()
            .await
            .expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard[0].all(), ["5", "6", "7", "8", "9", "10"], "what was placed less than 7 days ago");
        assert_eq!(heard[1].all(), ["8", "9", "10"]);
        clock.advance(3 * DAY);
        bus.tidy().await.expect("tidies");
        bus.reset("retention.time", StartAt::Beginning, async |_| Ok::<_, Error>(())).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(heard[1].all()[3..], ["8", "9", "10"], "a reset reaches no further");
        stop(bus).await;
    }

    async fn a_stream_reaches_back_as_far_and_tells_what_it_misses(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = first(home, &clock).retention(Retention::keep_for(3 * DAY)).start().await.expect("the bus starts");
        place_daily(&bus, &clock, 6).await;
        let mut stream = bus.stream_from::<Placed>(START).expect("it is stored");
        match within(stream.next()).await {
            Some(Err(StreamError::Gap { from, to })) => assert_eq!((from, to), (START, Position(5))),
            other => panic!("{other:?}"),
        }
        for number in [5, 6] {
            let entry = within(stream.next()).await.expect("the bus runs").expect("an entry");
            assert_eq!(entry.event.0, number);
        }
        stop(bus).await;
    }

    async fn a_stream_that_holds_the_log_misses_nothing_however_late_it_is(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = first(home, &clock).retention(Retention::delete_when_done()).start().await.expect("the bus starts");
        let mut stream = bus.stream_from::<Placed>(START).expect("it is stored").holding().expect("it can");
        place_daily(&bus, &clock, 5).await;
        for number in 1..=4 {
            let entry = within(stream.next()).await.expect("the bus runs").expect("no gap");
            assert_eq!(entry.event.0, number);
        }
        bus.tidy().await.expect("tidies");
        let mut others = bus.stream_from::<Placed>(START).expect("it is stored");
        let gap = within(others.next()).await.expect("the bus runs").expect_err("what the first has read may go");
        assert!(matches!(gap, StreamError::Gap { to: Position(5), .. }), "{gap}");
        assert_eq!(within(others.next()).await.expect("the bus runs").expect("an entry").event.0, 5);
        drop(stream);
        bus.tidy().await.expect("tidies");
        let mut others = bus.stream_from::<Placed>(Position(5)).expect("it is stored");
        assert!(matches!(within(others.next()).await, Some(Err(StreamError::Gap { .. }))));
        stop(bus).await;
    }

    async fn what_waits_to_be_called_again_stays_however_old_it_is(home: &dyn Home) {
        let (clock, heard) = (MovedClock::default(), Heard::new());
        let to = heard.clone();
        let again = Redeliver::new().attempts(3).backoff(fixed(30 * DAY));
        let fails = listener::on::<Placed>("retention.fails").durable().redeliver(again).call(move |event| {
            to.note(event.0.to_string());
            if to.len() == 1 { Err(BoxError::from("not yet")) } else { Ok(()) }
        });
        let bus = first(home, &clock).retention(Retention::delete_when_done()).listener(fails).start().await.expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
        within(bus.quiet()).await;
        clock.advance(29 * DAY);
        bus.tidy().await.expect("tidies");
        assert_eq!(heard.len(), 1);
        clock.advance(DAY);
        until(|| heard.len() == 2).await;
        within(bus.idle()).await;
        bus.tidy().await.expect("tidies");
        let gone = within(bus.stream_from::<Placed>(START).expect("it is stored").next()).await;
        assert!(matches!(gone, Some(Err(StreamError::Gap { .. }))), "once it is done, it goes");
        stop(bus).await;
    }
}

#[tokio::test]
async fn a_store_that_manages_its_log_by_itself_refuses_a_retention() {
    let live = crate::live::Live::default();
    let refused = Bus::builder().shared_store(live.open()).retention(Retention::default()).start().await;
    match refused.map(drop) {
        Err(StartError::Store(StoreError::Unsupported { action, .. })) => assert_eq!(action, "retain events"),
        other => panic!("{other:?}"),
    }
    let store = live.open();
    assert!(store.as_embedded().is_none());
    let bus = Bus::builder().shared_store(store).start().await.expect("without one it starts");
    bus.tidy().await.expect("there is nothing to do");
}
