//! Where a listener begins that the store does not know, going back, and a worker that goes on after a storage error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::clock::Clock;
use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Registration, StartAt};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::testing::{FailingStore, Fault, MovedClock, Step};
use serde::{Deserialize, Serialize};

use super::{Placed, place, stop};
use crate::heard::{Heard, until, within};

/// Kept in the log for those who come later.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opened(u32);

impl Event for Opened {
    const STORED: Option<Stored<Self>> = Some(Stored::json("newcomers.opened").logged());
}

impl StoredEvent for Opened {}

async fn open(bus: &Bus, number: u32) {
    bus.transaction(async |tx| tx.publish(Opened(number))).await.expect("committed");
}

fn noting(heard: &Heard, id: &str, start: Option<StartAt>) -> Registration {
    let to = heard.clone();
    let declaration = listener::on::<Opened>(id).durable();
    match start {
        Some(start) => declaration.start_at(start),
        None => declaration,
    }
    .call(move |event| to.note(event.0.to_string()))
}

const SUM: Counters<u32> = Counters::new("newcomers.sum");

on_every_store! {
    async fn a_newcomer_begins_now_or_at_the_beginning_or_at_a_time_as_it_says(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).start().await.expect("the bus starts");
        open(&bus, 1).await;
        clock.advance(Duration::from_secs(60));
        let time = clock.now();
        open(&bus, 2).await;
        clock.advance(Duration::from_secs(60));
        stop(bus).await;
        let heard: Vec<Heard> = (0..4).map(|_| Heard::new()).collect();
        let later = StartAt::Time(time.saturating_add(Duration::from_secs(3_600)));
        let starts = [None, Some(StartAt::Beginning), Some(StartAt::Time(time)), Some(later)];
        let mut builder = Bus::builder().shared_store(home.open()).clock(clock.clone());
        for (number, start) in starts.into_iter().enumerate() {
            builder = builder.listener(noting(&heard[number], &format!("newcomer.{number}"), start));
        }
        let bus = builder.start().await.expect("the bus starts");
        open(&bus, 3).await;
        within(bus.idle()).await;
        assert_eq!(heard[0].all(), ["3"], "now, unless it says otherwise");
        assert_eq!(heard[1].all(), ["1", "2", "3"]);
        assert_eq!(heard[2].all(), ["2", "3"]);
        assert_eq!(heard[3].all(), ["3"], "nothing is as late as that yet: what comes is");
        bus.register(noting(&heard[0], "newcomer.late", None)).await.expect("its id is free");
        within(bus.idle()).await;
        assert_eq!(heard[0].len(), 1);
        open(&bus, 4).await;
        within(bus.idle()).await;
        assert_eq!(heard[0].all(), ["3", "4", "4"]);
    }

    async fn a_newcomers_condition_is_asked_about_what_was_published_before_it_came(home: &dyn Home) {
        let bus = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        for number in 1..=4 {
            open(&bus, number).await;
        }
        stop(bus).await;
        let heard = Heard::new();
        let asked = Arc::new(AtomicU32::new(0));
        let start = async |least: u32| {
            let (to, asked) = (heard.clone(), asked.clone());
            let listener = listener::on::<Opened>("newcomer")
                .durable()
                .start_at(StartAt::Beginning)
                .when(move |event| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    event.0.is_multiple_of(least)
                })
                .call(move |event| to.note(event.0.to_string()));
            Bus::builder().shared_store(home.open()).listener(listener).start().await.expect("the bus starts")
        };
        let bus = start(2).await;
        open(&bus, 5).await;
        open(&bus, 6).await;
        within(bus.idle()).await;
        assert_eq!((heard.all(), asked.load(Ordering::SeqCst)), (vec!["2".into(), "4".into(), "6".into()], 6), "each asked once");
        stop(bus).await;
        let bus = start(1).await;
        within(bus.idle()).await;
        assert_eq!((heard.len(), asked.load(Ordering::SeqCst)), (3, 6), "what it declined is not asked again");
    }

    async fn a_reset_clears_the_projection_in_the_commit_that_moves_the_place(home: &dyn Home) {
        let sum = |bus: &Bus| SUM.get(&mut bus.reader().expect("a reader"), &0).expect("a cell");
        let factor = Arc::new(AtomicU32::new(1));
        let by = factor.clone();
        let summing = listener::on::<Opened>("summing").durable().takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
            Ok(SUM.add(call.tx()?, &0, i64::from(event.0 * by.load(Ordering::SeqCst)))?)
        });
        let bus = Bus::builder().shared_store(home.open()).listener(summing).start().await.expect("the bus starts");
        for number in 1..=4 {
            open(&bus, number).await;
        }
        within(bus.idle()).await;
        assert_eq!(sum(&bus), 10);
        factor.store(10, Ordering::SeqCst);
        let refused = bus.reset("summing", StartAt::Beginning, async |tx| {
            SUM.set(tx, &0, 0)?;
            Err::<(), BoxError>("not today".into())
        });
        refused.await.expect_err("the hook said no");
        within(bus.idle()).await;
        assert_eq!(sum(&bus), 10, "neither cleared nor moved");
        bus.reset("summing", StartAt::Beginning, async |tx| SUM.set(tx, &0, 0)).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(sum(&bus), 100);
        assert!(bus.reset("nobody", StartAt::Now, async |_| Ok::<_, Error>(())).await.is_err());
    }

    async fn a_worker_goes_on_after_a_storage_error_that_passes_and_tells(home: &dyn Home) {
        let store = FailingStore::around(home.open());
        let clock = MovedClock::default();
        let (heard, told) = (Heard::new(), Heard::new());
        let (to, tell) = (heard.clone(), told.clone());
        let bus = Bus::builder()
            .store(store.clone())
            .clock(clock.clone())
            .observer(move |notice: &Notice<'_>| match notice {
                Notice::WorkerFailed { listener, .. } => tell.note(format!("{listener} failed")),
                Notice::WorkerStopped { listener, .. } => tell.note(format!("{listener} stopped")),
                _ => {}
            })
            .listener(listener::on::<Placed>("going-on").durable().call(move |event| to.note(event.line())))
            .start()
            .await
            .expect("the bus starts");
        store.fail_every(Step::ReadLog, Fault::Error);
        place(&bus, "a", 1).await;
        within(bus.quiet()).await;
        assert_eq!((told.all(), heard.len()), (vec!["going-on failed".to_owned()], 0));
        store.fail_every(Step::ReadProgress, Fault::Error);
        clock.advance(Duration::from_millis(100));
        until(|| told.len() == 2).await;
        within(bus.quiet()).await;
        store.heal();
        clock.advance(Duration::from_millis(200));
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["a 1"]);
        place(&bus, "a", 2).await;
        within(bus.idle()).await;
        assert_eq!((heard.len(), bus.counts().worker_failures, bus.counts().stopped_workers), (2, 2, 0));
        stop(bus).await;
    }
}
