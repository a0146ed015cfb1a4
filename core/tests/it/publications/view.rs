//! The view of publications: states, counts, queries, pages, and calling dead letters again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aftercommit::clock::{Clock, Timestamp};
use aftercommit::error::{DeadLetterError, Error};
use aftercommit::listener::{self, AckMode, Decision, Redeliver, Registration, fixed};
use aftercommit::prelude::*;
use aftercommit::publication::{Mark, Query, Stage, Status, View};
use aftercommit::store::{Ending, ParkedCause, Position};
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Failed, MANY, Ordered, at_most, comes_to, found, order, rows, stop};
use crate::heard::{Heard, until, within};

/// Fails on every order of the north while it is closed.
fn picky(id: &str, open: &Arc<AtomicBool>, attempts: u32) -> Registration {
    let open = open.clone();
    let redeliver = Redeliver::new().attempts(attempts).backoff(fixed(Duration::from_secs(10)));
    listener::on::<Ordered>(id).durable().redeliver(redeliver).call(move |event| {
        if event.shop == "north" && !open.load(Ordering::SeqCst) { Err(Failed("closed")) } else { Ok(()) }
    })
}

/// Notes each call when it begins, and lets it pass when it is told to.
fn gated(id: &str, heard: &Heard, gate: &Arc<Semaphore>, concurrency: usize) -> Registration {
    let (heard, gate) = (heard.clone(), gate.clone());
    listener::on::<Ordered>(id).durable().concurrency(concurrency).call_async(move |event, _| {
        let (heard, gate) = (heard.clone(), gate.clone());
        CallFuture::from_or_box(async move {
            heard.note(event.line());
            gate.acquire().await?.forget();
            Ok(None)
        })
    })
}

on_every_store! {
    async fn each_publication_is_in_one_state_and_is_counted_there(home: &dyn Home) {
        let (clock, heard, gate) = (MovedClock::at(Timestamp(1_000)), Heard::new(), Arc::new(Semaphore::new(0)));
        let open = Arc::new(AtomicBool::new(false));
        let skipping = listener::on::<Ordered>("view.skips").durable().call(|_| Err::<(), _>(Decision::skip("not ours")));
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listeners([
                picky("view.parks", &open, 1),
                picky("view.redelivers", &open, 3),
                gated("view.runs", &heard, &gate, 1),
                skipping,
            ])
            .start()
            .await
            .expect("the bus starts");
        let first = order(&bus, "north", 1).await.0;
        clock.advance(Duration::from_secs(1));
        let second = order(&bus, "south", 1).await.0;
        heard.until(1).await;
        clock.advance(Duration::from_secs(1));
        comes_to(&bus, &[
            (first, "view.parks", Status::Dead),
            (first, "view.redelivers", Status::Redelivering),
            (first, "view.runs", Status::Running),
            (first, "view.skips", Status::GivenUp),
            (second, "view.parks", Status::Done),
            (second, "view.redelivers", Status::Done),
            (second, "view.runs", Status::Waiting),
            (second, "view.skips", Status::GivenUp),
        ])
        .await;
        let overview = bus.publications().counts_with_done().await.expect("readable");
        let total = overview.total;
        assert_eq!((total.waiting, total.running, total.redelivering, total.dead, total.given_up, total.done), (1, 1, 1, 1, 2, Some(2)));
        assert_eq!((total.owed(), total.handled), (3, 0));
        let runs = &overview.listeners[2];
        assert_eq!((runs.listener.as_str(), runs.behind, runs.oldest), ("view.runs", 2, Some(Timestamp(1_000))));
        assert_eq!(runs.oldest_age, Some(Duration::from_secs(2)));
        assert!(runs.is_worked_for && !runs.is_halted && runs.paused.is_none());
        let parks = &overview.listeners[0];
        assert_eq!((parks.counts.dead, parks.counts.owed(), parks.behind, parks.oldest), (1, 0, 0, None));
        let without = bus.publications().counts().await.expect("readable");
        assert_eq!((without.total.done, without.total.dead, without.total.waiting), (None, 1, 1));
        gate.add_permits(2);
    }

    async fn the_facts_of_each_state_are_told(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(50_000));
        let open = Arc::new(AtomicBool::new(false));
        let skipping = listener::on::<Ordered>("view.skips").durable().call(|_| Err::<(), _>(Decision::skip("not ours")));
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listeners([picky("view.parks", &open, 1), picky("view.redelivers", &open, 3), skipping])
            .start()
            .await
            .expect("the bus starts");
        order(&bus, "north", 1).await;
        within(bus.quiet()).await;
        clock.advance(Duration::from_secs(10));
        within(bus.quiet()).await;
        let all = found(&bus, Query::new()).await;
        assert_eq!(all[0].stage, Stage::Dead { attempts: 1, cause: ParkedCause::Failed("closed".into()), parked_at: Timestamp(50_000), asked: None });
        let again = Stage::Redelivering {
            attempts: 2,
            due: Timestamp(70_000),
            error: "closed".into(),
            failed_at: Timestamp(60_000),
            first_failed_at: Timestamp(50_000),
        };
        assert_eq!(all[1].stage, again);
        assert_eq!(all[2].stage, Stage::GivenUp { attempts: 0, how: Ending::Skipped, reason: "not ours".into(), at: Timestamp(50_000) });
        assert_eq!((all[0].header.name.as_str(), all[0].header.metadata.time), ("view.ordered", Timestamp(50_000)));
        assert!(bus.dead_letters("view.parks").discard(Position(all[0].position.0), "a test order").await.expect("discards"));
        let gone = found(&bus, Query::new().listener("view.parks")).await;
        assert_eq!(gone[0].stage, Stage::GivenUp { attempts: 1, how: Ending::Discarded, reason: "a test order".into(), at: Timestamp(60_000) });
        stop(bus).await;
    }

    async fn a_handler_that_runs_for_days_is_running_and_never_taken_for_dead(home: &dyn Home) {
        let (clock, heard, gate) = (MovedClock::at(Timestamp(0)), Heard::new(), Arc::new(Semaphore::new(0)));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(gated("view.runs", &heard, &gate, 1)).start().await.expect("the bus starts");
        order(&bus, "north", 1).await;
        heard.until(1).await;
        clock.advance(Duration::from_secs(5 * 86_400));
        assert_eq!(bus.publications().replay(&Query::new(), 8).await.expect("asks"), 0, "nothing of it is a dead letter");
        let running = found(&bus, Query::new().statuses([Status::Running])).await;
        assert_eq!(running[0].stage, Stage::Running { attempt: 1, since: Timestamp(0), replayed: false });
        assert_eq!(found(&bus, Query::new().statuses([Status::Waiting, Status::Redelivering, Status::Dead])).await, []);
        gate.add_permits(1);
        within(bus.idle()).await;
        assert_eq!((rows(&found(&bus, Query::new()).await)[0].2, heard.len()), (Status::Done, 1), "it was called once");
        stop(bus).await;
    }

    async fn a_dead_letter_that_is_called_again_is_running_until_it_is_done_or_dead_again(home: &dyn Home) {
        let (heard, gate, calls) = (Heard::new(), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (to, closed) = (heard.clone(), gate.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Ordered>("view.again").durable().redeliver(Redeliver::new().attempts(1)).call_async(move |event, _| {
                let (to, closed, call) = (to.clone(), closed.clone(), calls.fetch_add(1, Ordering::SeqCst));
                CallFuture::from_or_box(async move {
                    to.note(event.line());
                    closed.acquire().await?.forget();
                    if call < 2 { Err(Failed("closed").into()) } else { Ok(None) }
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        gate.add_permits(1);
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        for (call, after) in [(2, Status::Dead), (3, Status::Done)] {
            assert_eq!(bus.publications().replay(&Query::new().key(&"north".to_owned()), 1).await.expect("asks"), 1);
            heard.until(call).await;
            let now = found(&bus, Query::new()).await;
            assert!(matches!(now[0].stage, Stage::Running { attempt: 1, replayed: true, .. }), "{now:?}");
            assert_eq!(found(&bus, Query::new().status(Status::Running)).await, now);
            gate.add_permits(1);
            within(bus.idle()).await;
            assert_eq!(rows(&found(&bus, Query::new()).await)[0].2, after);
        }
        stop(bus).await;
    }

    async fn what_is_handled_and_not_settled_is_told_from_what_is_done(home: &dyn Home) {
        let (clock, heard) = (MovedClock::at(Timestamp(7)), Heard::new());
        let to = heard.clone();
        let slow_to_settle = listener::on::<Ordered>("view.gathers").durable().ack(AckMode::Time(Duration::from_secs(60))).call(move |event| to.note(event.line()));
        let bus = Bus::builder().shared_store(home.open()).clock(clock.clone()).listener(slow_to_settle).start().await.expect("the bus starts");
        order(&bus, "north", 1).await;
        heard.until(1).await;
        within(bus.quiet()).await;
        let now = found(&bus, Query::new()).await;
        assert_eq!(now[0].stage, Stage::Handled { since: Timestamp(7) });
        assert_eq!(bus.publications().counts().await.expect("readable").total.handled, 1);
        clock.advance(Duration::from_secs(60));
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new()).await)[0].2, Status::Done);
        stop(bus).await;
    }

    async fn queries_narrow_by_listener_event_key_name_state_and_age(home: &dyn Home) {
        let clock = MovedClock::at(Timestamp(1_000));
        let open = Arc::new(AtomicBool::new(false));
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .listeners([picky("view.one", &open, 1), picky("view.two", &open, 1)])
            .start()
            .await
            .expect("the bus starts");
        for (number, shop) in ["north", "south", "north"].into_iter().enumerate() {
            order(&bus, shop, number as u32).await;
            clock.advance(Duration::from_secs(1));
        }
        within(bus.idle()).await;
        let all = found(&bus, Query::new()).await;
        assert_eq!(all.len(), 6);
        let count = async |query| found(&bus, query).await.len();
        assert_eq!(count(Query::new().listener("view.one")).await, 3);
        assert_eq!(count(Query::new().listener("view.three")).await, 0);
        assert_eq!(count(Query::new().key(&"south".to_owned())).await, 2);
        assert_eq!(count(Query::new().key_reads("north")).await, 4);
        assert_eq!(count(Query::new().key_reads("\"north\"").status(Status::Dead)).await, 4);
        assert_eq!(count(Query::new().name("view.ordered")).await, 6);
        assert_eq!(count(Query::new().name("view.other")).await, 0);
        assert_eq!(count(Query::new().status(Status::Done)).await, 2);
        assert_eq!(count(Query::new().published_before(Timestamp(2_000))).await, 2);
        assert_eq!(count(Query::new().published_since(Timestamp(2_000))).await, 4);
        let one = all[2].header.metadata.id;
        assert_eq!(found(&bus, Query::new().event(one)).await, all[2..4]);
        assert_eq!(count(Query::new().event(one).status(Status::Dead)).await, 0);
        assert_eq!(count(Query::new().event(Uuid::from_u128(1))).await, 0);
        stop(bus).await;
    }

    async fn pages_go_on_where_the_last_ended_whatever_the_state(home: &dyn Home) {
        let open = Arc::new(AtomicBool::new(false));
        let bus = Bus::builder()
            .shared_store(home.open())
            .listeners([picky("view.one", &open, 1), picky("view.two", &open, 1)])
            .start()
            .await
            .expect("the bus starts");
        for number in 0..40 {
            order(&bus, if number % 3 == 0 { "north" } else { "south" }, number).await;
        }
        within(bus.idle()).await;
        for query in [Query::new(), Query::new().status(Status::Dead), Query::new().status(Status::Done).listener("view.two")] {
            let whole = found(&bus, query.clone()).await;
            assert!(whole.len() > 10);
            for limit in [1, 7, whole.len()] {
                let (mut after, mut paged): (Option<Mark>, Vec<_>) = (None, Vec::new());
                loop {
                    let page = bus.publications().page(&query, after.as_ref(), at_most(limit)).await.expect("readable");
                    assert!(page.publications.len() <= limit);
                    paged.extend(page.publications);
                    let Some(mark) = page.next else { break };
                    after = Some(mark.to_string().parse().expect("a mark reads back as it is written"));
                }
                assert_eq!(paged, whole, "pages of {limit}");
            }
        }
        assert!("7".parse::<Mark>().is_err() && "x:l".parse::<Mark>().is_err());
        stop(bus).await;
    }

    async fn dead_letters_of_all_listeners_are_called_again_with_a_cap(home: &dyn Home) {
        let (heard, gate, open) = (Heard::new(), Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
        let (to, closed, may) = (heard.clone(), gate.clone(), open.clone());
        let capped = move |id: &'static str| {
            let (to, closed, may) = (to.clone(), closed.clone(), may.clone());
            listener::on::<Ordered>(id).durable().concurrency(16).redeliver(Redeliver::new().attempts(1)).call_async(move |event, _| {
                let (to, closed, may) = (to.clone(), closed.clone(), may.clone());
                CallFuture::from_or_box(async move {
                    if !may.load(Ordering::SeqCst) {
                        return Err(Failed("closed").into());
                    }
                    to.note(format!("{id} {}", event.line()));
                    closed.acquire().await?.forget();
                    Ok(None)
                })
            })
        };
        let bus = Bus::builder().shared_store(home.open()).listeners([capped("view.one"), capped("view.two")]).start().await.expect("the bus starts");
        for shop in ["a", "b", "c", "d", "e"] {
            order(&bus, shop, 1).await;
        }
        within(bus.idle()).await;
        open.store(true, Ordering::SeqCst);
        let before = found(&bus, Query::new().status(Status::Dead)).await;
        assert_eq!(before.len(), 10);
        let older = Query::new().published_since(Timestamp(0));
        assert_eq!(bus.publications().replay(&older, 2).await.expect("asks"), 10);
        heard.until(4).await;
        until(|| heard.len() == 4).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(heard.len(), 4, "two of each listener, although sixteen of each could be called");
        assert_eq!(found(&bus, Query::new().status(Status::Running)).await.len(), 4);
        gate.add_permits(10);
        within(bus.idle()).await;
        assert_eq!(found(&bus, Query::new().status(Status::Done)).await.len(), 10);
        let unknown = bus.publications().replay(&Query::new().listener("view.gone"), 1).await;
        assert!(matches!(unknown, Err(Error::DeadLetter(DeadLetterError::NotRunning { .. }))), "{unknown:?}");
        stop(bus).await;
    }

    async fn what_was_published_before_a_listener_came_is_not_owed_to_it(home: &dyn Home) {
        let open = Arc::new(AtomicBool::new(true));
        let bus = Bus::builder().shared_store(home.open()).listener(picky("view.first", &open, 1)).start().await.expect("the bus starts");
        order(&bus, "north", 1).await;
        within(bus.idle()).await;
        bus.register(picky("view.late", &open, 1)).await.expect("comes");
        let second = order(&bus, "north", 2).await;
        within(bus.idle()).await;
        assert_eq!(rows(&found(&bus, Query::new().listener("view.late")).await), [(second.0, "view.late", Status::Done)]);
        bus.reset("view.late", listener::StartAt::Beginning, async |_: &mut Tx| Ok::<_, Error>(())).await.expect("is put back");
        within(bus.idle()).await;
        assert_eq!(found(&bus, Query::new().listener("view.late")).await.len(), 2, "now it was owed the first too");
        stop(bus).await;
    }

    async fn a_store_without_a_bus_is_looked_at_too(home: &dyn Home) {
        let (clock, heard, gate) = (MovedClock::at(Timestamp(1_000)), Heard::new(), Arc::new(Semaphore::new(0)));
        let store = home.open();
        let open = Arc::new(AtomicBool::new(false));
        let bus = Bus::builder().shared_store(store.clone()).clock(clock.clone()).listeners([picky("view.parks", &open, 1), gated("view.runs", &heard, &gate, 1)]).start().await.expect("the bus starts");
        order(&bus, "north", 1).await;
        heard.until(1).await;
        comes_to(&bus, &[(1, "view.parks", Status::Dead), (1, "view.runs", Status::Running)]).await;
        let view = View::new(store.clone(), clock.now());
        let page = view.page(&Query::new(), None, MANY).await.expect("readable");
        assert_eq!(rows(&page.publications), [(1, "view.parks", Status::Dead), (1, "view.runs", Status::Waiting)], "nobody says what runs");
        let overview = view.counts().await.expect("readable");
        assert!(!overview.listeners[0].is_worked_for);
        gate.add_permits(1);
        stop(bus).await;
    }
}

#[test]
fn states_have_names_that_read_back() {
    for status in Status::ALL {
        assert_eq!(status.to_string().parse(), Ok(status));
    }
    let unknown = "failed".parse::<Status>().expect_err("no state");
    assert!(unknown.contains("redelivering, dead, given-up"), "{unknown}");
}
