//! The cases of a keyed outbox worker, group NMS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::error::{BoxError, StartError};
use aftercommit::event::Stored;
use aftercommit::listener::{
    self, Backoff, Declaration, ErrorRules, Followers, Parking, Redeliver, Registration, Sequence, exponential, fixed,
    linear,
};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::publication::{Query, Stage, Status};
use aftercommit::runtime::{BusBuilder, ShutdownError};
use aftercommit::store::Retention;
use aftercommit::testing::{FailingStore, MovedClock};
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Failed, Ordered, found, order, rows, stop};
use crate::heard::{Heard, within};
use crate::stores::Home;

const SECOND: Duration = Duration::from_secs(1);

/// Without a key, and kept by nobody.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Keyless(u32);

impl Event for Keyless {
    const STORED: Option<Stored<Self>> = Some(Stored::json("view.keyless"));
}

impl StoredEvent for Keyless {}

#[derive(Debug, thiserror::Error)]
#[error("wrapped")]
struct Wrapped(#[source] Failed);

#[derive(Debug, thiserror::Error)]
#[error("")]
struct Wordless;

fn durable(id: &str, redeliver: Redeliver) -> Declaration<Ordered> {
    listener::on::<Ordered>(id).durable().redeliver(redeliver)
}

/// Notes what it is called with, and fails on the north.
fn picky(declaration: Declaration<Ordered>, heard: &Heard) -> Registration {
    let to = heard.clone();
    declaration.call(move |event| {
        to.note(event.line());
        if event.shop == "north" { Err(Failed("closed")) } else { Ok(()) }
    })
}

fn on(home: &dyn Home, clock: &MovedClock) -> BusBuilder {
    Bus::builder().shared_store(home.open()).clock(clock.clone())
}

async fn started(builder: BusBuilder) -> Bus {
    builder.start().await.expect("the bus starts")
}

/// What the one that waits to be called again says: failed calls, when it is due, and with what the last one failed.
async fn waiting(bus: &Bus) -> (u32, Timestamp, String) {
    let found = found(bus, Query::new().status(Status::Redelivering)).await;
    match &found[..] {
        [one] => match &one.stage {
            Stage::Redelivering { attempts, due, error, .. } => (*attempts, *due, error.clone()),
            stage => panic!("{stage:?}"),
        },
        several => panic!("{several:?}"),
    }
}

on_every_store! {
    async fn nms_02_count_and_reason_are_stored_with_the_decision_and_no_message_is_no_reason(home: &dyn Home) {
        let (clock, heard) = (MovedClock::at(Timestamp(0)), Heard::new());
        let redeliver = Redeliver::new().backoff(fixed(SECOND));
        let bus = started(on(home, &clock).listener(picky(durable("nms.one", redeliver), &heard))).await;
        order(&bus, "north", 1).await;
        within(bus.quiet()).await;
        assert_eq!(waiting(&bus).await, (1, Timestamp(1_000), "closed".to_owned()));
        stop(bus).await;
        let bus = started(on(home, &clock).listener(durable("nms.one", redeliver).call(|_| Err::<(), _>(Wordless)))).await;
        assert_eq!(waiting(&bus).await, (1, Timestamp(1_000), "closed".to_owned()), "it survives a restart");
        clock.advance(SECOND);
        within(bus.quiet()).await;
        assert_eq!(waiting(&bus).await, (2, Timestamp(2_000), String::new()));
        stop(bus).await;
    }

    async fn nms_03_a_retry_is_due_after_its_delay_and_what_is_exhausted_or_hopeless_goes_to_the_fallback(home: &dyn Home) {
        let (clock, heard) = (MovedClock::at(Timestamp(0)), Heard::new());
        let (to, back) = (heard.clone(), heard.clone());
        let redeliver = Redeliver::new().attempts(3).backoff(exponential(SECOND));
        let recovers = durable("nms.one", redeliver)
            .errors(ErrorRules::new().never_on::<Wordless>())
            .fallback(move |event: &Ordered, given_up, _| back.note(format!("fallback {} after {}", event.line(), given_up.attempts)))
            .call(move |event| -> Result<(), BoxError> {
                to.note(event.line());
                if event.shop == "north" { Err(Failed("closed").into()) } else { Err(Wordless.into()) }
            });
        let bus = started(on(home, &clock).listener(recovers)).await;
        order(&bus, "south", 1).await;
        within(bus.quiet()).await;
        assert_eq!(heard.take(), ["south 1", "fallback south 1 after 1"], "hopeless");
        order(&bus, "north", 1).await;
        within(bus.quiet()).await;
        for (attempts, due) in [(1, 1_000), (2, 3_000)] {
            assert_eq!(waiting(&bus).await, (attempts, Timestamp(due), "closed".to_owned()));
            clock.advance(SECOND * 2u32.pow(attempts - 1));
            within(bus.quiet()).await;
        }
        assert_eq!(heard.take(), ["north 1", "north 1", "north 1", "fallback north 1 after 3"]);
        assert_eq!(found(&bus, Query::new().statuses(Status::OPEN)).await, []);
        stop(bus).await;
    }

    async fn nms_05_records_of_one_key_are_processed_one_after_another_in_order(home: &dyn Home) {
        let running = Arc::new(AtomicUsize::new(0));
        let heard = Heard::new();
        let (to, count) = (heard.clone(), running.clone());
        let slow = durable("nms.one", Redeliver::new()).concurrency(8).call_async(move |event, _| {
            let (to, count, line) = (to.clone(), count.clone(), event.line());
            CallFuture::from_or_box(async move {
                assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "nobody else of its key is called");
                tokio::task::yield_now().await;
                to.note(line);
                count.fetch_sub(1, Ordering::SeqCst);
                Ok(None)
            })
        });
        let bus = started(Bus::builder().shared_store(home.open()).listener(slow)).await;
        bus.transaction(async |tx| (0..20).try_for_each(|number| tx.publish(Ordered::new("north", number)))).await.expect("committed");
        within(bus.idle()).await;
        assert_eq!(heard.all(), (0..20).map(|number| format!("north {number}")).collect::<Vec<_>>());
        assert_eq!(found(&bus, Query::new().status(Status::Done)).await.len(), 20);
        stop(bus).await;
    }

    /// Their switch is `sequence` here, and once it is given up `followers`.
    async fn nms_06_behind_one_that_fails_its_key_waits_unless_it_is_said_otherwise(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(0));
        let twice = Redeliver::new().attempts(2).backoff(fixed(SECOND));
        let pass = Parking::new().followers(Followers::Pass);
        let ids = ["nms.a", "nms.b", "nms.c"];
        let heard = [Heard::new(), Heard::new(), Heard::new()];
        let bus = started(on(home, &clock).listeners([
            picky(durable(ids[0], twice), &heard[0]),
            picky(durable(ids[1], twice).sequence(Sequence::Unordered), &heard[1]),
            picky(durable(ids[2], twice).parking(pass), &heard[2]),
        ]))
        .await;
        let first = order(&bus, "north", 1).await.0;
        let second = order(&bus, "north", 2).await.0;
        within(bus.quiet()).await;
        let states = async |id: &str| found(&bus, Query::new().listener(id)).await.iter().map(|one| (one.position.0, one.stage.status())).collect::<Vec<_>>();
        let (again, dead) = (Status::Redelivering, Status::Dead);
        assert_eq!(states(ids[0]).await, [(first, again), (second, Status::Waiting)], "not yet due: what follows waits");
        assert_eq!(states(ids[1]).await, [(first, again), (second, again)]);
        assert_eq!(states(ids[2]).await, [(first, again), (second, Status::Waiting)]);
        clock.advance(SECOND);
        within(bus.quiet()).await;
        assert_eq!((states(ids[0]).await, heard[0].len()), (vec![(first, dead), (second, dead)], 2), "what follows is parked uncalled");
        assert_eq!(states(ids[2]).await, [(first, dead), (second, again)], "what follows goes on");
        stop(bus).await;
    }

    async fn nms_07_when_stopped_nothing_new_is_called_and_what_runs_may_finish_until_the_deadline(home: &dyn Home) {
        for finishes in [true, false] {
            let (clock, heard, gate) = (MovedClock::at(Timestamp(0)), Heard::new(), Arc::new(Semaphore::new(0)));
            let (to, closed) = (heard.clone(), gate.clone());
            let gated = durable("nms.one", Redeliver::new()).call_async(move |event, _| {
                let (to, closed, line) = (to.clone(), closed.clone(), event.line());
                CallFuture::from_or_box(async move {
                    to.note(line);
                    closed.acquire().await?.forget();
                    Ok(None)
                })
            });
            let bus = started(on(home, &clock).listener(gated)).await;
            order(&bus, "north", 1).await;
            order(&bus, "south", 1).await;
            heard.until(1).await;
            let ends = bus.clone();
            let stopping = tokio::spawn(async move { ends.shutdown(SECOND).await });
            crate::heard::until(|| clock.sleepers() > 0).await;
            match finishes {
                true => gate.add_permits(1),
                false => clock.advance(SECOND),
            }
            let ended = within(stopping).await.expect("no panic");
            match finishes {
                true => assert!(ended.is_ok(), "{ended:?}"),
                false => assert!(matches!(ended, Err(ShutdownError::Abandoned { .. })), "{ended:?}"),
            }
            assert_eq!(heard.len(), 1, "the second was not begun");
            drop(bus);
            let again = Heard::new();
            let to = again.clone();
            let rest = durable("nms.one", Redeliver::new()).call(move |event| to.note(event.line()));
            let bus = started(on(home, &clock).listener(rest)).await;
            within(bus.idle()).await;
            assert_eq!(again.len(), if finishes { 1 } else { 2 }, "what was cut off is owed like what was not begun");
            stop(bus).await;
        }
    }

    /// Which of several handlers comes first is of no matter here: each has its own place in the log.
    async fn nms_09_there_is_one_record_per_handler_and_none_without(home: &dyn Home) {
        let heard = Heard::new();
        let store = home.open();
        let twice = [picky(durable("nms.one", Redeliver::new()), &heard), picky(durable("nms.one", Redeliver::new()), &heard)];
        let refused = Bus::builder().listeners(twice).start().await;
        assert!(matches!(refused, Err(StartError::DuplicateId { .. })), "{refused:?}");
        let bus = started(Bus::builder().shared_store(store).listeners(["nms.one", "nms.two"].map(|id| picky(durable(id, Redeliver::new()), &heard)))).await;
        let at = order(&bus, "south", 1).await.0;
        bus.transaction(async |tx| tx.publish(Keyless(1))).await.expect("committed");
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at, "nms.one", Status::Done), (at, "nms.two", Status::Done)]);
        stop(bus).await;
    }

    async fn nms_10_an_event_without_a_key_is_a_sequence_of_its_own(home: &dyn Home) {
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(0)));
        let (to, closed) = (heard.clone(), gate.clone());
        let gated = listener::on::<Keyless>("nms.one").durable().concurrency(4).call_async(move |event, _| {
            let (to, closed, number) = (to.clone(), closed.clone(), event.0);
            CallFuture::from_or_box(async move {
                to.note(number.to_string());
                closed.acquire().await?.forget();
                Ok(None)
            })
        });
        let bus = started(Bus::builder().shared_store(home.open()).listener(gated)).await;
        bus.transaction(async |tx| (0..6).try_for_each(|number| tx.publish(Keyless(number)))).await.expect("committed");
        heard.until(4).await;
        let running = found(&bus, Query::new().status(Status::Running)).await;
        assert_eq!(running.len(), 4, "they run beside each other");
        assert!(running.iter().all(|one| one.header.key.is_none()));
        gate.add_permits(6);
        within(bus.idle()).await;
        stop(bus).await;
    }

    /// There is no map of context here: what is said for all is said on the bus, and what a listener says itself wins.
    async fn nms_11_what_is_said_nearer_wins(home: &dyn Home) {
        let (clock, heard) = (MovedClock::at(Timestamp(0)), Heard::new());
        let redeliver = Redeliver::new().attempts(2).backoff(fixed(SECOND));
        let own = ErrorRules::new().redeliver_on::<Failed>();
        let bus = started(on(home, &clock).errors(ErrorRules::new().never_on::<Failed>()).listeners([
            picky(durable("nms.bus", redeliver), &heard),
            picky(durable("nms.own", redeliver).errors(own), &heard),
        ]))
        .await;
        let at = order(&bus, "north", 1).await.0;
        within(bus.quiet()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at, "nms.bus", Status::Dead), (at, "nms.own", Status::Redelivering)]);
        stop(bus).await;
    }

    async fn nms_12_it_is_due_at_its_time_not_before_and_never_once_it_is_done(home: &dyn Home) {
        let (clock, heard, calls) = (MovedClock::at(Timestamp(0)), Heard::new(), AtomicUsize::new(0));
        let to = heard.clone();
        let once = durable("nms.one", Redeliver::new().backoff(fixed(SECOND))).call(move |event| {
            to.note(event.line());
            if calls.fetch_add(1, Ordering::SeqCst) == 0 { Err(Failed("closed")) } else { Ok(()) }
        });
        let bus = started(on(home, &clock).listener(once)).await;
        order(&bus, "north", 1).await;
        within(bus.quiet()).await;
        clock.advance(SECOND - Duration::from_millis(1));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 1, "a moment too early");
        clock.advance(Duration::from_millis(1));
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2, "at its time");
        clock.advance(SECOND * 86_400);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2, "it is done");
        stop(bus).await;
    }

    async fn nms_14_rules_say_which_errors_are_worth_another_call_also_by_a_cause(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(0));
        let rules = ErrorRules::new;
        let wrapped = |_: &Ordered| Err::<(), BoxError>(Wrapped(Failed("closed")).into());
        let redeliver = Redeliver::new().attempts(2).backoff(fixed(SECOND));
        let cases: [(&str, ErrorRules, Status); 7] = [
            ("nms.a", rules(), Status::Redelivering),
            ("nms.b", rules().redeliver_on::<Failed>(), Status::Redelivering),
            ("nms.c", rules().redeliver_on::<Wordless>(), Status::Dead),
            ("nms.d", rules().redeliver_on::<Wrapped>().never_on::<Failed>(), Status::Dead),
            ("nms.e", rules().never_on::<Wordless>(), Status::Redelivering),
            ("nms.f", rules().redeliver_if(|error| error.to_string() == "nothing").redeliver_if(|error| error.to_string() == "wrapped"), Status::Redelivering),
            ("nms.g", rules().redeliver_if(|_| true).never_on::<Wrapped>(), Status::Dead),
        ];
        let expected: Vec<(&str, Status)> = cases.iter().map(|(id, _, status)| (*id, *status)).collect();
        let listeners = cases.map(|(id, rules, _)| durable(id, redeliver).errors(rules).call(wrapped));
        let bus = started(on(home, &clock).listeners(listeners)).await;
        order(&bus, "north", 1).await;
        within(bus.quiet()).await;
        let all = found(&bus, Query::new()).await;
        assert_eq!(all.iter().map(|one| (one.listener.as_str(), one.stage.status())).collect::<Vec<_>>(), expected);
        stop(bus).await;
    }

    async fn nms_15_waits_are_constant_or_grow_up_to_their_cap_and_jitter_stays_inside_its_bounds(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(0));
        let backoffs: [(&str, Backoff, [u64; 4]); 3] = [
            ("nms.exponential", exponential(SECOND).max(SECOND * 5), [1_000, 2_000, 4_000, 5_000]),
            ("nms.fixed", fixed(SECOND), [1_000; 4]),
            ("nms.linear", linear(SECOND, SECOND / 2).max(SECOND * 2), [1_000, 1_500, 2_000, 2_000]),
        ];
        let waits = Heard::new();
        let to = waits.clone();
        let fails = |id: &str, backoff: Backoff| durable(id, Redeliver::new().attempts(5).backoff(backoff)).call(|_| Err::<(), _>(Failed("closed")));
        let told = clock.clone();
        let builder = on(home, &clock).seed(7).observer(move |notice: &Notice<'_>| {
            use aftercommit::clock::Clock;
            if let Notice::Redelivery { listener, due, .. } = notice {
                to.note(format!("{listener} {}", due.since(told.now()).as_millis()));
            }
        });
        let listeners = backoffs.map(|(id, backoff, _)| fails(id, backoff));
        let bus = started(builder.listeners(listeners).listener(fails("nms.spread", fixed(SECOND).jitter(0.2)))).await;
        order(&bus, "north", 1).await;
        for _ in 0..300 {
            within(bus.quiet()).await;
            clock.advance(Duration::from_millis(100));
        }
        within(bus.idle()).await;
        let of = |id: &str| -> Vec<u64> {
            let lines = waits.all();
            lines.iter().filter_map(|line| line.strip_prefix(id)?.trim().parse().ok()).collect()
        };
        for (id, _, expected) in backoffs {
            assert_eq!(of(id), expected, "{id}");
        }
        let spread = of("nms.spread");
        assert!(spread.len() == 4 && spread.iter().all(|wait| (800..=1_200).contains(wait)), "{spread:?}");
        assert!(spread.iter().any(|wait| *wait != 1_000), "{spread:?}");
        stop(bus).await;
    }

    async fn nms_16_what_cannot_work_is_refused_at_start(home: &dyn Home) {
        let refused = [
            exponential(Duration::ZERO),
            exponential(SECOND).factor(1.0),
            linear(SECOND, Duration::ZERO),
            fixed(SECOND).jitter(-0.1),
        ];
        for backoff in refused {
            let one = durable("nms.one", Redeliver::new().backoff(backoff)).call(|_| ());
            let started = Bus::builder().shared_store(home.open()).listener(one).start().await;
            assert!(matches!(started, Err(StartError::Listener { .. })), "{backoff:?}");
        }
    }

    /// Nobody polls here, so that there is no pace to adapt: the committer rings when there is something, and in between the store
    /// is left alone, however long that takes.
    async fn nms_17_an_idle_worker_asks_nothing_and_wakes_at_once(home: &dyn Home) {
        let (clock, heard) = (MovedClock::at(Timestamp(0)), Heard::new());
        let store = FailingStore::around(home.open());
        let bus = started(Bus::builder().store(store.clone()).clock(clock.clone()).listener(picky(durable("nms.one", Redeliver::new()), &heard))).await;
        order(&bus, "south", 1).await;
        within(bus.idle()).await;
        store.clear_steps();
        for _ in 0..50 {
            clock.advance(SECOND * 3_600);
            tokio::task::yield_now().await;
        }
        assert_eq!(store.steps(), []);
        order(&bus, "south", 2).await;
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2, "and the clock stood still");
        stop(bus).await;
    }

    /// Their instances share partitions out among them. Here one process has the store, and a second is refused.
    async fn nms_18_there_is_no_second_owner(home: &dyn Home) {
        let (heard, store) = (Heard::new(), home.open());
        let bus = started(Bus::builder().shared_store(store.clone()).listener(picky(durable("nms.one", Redeliver::new()), &heard))).await;
        let second = Bus::builder().shared_store(store).listener(picky(durable("nms.one", Redeliver::new()), &heard)).start().await;
        assert!(matches!(second, Err(StartError::StoreTaken { .. })), "{second:?}");
        order(&bus, "south", 1).await;
        within(bus.idle()).await;
        assert_eq!(heard.len(), 1);
        stop(bus).await;
    }
}

on_embedded_stores! {
    async fn nms_01_a_record_that_succeeded_is_kept_as_done_or_goes_when_so_configured(home: &dyn Home) {
        for (retention, kept) in [(Retention::default(), 1), (Retention::delete_when_done(), 0)] {
            let works = listener::on::<Keyless>("nms.one").durable().call(|_| ());
            let bus = started(Bus::builder().shared_store(home.open()).retention(retention).listener(works)).await;
            let done = bus.transaction(async |tx| tx.publish(Keyless(1))).await.expect("committed");
            within(bus.idle()).await;
            bus.tidy().await.expect("tidies");
            let listed = found(&bus, Query::new()).await;
            assert_eq!(listed.iter().filter(|one| one.position == done.positions[0] && one.stage == Stage::Done).count(), kept);
            stop(bus).await;
        }
    }
}
