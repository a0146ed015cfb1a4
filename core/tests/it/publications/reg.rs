//! The registry cases of Spring Modulith, group REG: a record of theirs is a publication, which is derived from log and cursors.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::error::{BoxError, StartError};
use aftercommit::event::Stored;
use aftercommit::listener::{self, IntoAnswer, Redeliver, Registration};
use aftercommit::prelude::*;
use aftercommit::publication::{Held, Mark, Query, Stage, Status, View};
use aftercommit::store::{Erasure, ParkedCause, Retention};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Failed, MANY, Ordered, at_most, comes_to, found, order, rows, stop};
use crate::heard::{Heard, within};
use crate::scene::{DONE, Rang, done};

/// Nobody keeps it once nobody is owed it, if retention says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Passing(u32);

impl Event for Passing {
    const STORED: Option<Stored<Self>> = Some(Stored::json("view.passing"));
}

impl StoredEvent for Passing {}

async fn pass(bus: &Bus, number: u32) -> u64 {
    bus.transaction(async |tx| tx.publish(Passing(number))).await.expect("committed").positions[0].0
}

fn once() -> Redeliver {
    Redeliver::new().attempts(1)
}

fn works(id: &str, heard: &Heard) -> Registration {
    let to = heard.clone();
    let name = id.to_owned();
    listener::on::<Ordered>(id).durable().redeliver(once()).call(move |_| to.note(name.clone()))
}

fn fails(id: &str, heard: &Heard) -> Registration {
    let to = heard.clone();
    let name = id.to_owned();
    listener::on::<Ordered>(id).durable().redeliver(once()).call(move |_| {
        to.note(name.clone());
        Err::<(), _>(Failed("closed"))
    })
}

/// Notes its id, waits for the gate, and ends as it is told to.
fn waits(id: &str, heard: &Heard, gate: &Arc<Semaphore>, fails: bool) -> Registration {
    let (to, gate, name) = (heard.clone(), gate.clone(), id.to_owned());
    listener::on::<Ordered>(id).durable().redeliver(once()).call_async(move |_, _| {
        let (to, gate, name) = (to.clone(), gate.clone(), name.clone());
        CallFuture::from_or_box(async move {
            to.note(name);
            gate.acquire().await?.forget();
            if fails { Err(Failed("closed").into()) } else { Ok(None) }
        })
    })
}

on_every_store! {
    async fn reg_01_there_is_a_publication_per_durable_listener_and_of_no_other(home: &dyn Home) {
        let heard = Heard::new();
        let in_phase = |phase: Phase| {
            let to = heard.clone();
            listener::on::<Ordered>(format!("reg.{phase}")).phase(phase).call(move |_| to.note(phase.name()))
        };
        let phases = [Phase::Immediate, Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion];
        let bus = Bus::builder()
            .shared_store(home.open())
            .listeners(phases.map(in_phase))
            .listeners([works("reg.one", &heard), works("reg.two", &heard)])
            .start()
            .await
            .expect("the bus starts");
        let unit = bus.transaction(async |tx| {
            tx.publish(Ordered::new("north", 1))?;
            tx.set_rollback_only("a test");
            Ok::<_, Error>(())
        });
        assert!(unit.await.is_err());
        assert_eq!(found(&bus, Query::new()).await, [], "stored with the unit of work, or not at all");
        let at = order(&bus, "north", 1).await.0;
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at, "reg.one", Status::Done), (at, "reg.two", Status::Done)]);
        stop(bus).await;
    }

    async fn reg_02_a_condition_that_is_not_met_leaves_no_publication(home: &dyn Home) {
        let heard = Heard::new();
        let never = listener::on::<Ordered>("reg.never").when(|_| false).durable().call(|_| ());
        let bus = Bus::builder().shared_store(home.open()).listeners([works("reg.one", &heard), never]).start().await.expect("the bus starts");
        let at = order(&bus, "north", 1).await.0;
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at, "reg.one", Status::Done)]);
        stop(bus).await;
    }

    /// Spring Modulith stores nothing; here an event that is declared `logged` is stored for later listeners, owed to nobody.
    async fn reg_03_without_a_durable_listener_nothing_is_owed(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let plain = listener::on::<Passing>("reg.plain").phase(Phase::AfterCommit).call(move |_| to.note("plain"));
        let bus = Bus::builder().shared_store(home.open()).listener(plain).start().await.expect("the bus starts");
        let before = bus.log_end();
        let done = bus.transaction(async |tx| tx.publish(Passing(1))).await.expect("committed");
        assert_eq!((done.positions.len(), bus.log_end(), heard.len()), (0, before, 1));
        order(&bus, "north", 1).await;
        assert_eq!(bus.log_end(), before.next(), "it is logged");
        assert_eq!(found(&bus, Query::new()).await, []);
        stop(bus).await;
    }

    async fn reg_04_a_listener_that_succeeds_completes_its_publication_once(home: &dyn Home) {
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).listener(works("reg.one", &heard)).start().await.expect("the bus starts");
        let at = order(&bus, "north", 1).await;
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at.0, "reg.one", Status::Done)]);
        assert_eq!(bus.publications().replay(&Query::new(), 9).await.expect("asks"), 0);
        assert!(!bus.resubmit("reg.one", at).await.expect("answers"));
        within(bus.idle()).await;
        assert_eq!(heard.len(), 1);
        stop(bus).await;
    }

    /// Where theirs hands a future's value to the caller, ours publishes it: nobody waits for a durable listener.
    async fn reg_05_an_asynchronous_listener_completes_when_it_has_ended_and_not_when_it_fails(home: &dyn Home) {
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(0)));
        let closed = gate.clone();
        let replies = listener::on::<Ordered>("reg.replies").durable().call_async(move |_, _| {
            let closed = closed.clone();
            CallFuture::from_or_box(async move {
                closed.acquire().await?.forget();
                Publish(Rang(7)).into_answer()
            })
        });
        let to = heard.clone();
        let hears = listener::on::<Rang>("reg.hears").phase(Phase::AfterCommit).call(move |event| to.note(format!("rang {}", event.0)));
        let bus = Bus::builder()
            .shared_store(home.open())
            .listeners([waits("reg.fails", &heard, &gate, true), replies, hears])
            .start()
            .await
            .expect("the bus starts");
        let at = order(&bus, "north", 1).await.0;
        comes_to(&bus, &[(at, "reg.fails", Status::Running), (at, "reg.replies", Status::Running)]).await;
        gate.add_permits(2);
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at, "reg.fails", Status::Dead), (at, "reg.replies", Status::Done)]);
        assert_eq!(heard.all(), ["reg.fails", "rang 7"]);
        stop(bus).await;
    }

    async fn reg_06_a_publication_is_completed_by_the_commit_of_its_listener_and_not_before(home: &dyn Home) {
        let floored: Counters<u32> = DONE.floor(0);
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(0)));
        let (to, closed) = (heard.clone(), gate.clone());
        let writes = listener::on::<Ordered>("reg.writes").durable().redeliver(once()).takes_tx().call_async(move |event, mut call| {
            let (to, closed, shop) = (to.clone(), closed.clone(), event.shop.clone());
            CallFuture::from_or_box(async move {
                let tx = call.tx()?;
                DONE.add(tx, &1, 1)?;
                if shop == "broke" {
                    floored.add(tx, &2, -1)?;
                }
                to.note(shop);
                closed.acquire().await?.forget();
                Ok::<_, BoxError>(None)
            })
        });
        let bus = Bus::builder().shared_store(home.open()).listener(writes).start().await.expect("the bus starts");
        let at = order(&bus, "broke", 1).await.0;
        heard.until(1).await;
        assert_eq!(rows(&found(&bus, Query::new()).await), [(at, "reg.writes", Status::Running)]);
        gate.add_permits(1);
        within(bus.idle()).await;
        assert_eq!((rows(&found(&bus, Query::new()).await)[0].2, done(&bus, 1)), (Status::Dead, 0), "the function ended well, its commit did not");
        let second = order(&bus, "rich", 1).await.0;
        heard.until(2).await;
        gate.add_permits(1);
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await)[1], (second, "reg.writes", Status::Done));
        assert_eq!(done(&bus, 1), 1);
        stop(bus).await;
    }

    async fn reg_07_of_five_listeners_the_two_that_fail_stay_incomplete_and_all_ran_once(home: &dyn Home) {
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(9)));
        let bus = Bus::builder()
            .shared_store(home.open())
            .listeners([
                works("reg.a", &heard),
                fails("reg.b", &heard),
                waits("reg.c", &heard, &gate, false),
                waits("reg.d", &heard, &gate, true),
                works("reg.e", &heard),
            ])
            .start()
            .await
            .expect("the bus starts");
        let at = order(&bus, "north", 1).await.0;
        within(bus.idle()).await;
        let mut called = heard.all();
        called.sort();
        assert_eq!(called, ["reg.a", "reg.b", "reg.c", "reg.d", "reg.e"]);
        let open = found(&bus, Query::new().statuses(Status::OPEN)).await;
        assert_eq!(rows(&open), [(at, "reg.b", Status::Dead), (at, "reg.d", Status::Dead)]);
        assert_eq!(found(&bus, Query::new().status(Status::Done)).await.len(), 3);
        stop(bus).await;
    }

    async fn reg_08_what_is_incomplete_is_called_again_and_nothing_else(home: &dyn Home) {
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(9)));
        let bus = Bus::builder()
            .shared_store(home.open())
            .listeners([works("reg.a", &heard), fails("reg.b", &heard), waits("reg.c", &heard, &gate, true)])
            .start()
            .await
            .expect("the bus starts");
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        for (query, called) in [(Query::new(), vec!["reg.b", "reg.c"]), (Query::new().listener("reg.b"), vec!["reg.b"])] {
            heard.take();
            bus.publications().replay(&query, 8).await.expect("asks");
            within(bus.idle()).await;
            let mut again = heard.all();
            again.sort();
            assert_eq!(again, called);
        }
        stop(bus).await;
    }

    async fn reg_11_publication_dates_come_from_the_injected_clock(home: &dyn Home) {
        let heard = Heard::new();
        let clock = MovedClock::at(Timestamp(1_234_567));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(fails("reg.one", &heard)).start().await.expect("the bus starts");
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        let one = &found(&bus, Query::new()).await[0];
        assert_eq!(one.header.metadata.time, Timestamp(1_234_567));
        assert!(matches!(one.stage, Stage::Dead { parked_at: Timestamp(1_234_567), .. }));
        stop(bus).await;
    }

    /// Spring Modulith publishes again at a restart only where it is said, as another instance may be at it. Here one process has
    /// the store, so that what is owed is taken up; what is not to be is paused.
    async fn reg_12_what_is_owed_is_taken_up_at_the_next_start_unless_it_is_paused(home: &dyn Home) {
        let heard = Heard::new();
        let start = || Bus::builder().shared_store(home.open()).listener(works("reg.one", &heard)).start();
        let bus = start().await.expect("the bus starts");
        bus.pause_across_restarts("reg.one", "a test").await.expect("pauses");
        order(&bus, "north", 1).await;
        stop(bus).await;
        let bus = start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard.len(), 0, "paused");
        bus.resume("reg.one");
        within(bus.idle()).await;
        bus.pause("reg.one");
        order(&bus, "north", 2).await;
        stop(bus).await;
        let bus = start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2, "by default");
        stop(bus).await;
    }

    async fn reg_14_a_publication_reads_back_as_it_was_stored_and_completing_it_empties_the_list(home: &dyn Home) {
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).listener(works("reg.one", &heard)).start().await.expect("the bus starts");
        bus.pause("reg.one");
        order(&bus, "north", 1).await;
        let stored = found(&bus, Query::new()).await;
        assert_eq!(stored[0].stage, Stage::Waiting);
        stop(bus).await;
        let store = home.open();
        let view = View::new(store.clone(), Timestamp(0));
        let read = view.page(&Query::new(), None, MANY).await.expect("readable").publications;
        assert_eq!(read, stored, "event, listener and state");
        drop(view);
        let bus = Bus::builder().shared_store(store).listener(works("reg.one", &heard)).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(found(&bus, Query::new().statuses(Status::OPEN)).await, []);
        assert_eq!(found(&bus, Query::new().event(stored[0].header.metadata.id)).await[0].stage, Stage::Done);
        stop(bus).await;
    }

    /// Theirs sorts by date. Here the oldest is the one that was committed first, in whose order events are delivered: a clock that
    /// was set back does not make a later event an older one. The oldest date is told beside it.
    async fn reg_15_the_incomplete_come_oldest_first(home: &dyn Home) {
        let heard = Heard::new();
        const HOUR: u64 = 3_600_000;
        for hour in [3, 0, 1] {
            let clock = MovedClock::at(Timestamp(hour * HOUR));
            let bus = Bus::builder().shared_store(home.open()).clock(clock).listener(fails("reg.one", &heard)).start().await.expect("the bus starts");
            bus.pause_across_restarts("reg.one", "a test").await.expect("pauses");
            order(&bus, "north", hour as u32).await;
            stop(bus).await;
        }
        let view = View::new(home.open(), Timestamp(4 * HOUR));
        let open = view.page(&Query::new().statuses(Status::OPEN), None, MANY).await.expect("readable").publications;
        let hours: Vec<u64> = open.iter().map(|one| one.header.metadata.time.0 / HOUR).collect();
        assert_eq!(hours, [3, 0, 1]);
        assert!(open.is_sorted_by_key(|one| one.position));
        let counts = view.counts().await.expect("readable");
        assert_eq!(counts.listeners[0].oldest, Some(Timestamp(0)));
        let older = Query::new().published_before(Timestamp(2 * HOUR));
        assert_eq!(view.page(&older, None, MANY).await.expect("readable").publications, open[1..]);
    }

    /// Theirs skips what it cannot read. Here it is parked, where it can be seen, and holds nobody up but its own key.
    async fn reg_16_what_cannot_be_read_is_listed_and_parked_and_fails_nothing_else(home: &dyn Home) {
        #[derive(Clone, Serialize, Deserialize)]
        struct Other;
        impl Event for Other {
            const STORED: Option<Stored<Self>> = Some(Stored::json("view.ordered").logged());
        }
        impl StoredEvent for Other {}
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Other)).await.expect("committed");
        stop(bus).await;
        let to = heard.clone();
        let reads = listener::on::<Ordered>("reg.reads").durable().start_at(listener::StartAt::Beginning).call(move |event| to.note(event.line()));
        let bus = Bus::builder().shared_store(home.open()).listener(reads).start().await.expect("the bus starts");
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        let all = found(&bus, Query::new()).await;
        assert!(matches!(&all[0].stage, Stage::Dead { attempts: 0, cause: ParkedCause::Undecodable(_), .. }), "{all:?}");
        assert_eq!((all[1].stage.status(), heard.all()), (Status::Done, vec!["north 1".to_owned()]));
        stop(bus).await;
    }

    async fn reg_21_of_two_that_would_call_it_again_one_does(home: &dyn Home) {
        let (heard, gate) = (Heard::new(), Arc::new(Semaphore::new(1)));
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).listener(waits("reg.one", &heard, &gate, true)).start().await.expect("the bus starts");
        let second = Bus::builder().shared_store(store).start().await;
        assert!(matches!(second, Err(StartError::StoreTaken { .. })), "there is no second process that could claim it");
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        let (view, query) = (bus.publications(), Query::new());
        let (one, other) = tokio::join!(view.replay(&query, 1), view.replay(&query, 1));
        assert!(one.is_ok() && other.is_ok());
        heard.until(2).await;
        bus.publications().replay(&query, 1).await.expect("asks while it runs");
        gate.add_permits(1);
        within(bus.idle()).await;
        assert_eq!(heard.len(), 2, "called once, and once more");
        stop(bus).await;
    }

    async fn reg_23_what_failed_is_found_without_limits_with_one_and_before_a_moment(home: &dyn Home) {
        let (heard, clock) = (Heard::new(), MovedClock::at(Timestamp(0)));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(fails("reg.one", &heard)).start().await.expect("the bus starts");
        for number in 0..5 {
            order(&bus, &format!("shop {number}"), number).await;
            clock.advance(Duration::from_secs(1));
        }
        within(bus.idle()).await;
        let failed = Query::new().status(Status::Dead);
        let all = found(&bus, failed.clone()).await;
        assert_eq!(all.len(), 5);
        let page = bus.publications().page(&failed, None, at_most(2)).await.expect("readable");
        assert_eq!(page.publications, all[..2]);
        assert_eq!(page.next, Some(Mark { position: all[1].position, listener: "reg.one".to_owned() }));
        let two = found(&bus, failed.clone().published_before(Timestamp(2_000))).await;
        assert_eq!(two, all[..2]);
        assert_eq!(NonZeroUsize::new(0), None, "a page of nothing cannot be asked for");
        stop(bus).await;
    }

    /// Theirs reads the marker from its configuration; ours is the word `durable`, which the compiler checks, as it does that the
    /// event can be stored. What only the bus can see is refused at start.
    async fn reg_24_only_listeners_that_say_so_are_owed_and_one_that_cannot_be_is_refused_at_start(home: &dyn Home) {
        #[derive(Clone, Serialize, Deserialize)]
        struct Nameless;
        impl Event for Nameless {}
        impl StoredEvent for Nameless {}
        let heard = Heard::new();
        let to = heard.clone();
        let plain = listener::on::<Ordered>("reg.plain").phase(Phase::AfterCommit).call(move |_| to.note("plain"));
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).listeners([works("reg.one", &heard), plain]).start().await.expect("the bus starts");
        let at = order(&bus, "north", 1).await.0;
        within(bus.idle()).await;
        assert_eq!((rows(&found(&bus, Query::new()).await), heard.len()), (vec![(at, "reg.one", Status::Done)], 2));
        stop(bus).await;
        let nameless = listener::on::<Nameless>("reg.nameless").durable().call(|_| ());
        let refused = Bus::builder().listener(nameless).start().await;
        assert!(matches!(&refused, Err(StartError::Listener { listener, .. }) if listener == "reg.nameless"), "{refused:?}");
    }
}

on_embedded_stores! {
    async fn reg_17_a_purge_takes_what_is_completed_and_leaves_what_is_not_and_what_runs(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(0));
        for retention in [Retention::delete_when_done(), Retention::keep_for(Duration::from_secs(3_600))] {
            let (heard, gate, open) = (Heard::new(), Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
            let (to, closed, may) = (heard.clone(), gate.clone(), open.clone());
            let picky = listener::on::<Passing>("reg.picky").durable().concurrency(8).redeliver(once()).call_async(move |event, _| {
                let (to, closed, may, number) = (to.clone(), closed.clone(), may.clone(), event.0);
                CallFuture::from_or_box(async move {
                    match number {
                        0 => Ok(None),
                        1 if !may.load(Ordering::SeqCst) => Err(Failed("closed").into()),
                        1 => Ok(None),
                        _ => {
                            to.note("runs");
                            closed.acquire().await?.forget();
                            Ok(None)
                        }
                    }
                })
            });
            let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).retention(retention.clone()).listener(picky).start().await.expect("the bus starts");
            let done = [pass(&bus, 0).await, pass(&bus, 0).await];
            let failed = pass(&bus, 1).await;
            let runs = pass(&bus, 2).await;
            heard.until(1).await;
            let expected = |first: Option<Status>| {
                let done = first.into_iter().flat_map(|status| done.map(|at| (at, "reg.picky", status)));
                done.chain([(failed, "reg.picky", Status::Dead), (runs, "reg.picky", Status::Running)]).collect::<Vec<_>>()
            };
            let own = || Query::new().published_since(clock_now(&clock));
            let since = own();
            if retention != Retention::delete_when_done() {
                within(async { while rows(&found(&bus, since.clone()).await) != expected(Some(Status::Done)) { tokio::task::yield_now().await } }).await;
                bus.tidy().await.expect("tidies");
                assert_eq!(rows(&found(&bus, since.clone()).await), expected(Some(Status::Done)), "too young");
                clock.advance(Duration::from_secs(3_600));
            }
            within(async {
                while rows(&found(&bus, since.clone()).await) != expected(None) {
                    bus.tidy().await.expect("tidies");
                    tokio::task::yield_now().await;
                }
            })
            .await;
            open.store(true, Ordering::SeqCst);
            gate.add_permits(1);
            bus.publications().replay(&Query::new(), 1).await.expect("asks");
            within(bus.idle()).await;
            bus.tidy().await.expect("tidies");
            assert_eq!(found(&bus, Query::new().statuses(Status::OPEN)).await, []);
            stop(bus).await;
            clock.advance(Duration::from_secs(60));
        }
    }

    async fn reg_18_what_is_erased_by_id_vanishes_and_nothing_else(home: &dyn Home) {
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).listeners([fails("reg.fails", &heard), works("reg.works", &heard)]).start().await.expect("the bus starts");
        for number in 0..4 {
            order(&bus, &format!("shop {number}"), number).await;
        }
        within(bus.idle()).await;
        let before = found(&bus, Query::new()).await;
        for gone in [&before[0], &before[4]] {
            assert_eq!(bus.erase(gone.header.metadata.id).await.expect("erases"), Erasure::Done { parked: 1 });
        }
        let left = found(&bus, Query::new()).await;
        assert_eq!(left, [&before[2..4], &before[6..]].concat());
        let story = bus.publications().story(before[0].header.metadata.id).await.expect("readable").expect("a tombstone");
        assert_eq!(story.held, Held::Erased);
        stop(bus).await;
    }

    /// Their modes are a retention here: kept and listed as done, gone once it is done, or kept as long as is said.
    async fn reg_20_what_is_completed_is_listed_or_gone_as_retention_says(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(0));
        let hour = Duration::from_secs(3_600);
        for (retention, at_once, later) in
            [(Retention::keep_forever(), 1, 1), (Retention::keep_for(hour), 1, 0), (Retention::delete_when_done(), 0, 0)]
        {
            let works = listener::on::<Passing>("reg.works").durable().call(|_| ());
            let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).retention(retention).listener(works).start().await.expect("the bus starts");
            let at = pass(&bus, 1).await;
            within(bus.idle()).await;
            bus.tidy().await.expect("tidies");
            let listed = async || found(&bus, Query::new().status(Status::Done)).await.iter().filter(|one| one.position.0 == at).count();
            assert_eq!(listed().await, at_once);
            clock.advance(hour);
            bus.tidy().await.expect("tidies");
            assert_eq!(listed().await, later);
            stop(bus).await;
        }
    }
}

fn clock_now(clock: &MovedClock) -> Timestamp {
    use aftercommit::clock::Clock;
    clock.now()
}
