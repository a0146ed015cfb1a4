//! What takes too long is told while it still runs.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use aftercommit::listener;
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::heard::{until, within};
use crate::scene::{Heard, Placed, Rang, bus_on};

const SECOND: Duration = Duration::from_secs(1);

/// Notes who was slow, with what, for how many seconds, and how many calls.
fn noting(builder: BusBuilder, heard: &Heard) -> BusBuilder {
    let heard = heard.clone();
    builder.observer(move |notice: &Notice<'_>| {
        if let Notice::Slow { who, event, took, running, .. } = notice {
            let event = event.map_or(String::new(), |(name, _)| format!(" with {name}"));
            heard.note(format!("{who}{event}: {}s, {running}", took.as_secs()));
        }
    })
}

/// A listener that notes that it was called, and waits for a permit.
fn waiting(
    gate: &Arc<Semaphore>,
    called: &Heard,
) -> impl for<'a> Fn(&'a Placed, listener::Call<'a>) -> CallFuture<'a> + Send + Sync + 'static {
    let (gate, called) = (gate.clone(), called.clone());
    move |event, _| {
        called.note(event.0.to_string());
        let gate = gate.clone();
        CallFuture::from_or_box(async move {
            gate.acquire().await?.forget();
            Ok(None)
        })
    }
}

on_every_store! {
    async fn a_unit_of_work_that_hangs_is_told_again_whenever_its_time_doubled_and_once_it_ended(home: &dyn Home) {
        let (clock, heard, gate) = (MovedClock::default(), Heard::default(), Arc::new(Semaphore::new(0)));
        let begun = Heard::default();
        let bus = noting(bus_on(home), &heard).clock(clock.clone()).slow_after(SECOND).start().await.expect("the bus starts");
        bus.transaction(async |_| Ok::<_, Error>(())).await.expect("committed");
        let unit = tokio::spawn({
            let (bus, begun, gate) = (bus.clone(), begun.clone(), gate.clone());
            async move {
                let unit = bus.transaction(async move |_| {
                    begun.note("begun");
                    gate.acquire().await.expect("the gate is not closed").forget();
                    Ok::<_, Error>(())
                });
                unit.await.map(drop)
            }
        });
        until(|| begun.all().len() == 1).await;
        let mut expected = Vec::new();
        for seconds in [1, 2, 4] {
            let so_far = if seconds == 1 { 0 } else { seconds / 2 };
            // All that is asleep is the watchdog.
            until(|| clock.sleepers() == 1).await;
            clock.advance(SECOND * (seconds - so_far));
            expected.push(format!("unit of work: {seconds}s, 1"));
            until(|| heard.all().len() == expected.len()).await;
            assert_eq!(heard.all(), expected);
        }
        gate.add_permits(1);
        within(unit).await.expect("no panic").expect("committed");
        expected.push("unit of work: 4s, 0".to_owned());
        assert_eq!(heard.all(), expected);
        assert_eq!(bus.counts().slow, 4);
        // It looks once more, and then nobody sleeps while nothing runs.
        until(|| clock.sleepers() == 1).await;
        clock.advance(SECOND * 60);
        until(|| clock.sleepers() == 0).await;
        assert_eq!(heard.all(), expected);
    }
}

on_embedded_stores! {
    async fn of_the_calls_of_a_durable_listener_the_oldest_is_named(home: &dyn Home) {
        let (clock, called, gate) = (MovedClock::default(), Heard::default(), Arc::new(Semaphore::new(0)));
        let told: Arc<Mutex<Vec<(uuid::Uuid, usize)>>> = Arc::default();
        let heard = told.clone();
        let observer = move |notice: &Notice<'_>| {
            if let Notice::Slow { who: "slow.waits", event: Some((_, id)), running, .. } = notice {
                heard.lock().push((*id, *running));
            }
        };
        let ids: Arc<Mutex<Vec<uuid::Uuid>>> = Arc::default();
        let seen = ids.clone();
        let listens = listener::on::<Placed>("slow.sees").phase(Phase::Immediate);
        let listens = listens.call_with(move |_, call| seen.lock().push(call.metadata().id));
        let waits = listener::on::<Placed>("slow.waits").durable().concurrency(3).call_async(waiting(&gate, &called));
        let bus = bus_on(home)
            .clock(clock.clone())
            .observer(observer)
            .slow_after(SECOND * 2)
            .listener(listens)
            .listener(waits)
            .start()
            .await
            .expect("the bus starts");
        for number in 0..3 {
            bus.transaction(async |tx| tx.publish(Placed(number))).await.expect("committed");
            until(|| called.all().len() == number as usize + 1).await;
            clock.advance(Duration::from_millis(100));
        }
        // The call of the first is 2.2 seconds old, that of the last 2.
        clock.advance(Duration::from_millis(1900));
        until(|| !told.lock().is_empty()).await;
        let (first, running) = told.lock()[0];
        assert_eq!(first, ids.lock()[0], "the oldest is named");
        assert!((1..=3).contains(&running));
        gate.add_permits(3);
        within(bus.idle()).await;
        let ended = told.lock().iter().filter(|(_, running)| *running == 0).count();
        assert_eq!(ended, 3, "each tells that it has come back");
        let others = told.lock().iter().any(|(id, running)| *running > 0 && *id != first);
        assert!(!others, "only the oldest is told while it runs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_blocks_its_thread_is_told_while_it_does() {
    let (clock, heard) = (MovedClock::default(), Heard::default());
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let blocks = listener::on::<Rang>("slow.blocks").phase(Phase::Immediate).slow_after(SECOND);
    let blocks = blocks.call(move |_| wait.lock().recv_timeout(Duration::from_secs(60)).expect("it is let go on"));
    let bus = noting(Bus::builder(), &heard).clock(clock.clone()).listener(blocks).start().await.expect("it starts");
    let publishing = std::thread::spawn({
        let bus = bus.clone();
        move || bus.publish(&Rang(1))
    });
    until(|| clock.sleepers() == 1).await;
    clock.advance(SECOND);
    until(|| !heard.all().is_empty()).await;
    go_on.send(()).expect("it waits");
    publishing.join().expect("no panic").expect("nobody objects");
    let name = std::any::type_name::<Rang>();
    assert_eq!(heard.all(), [format!("slow.blocks with {name}: 1s, 1"), format!("slow.blocks with {name}: 1s, 0")]);
}

#[tokio::test]
async fn a_listener_has_its_own_time_and_one_that_is_quick_is_not_told() {
    let (clock, heard) = (MovedClock::default(), Heard::default());
    let takes = |id: &str, time| {
        let clock = clock.clone();
        listener::on::<Placed>(id).durable().slow_after(time).call(move |_| clock.advance(SECOND * 2))
    };
    let bus = noting(Bus::builder(), &heard)
        .clock(clock.clone())
        .slow_after(SECOND * 100)
        .listener(takes("slow.yes", SECOND))
        .start()
        .await
        .expect("the bus starts");
    bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
    within(bus.idle()).await;
    assert_eq!(heard.all().last().map(String::as_str), Some("slow.yes with test.placed: 2s, 0"));
    bus.unregister("slow.yes");
    bus.register(takes("slow.no", SECOND * 3)).await.expect("it can be registered");
    let before = heard.all();
    bus.transaction(async |tx| tx.publish(Placed(2))).await.expect("committed");
    within(bus.idle()).await;
    assert_eq!(heard.all(), before);
}
