//! Dead letters: a case each of the group DLQ, and what else was promised about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::bus::Replay;
use aftercommit::error::{BoxError, DeadLetterError};
use aftercommit::listener::{self, Declaration, ErrorRules, Followers, Parking, Redeliver, Sequence, WhenFull, fixed};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{ParkedCause, Position};
use aftercommit::testing::MovedClock;

use super::{Failed, Placed, place, place_all, stop};
use crate::heard::{Heard, within};
use crate::scene::{ROWS, row};
use crate::stores::Home;

/// Who was called, and whether orders of the north are accepted.
#[derive(Clone)]
struct Desk {
    heard: Heard,
    open: Arc<AtomicBool>,
    told: Heard,
}

impl Desk {
    fn closed() -> Self {
        Self { heard: Heard::new(), open: Arc::default(), told: Heard::new() }
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    fn declaration() -> Declaration<Placed> {
        listener::on::<Placed>("desk").durable().redeliver(Redeliver::new().attempts(1))
    }

    /// Fails on every order of the north while it is closed.
    fn listener(&self, declaration: Declaration<Placed>) -> listener::Registration {
        let Self { heard, open, .. } = self.clone();
        declaration.call(move |event| {
            heard.note(event.line());
            if event.shop == "north" && !open.load(Ordering::SeqCst) { Err(Failed("closed")) } else { Ok(()) }
        })
    }

    fn builder(&self, home: &dyn Home, declaration: Declaration<Placed>) -> BusBuilder {
        let told = self.told.clone();
        Bus::builder().shared_store(home.open()).listener(self.listener(declaration)).observer(
            move |notice: &Notice<'_>| match notice {
                Notice::ListenerStopped { position, reason, .. } => {
                    told.note(format!("stopped {}: {reason}", position.0))
                }
                Notice::Discarded { position, reason, .. } => told.note(format!("discarded {}: {reason}", position.0)),
                Notice::Skipped { position, reason, .. } => told.note(format!("skipped {}: {reason}", position.0)),
                Notice::Parked { position, .. } => told.note(format!("parked {}", position.0)),
                _ => {}
            },
        )
    }

    async fn bus(&self, home: &dyn Home, declaration: Declaration<Placed>) -> Bus {
        self.builder(home, declaration).start().await.expect("the bus starts")
    }
}

async fn letters(bus: &Bus) -> Vec<u64> {
    let page = bus.dead_letters("desk").page(Position(0), 100).await.expect("readable");
    page.iter().map(|one| one.position.0).collect()
}

on_every_store! {
    async fn dlq_01_followers_of_a_parked_event_park_uncalled_and_other_sequences_go_on(home: &dyn Home) {
        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration()).await;
        let at = place_all(&bus, &[("north", 1), ("south", 1), ("north", 2)]).await;
        within(bus.idle()).await;
        let late = place(&bus, "north", 3).await;
        place(&bus, "south", 2).await;
        within(bus.idle()).await;
        assert_eq!(desk.heard.all(), ["north 1", "south 1", "south 2"]);
        let page = bus.dead_letters("desk").page(Position(0), 100).await.expect("readable");
        assert_eq!(page.iter().map(|one| one.position).collect::<Vec<_>>(), [at[0], at[2], late]);
        assert_eq!(page.iter().map(|one| one.attempts).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!((&page[0].cause, &page[2].cause), (&ParkedCause::Failed("closed".into()), &ParkedCause::Behind(at[0])));
    }

    async fn dlq_02_a_replayed_sequence_is_called_whole_in_order_and_leaves(home: &dyn Home) {
        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration()).await;
        let orders: Vec<(&str, u32)> = (1..=200).map(|order| ("north", order)).collect();
        let at = place_all(&bus, &orders).await;
        within(bus.idle()).await;
        desk.open();
        desk.heard.take();
        assert_eq!(bus.dead_letters("desk").replay(Replay::sequence_of(at[7])).await.expect("parked"), 1);
        within(bus.idle()).await;
        let expected: Vec<String> = (1..=200).map(|order| format!("north {order}")).collect();
        assert_eq!(desk.heard.all(), expected);
        assert!(letters(&bus).await.is_empty());
        // Nothing of it is called again after a restart.
        stop(bus).await;
        let bus = desk.bus(home, Desk::declaration()).await;
        within(bus.idle()).await;
        assert_eq!(desk.heard.len(), 200);
    }

    /// A sequence is replayed up to its first event that does not match, as order goes before the filter.
    async fn dlq_06_only_what_matches_a_filter_is_replayed(home: &dyn Home) {
        let desk = Desk::closed();
        let rejecting = listener::on::<Placed>("desk").durable().redeliver(Redeliver::new().attempts(1)).sequence(Sequence::PerKey);
        let (to, open) = (desk.heard.clone(), desk.open.clone());
        let bus = Bus::builder().shared_store(home.open()).listener(rejecting.call(move |event| {
            to.note(event.line());
            if open.load(Ordering::SeqCst) { Ok(()) } else { Err(Failed("closed")) }
        })).start().await.expect("the bus starts");
        let at = place_all(&bus, &[("north", 1), ("south", 1), ("north", 2), ("east", 9), ("north", 30), ("north", 4)]).await;
        within(bus.idle()).await;
        desk.open();
        desk.heard.take();
        let small = |parked: &aftercommit::store::Parked| {
            let placed: Placed = serde_json::from_slice(&parked.envelope.body).expect("what was stored");
            placed.order < 5
        };
        bus.dead_letters("desk").replay(Replay::matching(small).in_flight(1)).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(desk.heard.all(), ["north 1", "north 2", "south 1"]);
        assert_eq!(letters(&bus).await, [at[3].0, at[4].0, at[5].0]);
        desk.heard.take();
        bus.dead_letters("desk").replay(Replay::key(&Shop("north"))).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(desk.heard.all(), ["north 30", "north 4"]);
    }

    /// The peer answers the one who enqueues; here nobody does, so that the listener stops and tells, or discards where declared.
    async fn dlq_07_at_the_declared_limits_the_listener_stops_or_discards_and_fullness_can_be_asked(home: &dyn Home) {
        let desk = Desk::closed();
        let limits = Parking::new().sequences(1).length(2);
        let bus = desk.bus(home, Desk::declaration().parking(limits)).await;
        let at = place_all(&bus, &[("north", 1), ("north", 2)]).await;
        within(bus.idle()).await;
        let counts = bus.dead_letters("desk").counts().await.expect("it runs");
        assert_eq!((counts.sequences, counts.events, counts.is_full), (1, 2, true));
        let third = place(&bus, "north", 3).await;
        place(&bus, "south", 1).await;
        within(bus.idle()).await;
        let told = desk.told.all();
        assert!(told.last().is_some_and(|line| line.starts_with(&format!("stopped {}: there is no room", third.0))), "{told:?}");
        assert_eq!((bus.counts().stopped_listeners, letters(&bus).await), (1, vec![at[0].0, at[1].0]));
        // Room is made, and it goes on.
        desk.open();
        bus.dead_letters("desk").replay(Replay::all()).await.expect("it runs");
        assert!(bus.resume("desk"));
        within(bus.idle()).await;
        let mut orders = desk.heard.all();
        orders.sort();
        assert_eq!(orders, ["north 1", "north 1", "north 2", "north 3", "south 1"]);
        assert_eq!(bus.dead_letters("desk").counts().await.expect("it runs").events, 0);
        stop(bus).await;

        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration().parking(limits.when_full(WhenFull::Discard))).await;
        let at = place_all(&bus, &[("north", 1), ("north", 2), ("north", 3), ("south", 1)]).await;
        within(bus.idle()).await;
        assert_eq!(letters(&bus).await, [at[0].0, at[1].0]);
        assert!(desk.told.all().iter().any(|line| line.starts_with(&format!("discarded {}: there is no room", at[2].0))));
        assert_eq!((bus.counts().discarded, desk.heard.all()), (1, vec!["north 1".into(), "south 1".into()]));
    }

    async fn dlq_08_an_unknown_letter_is_discarded_in_vain_and_its_replay_is_an_error(home: &dyn Home) {
        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration()).await;
        let at = place_all(&bus, &[("north", 1), ("north", 2)]).await;
        within(bus.idle()).await;
        let dead = bus.dead_letters("desk");
        assert!(!dead.discard(Position(77), "never there").await.expect("it runs"));
        for replay in [Replay::one(Position(77)), Replay::sequence_of(Position(77))] {
            let refused = dead.replay(replay).await;
            assert!(matches!(refused, Err(Error::DeadLetter(DeadLetterError::Unknown { position: 77, .. }))), "{refused:?}");
        }
        let refused = dead.replay(Replay::one(at[1])).await;
        assert!(matches!(refused, Err(Error::DeadLetter(DeadLetterError::Behind { first, .. })) if first == at[0].0), "{refused:?}");
        let gone = bus.dead_letters("nobody").replay(Replay::all()).await;
        assert!(matches!(gone, Err(Error::DeadLetter(DeadLetterError::NotRunning { .. }))), "{gone:?}");
        assert_eq!(letters(&bus).await, [at[0].0, at[1].0], "nothing was changed");
    }

    /// The peer hands a filtered error back to the broker, which delivers again; here the listener stops, and what it was called
    /// with stays owed.
    async fn dlq_10_a_filtered_kind_of_error_parks_nothing_and_reaches_those_who_watch(home: &dyn Home) {
        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration().errors(ErrorRules::new().stop_on::<Failed>())).await;
        let at = place_all(&bus, &[("south", 1), ("north", 1), ("south", 2)]).await;
        within(bus.idle()).await;
        assert_eq!(desk.told.all().len(), 1);
        assert!(desk.told.all()[0].starts_with(&format!("stopped {}:", at[1].0)) && desk.told.all()[0].ends_with(": closed"));
        assert!(letters(&bus).await.is_empty());
        desk.open();
        assert!(bus.resume("desk"));
        within(bus.idle()).await;
        let mut heard = desk.heard.all();
        heard.sort();
        assert_eq!(heard, ["north 1", "north 1", "south 1", "south 2"]);
    }

    /// A letter carries the text of the error with all its causes; the type of the error is not kept.
    async fn dlq_11_a_listeners_own_rules_come_before_those_of_all_and_a_letter_tells_what_happened(home: &dyn Home) {
        #[derive(Debug, thiserror::Error)]
        #[error("no answer")]
        struct NoAnswer;
        #[derive(Debug, thiserror::Error)]
        #[error("cannot deliver")]
        struct Undeliverable(#[source] NoAnswer);
        #[derive(Debug, thiserror::Error)]
        #[error("refused")]
        struct Refused;
        let heard = Heard::new();
        let clock = MovedClock::default();
        let to = heard.clone();
        let quick = |attempts| Redeliver::new().attempts(attempts).backoff(fixed(std::time::Duration::ZERO));
        let own = ErrorRules::new().redeliver_as::<NoAnswer>(quick(2));
        let all = ErrorRules::new().never_on::<NoAnswer>().redeliver_as::<Refused>(quick(4));
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock)
            .errors(all)
            .listener(listener::on::<Placed>("desk").durable().redeliver(quick(3)).errors(own).call(move |event| -> Result<(), BoxError> {
                to.note(event.shop.clone());
                match event.shop.as_str() {
                    "own" => Err(Undeliverable(NoAnswer).into()),
                    "all" => Err(Refused.into()),
                    _ => Err(Failed("whatever").into()),
                }
            }))
            .start()
            .await
            .expect("the bus starts");
        let mut ids = Vec::new();
        for shop in ["own", "all", "other"] {
            place(&bus, shop, 1).await;
        }
        within(bus.idle()).await;
        let count = |shop: &str| heard.all().iter().filter(|line| *line == shop).count();
        assert_eq!((count("own"), count("all"), count("other")), (2, 4, 3));
        let page = bus.dead_letters("desk").page(Position(0), 9).await.expect("readable");
        let causes: Vec<(u32, &ParkedCause)> = page.iter().map(|one| (one.attempts, &one.cause)).collect();
        let failed = |text: &str| ParkedCause::Failed(text.to_owned());
        assert_eq!(causes, [(2, &failed("cannot deliver: no answer")), (4, &failed("refused")), (3, &failed("whatever"))]);
        ids.extend(page.iter().map(|one| one.envelope.header.metadata.id));
        ids.dedup();
        assert_eq!(ids.len(), 3, "each is the event that was published");
    }

    async fn one_letter_is_replayed_alone_and_one_that_fails_again_keeps_its_place(home: &dyn Home) {
        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration()).await;
        let at = place_all(&bus, &[("north", 1), ("north", 2), ("north", 3)]).await;
        within(bus.idle()).await;
        let dead = bus.dead_letters("desk");
        dead.replay(Replay::all()).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(desk.heard.all(), ["north 1", "north 1"], "it fails again, and what follows stays behind it");
        assert_eq!(letters(&bus).await, [at[0].0, at[1].0, at[2].0]);
        desk.open();
        dead.replay(Replay::one(at[0])).await.expect("the first");
        within(bus.idle()).await;
        assert_eq!((desk.heard.len(), letters(&bus).await), (3, vec![at[1].0, at[2].0]));
        let late = place(&bus, "north", 4).await;
        within(bus.idle()).await;
        assert_eq!(letters(&bus).await, [at[1].0, at[2].0, late.0], "its sequence is still parked");
        assert!(dead.discard(at[1], "a test order").await.expect("it runs"));
        assert!(desk.told.all().contains(&format!("discarded {}: a test order", at[1].0)));
        assert!(dead.get(at[1]).await.expect("readable").is_none());
        assert!(dead.get(at[2]).await.expect("readable").is_some());
        dead.replay(Replay::all()).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(desk.heard.all()[3..], ["north 3", "north 4"]);
        assert!(letters(&bus).await.is_empty());
    }

    async fn followers_pass_where_declared(home: &dyn Home) {
        let desk = Desk::closed();
        let bus = desk.bus(home, Desk::declaration().parking(Parking::new().followers(Followers::Pass))).await;
        let at = place_all(&bus, &[("north", 1), ("north", 2), ("south", 1)]).await;
        within(bus.idle()).await;
        assert_eq!(desk.heard.all().iter().filter(|line| line.starts_with("north")).count(), 2, "each of them is called");
        assert_eq!(letters(&bus).await, [at[0].0, at[1].0]);
        desk.open();
        place(&bus, "north", 3).await;
        within(bus.idle()).await;
        assert_eq!(desk.heard.all().last().map(String::as_str), Some("north 3"), "and so is what comes later");
        bus.dead_letters("desk").replay(Replay::all()).await.expect("it runs");
        within(bus.idle()).await;
        assert!(letters(&bus).await.is_empty());
    }

    async fn nothing_follows_where_the_listener_is_to_stop(home: &dyn Home) {
        let desk = Desk::closed();
        let declare = || Desk::declaration().parking(Parking::new().followers(Followers::Stop));
        let bus = desk.bus(home, declare()).await;
        place_all(&bus, &[("north", 1), ("north", 2), ("south", 1)]).await;
        within(bus.idle()).await;
        assert!(!desk.heard.all().contains(&"north 2".to_owned()));
        assert!(letters(&bus).await.is_empty() && bus.counts().stopped_listeners == 1);
        stop(bus).await;
        desk.open();
        desk.heard.take();
        let bus = desk.bus(home, declare()).await;
        within(bus.idle()).await;
        assert!(desk.heard.all().starts_with(&["north 1".to_owned()]), "the next start goes on: {:?}", desk.heard.all());
        assert!(desk.heard.all().contains(&"north 2".to_owned()));
    }

    async fn a_decision_by_value_parks_skips_waits_or_stops(home: &dyn Home) {
        let (heard, told) = (Heard::new(), Heard::new());
        let clock = MovedClock::default();
        let (to, tell) = (heard.clone(), told.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .clock(clock.clone())
            .observer(move |notice: &Notice<'_>| match notice {
                Notice::Skipped { reason, .. } => tell.note(format!("skipped: {reason}")),
                Notice::ListenerStopped { reason, .. } => tell.note(format!("stopped: {reason}")),
                _ => {}
            })
            .listener(listener::on::<Placed>("desk").durable().concurrency(4).call(move |event| {
                to.note(event.line());
                let calls = to.all().iter().filter(|line| **line == event.line()).count();
                match (event.shop.as_str(), calls) {
                    ("park", _) => Decision::park("look at it"),
                    ("skip", _) => Decision::skip("nothing to do"),
                    ("wait", 1) => Decision::redeliver_after(std::time::Duration::from_secs(5)),
                    ("fatal", 1) => Decision::fatal("no disk"),
                    _ => Decision::Done,
                }
            }))
            .start()
            .await
            .expect("the bus starts");
        let at = place_all(&bus, &[("park", 1), ("skip", 1), ("wait", 1), ("park", 2)]).await;
        within(bus.quiet()).await;
        clock.advance(std::time::Duration::from_millis(4_999));
        within(bus.quiet()).await;
        assert_eq!(heard.len(), 3, "not a moment too early");
        clock.advance(std::time::Duration::from_millis(1));
        within(bus.idle()).await;
        assert_eq!(heard.all().last().map(String::as_str), Some("wait 1"));
        let page = bus.dead_letters("desk").page(Position(0), 9).await.expect("readable");
        let causes: Vec<(Position, ParkedCause)> = page.into_iter().map(|one| (one.position, one.cause)).collect();
        assert_eq!(causes, [(at[0], ParkedCause::Decided("look at it".into())), (at[3], ParkedCause::Behind(at[0]))]);
        assert_eq!(told.all(), ["skipped: nothing to do"]);
        place(&bus, "fatal", 1).await;
        within(bus.idle()).await;
        place(&bus, "late", 1).await;
        within(bus.idle()).await;
        assert_eq!(told.all()[1..], ["stopped: no disk"]);
        assert!(!heard.all().contains(&"late 1".to_owned()), "it calls nobody any more");
        assert!(bus.resume("desk"));
        within(bus.idle()).await;
        assert_eq!(heard.all().iter().filter(|line| line.starts_with("fatal") || line.starts_with("late")).count(), 3);
        assert_eq!((bus.counts().skipped, bus.counts().stopped_listeners), (1, 1));
    }

    async fn a_fallback_settles_what_is_out_of_attempts_or_parks_it_with_both_causes(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(
                listener::on::<Placed>("desk")
                    .durable()
                    .redeliver(Redeliver::new().attempts(2).backoff(fixed(std::time::Duration::ZERO)))
                    .fallback(move |event: &Placed, given_up, call| -> Result<(), BoxError> {
                        to.note(format!("{} after {}: {}", event.line(), given_up.attempts, given_up.error));
                        ROWS.put(call.tx()?, &event.order, &event.shop)?;
                        if event.shop == "north" { Ok(()) } else { Err(Failed("nor this").into()) }
                    })
                    .call(|_| Err::<(), _>(Failed("never"))),
            )
            .start()
            .await
            .expect("the bus starts");
        place_all(&bus, &[("north", 1), ("south", 2)]).await;
        within(bus.idle()).await;
        let mut lines = heard.all();
        lines.sort();
        assert_eq!(lines, ["north 1 after 2: never", "south 2 after 2: never"]);
        assert_eq!((row(&bus, 1).as_deref(), row(&bus, 2)), (Some("north"), None), "what it wrote counts only if it succeeds");
        let page = bus.dead_letters("desk").page(Position(0), 9).await.expect("readable");
        let causes: Vec<(u32, ParkedCause)> = page.into_iter().map(|one| (one.attempts, one.cause)).collect();
        assert_eq!(causes, [(2, ParkedCause::Failed("never; its fallback failed: nor this".into()))]);
    }
}

/// The key of a [`Placed`], whose bytes are those of the text.
struct Shop(&'static str);

impl Key for Shop {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }

    fn decode(_: &mut &[u8]) -> Result<Self, aftercommit::error::KeyError> {
        Err(aftercommit::error::KeyError::new("shop", "never read"))
    }

    fn shape(out: &mut String) {
        out.push_str("shop");
    }
}
