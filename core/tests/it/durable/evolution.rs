//! What an earlier program stored is read by a later one, or parks where it is met, and says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::bus::{Replay, StreamError};
use aftercommit::error::{BoxError, DecodeError, StartError, Warning};
use aftercommit::event::{Stored, Upcast, upcast};
use aftercommit::listener::{self, Batch, Followers, Parking, StartAt};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::store::{ParkedCause, Position};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stop;
use crate::heard::{Heard, within};
use crate::stores::Home;

/// An event of a program: its stored form, and how it is told.
trait Told: StoredEvent + Serialize + DeserializeOwned {
    fn told(&self) -> String;
}

macro_rules! event {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* }, $stored:expr, $told:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct $name { $($field: $type),* }

        impl Event for $name {
            const STORED: Option<Stored<Self>> = Some($stored);

            fn key(&self, out: &mut Vec<u8>) -> bool {
                Key::encode(&self.order, out);
                true
            }
        }

        impl StoredEvent for $name {}

        impl Told for $name {
            fn told(&self) -> String {
                let Self { $($field),* } = self;
                format!($told)
            }
        }
    };
}

event!(
    /// The first program's.
    First { order: u64, euros: i64 }, Stored::json("evo.refunded").logged(), "{order} {euros} euros"
);
event!(
    /// The second program's: in cents.
    Second { order: u64, cents: i64 },
    Stored::json("evo.refunded").logged().version(2).upcasts(&[IN_CENTS]),
    "{order} {cents} cents"
);
event!(
    /// The third program's: renamed, with a reason.
    Third { order: u64, cents: i64, reason: String },
    Stored::json("evo.repaid").logged().formerly(&["evo.refunded"]).version(3).upcasts(&[WITH_REASON, IN_CENTS]),
    "{order} {cents} cents, {reason}"
);
event!(
    /// As the second, by somebody who forgot what the first program stored.
    Forgetful { order: u64, cents: i64 }, Stored::json("evo.refunded").logged().version(2).oldest(2), "{order} {cents} cents"
);
event!(
    /// As the first, by somebody who renamed it and did not say so.
    Renamed { order: u64, euros: i64 }, Stored::json("evo.repaid").logged(), "{order} {euros} euros"
);
event!(
    /// As the second, with a step that says no to some.
    Choosy { order: u64, cents: i64 },
    Stored::json("evo.refunded").logged().version(2).upcasts(&[Upcast { from: 1, step: |body| upcast(body, choose) }]),
    "{order} {cents} cents"
);

/// From an old struct.
const IN_CENTS: Upcast =
    Upcast { from: 1, step: |body| upcast(body, |old: First| Second { order: old.order, cents: old.euros * 100 }) };
/// On the raw value.
const WITH_REASON: Upcast = Upcast { from: 2, step: |body| upcast(body, with_reason) };

fn with_reason(mut old: Value) -> Value {
    old["reason"] = json!("unknown");
    old
}

fn choose(old: First) -> Result<Second, BoxError> {
    match old.euros {
        13 => Err("thirteen brings bad luck".into()),
        666 => panic!("the beast"),
        euros => Ok(Second { order: old.order, cents: euros * 100 }),
    }
}

/// A program that publishes these and ends.
async fn publish<E: Event>(home: &dyn Home, events: Vec<E>) -> Vec<Position> {
    let bus = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
    let published = bus.transaction(async |tx| events.into_iter().try_for_each(|event| tx.publish(event)));
    let positions = published.await.expect("committed").positions;
    stop(bus).await;
    positions
}

fn first(orders: &[(u64, i64)]) -> Vec<First> {
    orders.iter().map(|&(order, euros)| First { order, euros }).collect()
}

/// The listener of a program, which notes what it is called with.
fn noting<E: Told>(heard: &Heard) -> listener::Registration {
    let to = heard.clone();
    listener::on::<E>("evo.noting").durable().start_at(StartAt::Beginning).call(move |event| to.note(event.told()))
}

/// A program with that listener.
async fn program<E: Told>(home: &dyn Home, heard: &Heard) -> Bus {
    let bus =
        Bus::builder().shared_store(home.open()).listener(noting::<E>(heard)).start().await.expect("the bus starts");
    within(bus.idle()).await;
    bus
}

async fn parked(bus: &Bus) -> Vec<(Position, String)> {
    let parked = bus.parked().await.expect("the parked ones");
    let mut parked: Vec<_> = parked.into_iter().map(|one| (one.position, one.cause.to_string())).collect();
    parked.sort();
    parked
}

on_every_store! {
    async fn each_version_is_brought_up_step_by_step_to_the_one_the_program_knows(home: &dyn Home) {
        publish(home, first(&[(1, 5)])).await;
        publish(home, vec![Second { order: 2, cents: 250 }]).await;
        publish(home, vec![Third { order: 3, cents: 1, reason: "late".to_owned() }]).await;
        let heard = Heard::new();
        let bus = program::<Third>(home, &heard).await;
        assert_eq!(heard.take(), ["1 500 cents, unknown", "2 250 cents, unknown", "3 1 cents, late"]);
        let mut stream = bus.stream_from::<Third>(Position(1)).expect("it is logged");
        for told in ["1 500 cents, unknown", "2 250 cents, unknown", "3 1 cents, late"] {
            let entry = within(stream.next()).await.expect("an entry").expect("that can be read");
            assert_eq!(entry.event.told(), told);
        }
        bus.reset("evo.noting", StartAt::Beginning, async |_| Ok::<_, Error>(())).await.expect("begins anew");
        within(bus.idle()).await;
        assert_eq!(heard.len(), 3, "and again from the beginning");
        stop(bus).await;
    }

    async fn what_is_owed_since_before_a_change_is_delivered_after_it_as_the_new_version(home: &dyn Home) {
        let heard = Heard::new();
        let store = home.open();
        let bus = Bus::builder().shared_store(store).listener(noting::<First>(&heard)).start().await.expect("the bus starts");
        bus.pause("evo.noting");
        within(bus.idle()).await;
        bus.transaction(async |tx| tx.publish(First { order: 1, euros: 5 })).await.expect("committed");
        stop(bus).await;
        let bus = program::<Third>(home, &heard).await;
        assert_eq!(heard.all(), ["1 500 cents, unknown"]);
        stop(bus).await;
    }

    async fn what_no_step_leads_on_from_parks_where_it_is_met_and_is_replayed_once_there_is_one(home: &dyn Home) {
        let positions = publish(home, first(&[(1, 5), (1, 6), (2, 7)])).await;
        publish(home, vec![Second { order: 1, cents: 800 }, Second { order: 3, cents: 900 }]).await;
        let heard = Heard::new();
        let bus = program::<Forgetful>(home, &heard).await;
        assert_eq!(heard.take(), ["3 900 cents"], "other keys go on");
        let too_old = "it cannot be decoded: `evo.refunded` is stored in version 1, older than the 2 this program reads".to_owned();
        let behind = format!("it waits behind log position {} of the same key", positions[0].0);
        let after = Position(positions[2].0 + 1);
        assert_eq!(
            parked(&bus).await,
            [(positions[0], too_old.clone()), (positions[1], behind.clone()), (positions[2], too_old), (after, behind)]
        );
        stop(bus).await;
        let bus = program::<Second>(home, &heard).await;
        assert_eq!(heard.len(), 0, "what is parked waits until somebody asks");
        bus.dead_letters("evo.noting").replay(Replay::all()).await.expect("they are parked");
        within(bus.idle()).await;
        let mut told = heard.all();
        told.sort();
        assert_eq!(told, ["1 500 cents", "1 600 cents", "1 800 cents", "2 700 cents"]);
        assert_eq!(parked(&bus).await, []);
        stop(bus).await;
    }

    async fn a_step_that_fails_or_panics_parks_its_event_with_the_cause_and_spares_its_neighbours(home: &dyn Home) {
        let positions = publish(home, first(&[(1, 5), (2, 13), (3, 666), (4, 8)])).await;
        let heard = Heard::new();
        let bus = program::<Choosy>(home, &heard).await;
        assert_eq!(heard.all(), ["1 500 cents", "4 800 cents"]);
        let cause = |why: &str| format!("it cannot be decoded: `evo.refunded` cannot be brought from version 1 to the next: {why}");
        assert_eq!(
            parked(&bus).await,
            [(positions[1], cause("thirteen brings bad luck")), (positions[2], cause("panicked: the beast"))]
        );
        let mut stream = bus.stream_from::<Choosy>(Position(1)).expect("it is logged");
        let mut told = Vec::new();
        for _ in 0..4 {
            told.push(match within(stream.next()).await.expect("an item") {
                Ok(entry) => entry.event.told(),
                Err(StreamError::Undecodable { position, cause }) => {
                    let cause = cause.downcast_ref::<DecodeError>().expect("says why");
                    assert!(matches!(cause, DecodeError::Upcast { from: 1, .. }), "{cause}");
                    format!("at {}", position.0)
                }
                Err(other) => panic!("{other}"),
            });
        }
        assert_eq!(told, ["1 500 cents", "at 2", "at 3", "4 800 cents"], "a stream tells of them in their places");
        stop(bus).await;
    }

    async fn in_a_batch_only_what_cannot_be_read_parks(home: &dyn Home) {
        let positions = publish(home, first(&[(1, 5), (2, 13), (3, 6), (4, 666), (5, 7)])).await;
        let heard = Heard::new();
        let to = heard.clone();
        let batch = listener::on::<Choosy>("evo.batch").durable().start_at(StartAt::Beginning).batch(Batch::new(10, Duration::ZERO));
        let registration = batch.call_batch(move |events, _| {
            to.note(events.iter().map(|one| one.event.told()).collect::<Vec<_>>().join(", "));
        });
        let bus = Bus::builder().shared_store(home.open()).listener(registration).start().await.expect("the bus starts");
        within(bus.idle()).await;
        let told = heard.all().join(", ");
        assert_eq!(told, "1 500 cents, 3 600 cents, 5 700 cents");
        let parked: Vec<Position> = parked(&bus).await.into_iter().map(|(position, _)| position).collect();
        assert_eq!(parked, [positions[1], positions[3]]);
        stop(bus).await;
    }

    async fn a_name_that_was_forgotten_takes_nothing_from_whom_it_is_owed(home: &dyn Home) {
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).listener(noting::<First>(&heard)).start().await.expect("the bus starts");
        let publish = async |order: u64| bus.transaction(async |tx| tx.publish(First { order, euros: 1 })).await.expect("committed").positions[0];
        publish(1).await;
        within(bus.idle()).await;
        bus.pause("evo.noting");
        let owed = [publish(2).await, publish(3).await];
        stop(bus).await;
        heard.take();

        let warned = Heard::new();
        let to = warned.clone();
        let forgetful = Bus::builder().shared_store(home.open()).observer(move |notice: &Notice<'_>| {
            if let Notice::Warning(warning @ Warning::EventNotTaken { .. }) = notice {
                to.note(warning.to_string());
            }
        });
        let bus = forgetful.listener(noting::<Renamed>(&heard)).start().await.expect("the bus starts");
        bus.transaction(async |tx| {
            tx.publish(Renamed { order: 4, euros: 4 })?;
            tx.publish(First { order: 5, euros: 5 }) // published by somebody else now: not owed to the listener
        })
        .await
        .expect("committed");
        within(bus.idle()).await;
        assert_eq!(heard.take(), ["4 4 euros"]);
        assert_eq!(warned.len(), 1, "{:?}", warned.all());
        assert!(warned.all()[0].contains("say `formerly = [\"evo.refunded\"]`"), "{:?}", warned.all());
        let told = parked(&bus).await;
        assert_eq!(told.iter().map(|(position, _)| *position).collect::<Vec<_>>(), owed);
        assert!(told.iter().all(|(_, cause)| cause.contains("it is stored as `evo.refunded`, which is no name of `evo.repaid`")), "{told:?}");
        stop(bus).await;

        let bus = Bus::builder().shared_store(home.open()).listener(noting::<Third>(&heard)).start().await.expect("the bus starts");
        bus.dead_letters("evo.noting").replay(Replay::all()).await.expect("they are parked");
        within(bus.idle()).await;
        let mut told = heard.take();
        told.sort();
        assert_eq!(told, ["2 100 cents, unknown", "3 100 cents, unknown"], "the name is its own again");
        stop(bus).await;
    }

    async fn what_a_listener_took_is_known_under_its_new_id(home: &dyn Home) {
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).listener(noting::<First>(&heard)).start().await.expect("the bus starts");
        bus.pause("evo.noting");
        within(bus.idle()).await;
        let owed = bus.transaction(async |tx| tx.publish(First { order: 1, euros: 1 })).await.expect("committed").positions;
        stop(bus).await;
        let to = heard.clone();
        let moved = listener::on::<Renamed>("evo.moved").durable().formerly("evo.noting").call(move |event| to.note(event.told()));
        let bus = Bus::builder().shared_store(home.open()).listener(moved).start().await.expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!(parked(&bus).await.into_iter().map(|(position, _)| position).collect::<Vec<_>>(), owed);
        stop(bus).await;
    }

    async fn what_a_listener_never_took_is_passed_by(home: &dyn Home) {
        publish(home, first(&[(1, 5)])).await;
        let heard = Heard::new();
        let bus = program::<Renamed>(home, &heard).await;
        assert_eq!((heard.len(), parked(&bus).await), (0, Vec::new()));
        stop(bus).await;
    }

    async fn what_cannot_be_read_stops_a_listener_that_wants_to_be_stopped(home: &dyn Home) {
        publish(home, first(&[(1, 13), (1, 5)])).await;
        let (heard, is_told) = (Heard::new(), Arc::new(AtomicBool::new(false)));
        let (to, telling) = (heard.clone(), is_told.clone());
        let stopping = listener::on::<Choosy>("evo.stopping")
            .durable()
            .start_at(StartAt::Beginning)
            .parking(Parking::new().followers(Followers::Stop))
            .call(move |event| to.note(event.told()));
        let bus = Bus::builder()
            .shared_store(home.open())
            .observer(move |notice: &Notice<'_>| {
                if matches!(notice, Notice::ListenerStopped { .. }) {
                    telling.store(true, Ordering::SeqCst);
                }
            })
            .listener(stopping)
            .start()
            .await
            .expect("the bus starts");
        within(bus.idle()).await;
        assert_eq!((heard.len(), parked(&bus).await, is_told.load(Ordering::SeqCst)), (0, Vec::new(), true));
        stop(bus).await;
    }
}

/// Its second version cannot be reached.
#[derive(Serialize, Deserialize)]
struct Broken;

impl Event for Broken {
    const STORED: Option<Stored<Self>> = Some(Stored::json("evo.broken").logged().version(3).upcasts(&[IN_CENTS]));
}

impl StoredEvent for Broken {}

#[tokio::test]
async fn a_chain_with_a_missing_link_is_refused_with_words() {
    let whole = Bus::builder().start().await.expect("the bus starts");
    let says =
        |reason: &str| reason.contains("no step leads from version 2 to 3: add `upcast(2 => ..)`, or say `oldest = 3`");
    let declare = || listener::on::<Broken>("evo.broken").call(|_| {});
    for refused in [Bus::builder().listener(declare()).start().await.map(drop), whole.register(declare()).await] {
        match refused {
            Err(StartError::Versions { event: "evo.broken", reason }) => assert!(says(&reason), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    match whole.stream_from::<Broken>(Position(1)).map(drop) {
        Err(StreamError::Versions { event: "evo.broken", reason }) => assert!(says(&reason), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_undecodable_event_is_no_cause_that_a_fallback_hears_of() {
    let home = crate::stores::Memory::new();
    publish(&home, first(&[(1, 13)])).await;
    let heard = Heard::new();
    let to = heard.clone();
    let listening = listener::on::<Choosy>("evo.fallback")
        .durable()
        .start_at(StartAt::Beginning)
        .fallback(move |_, _, _| to.note("fallback"))
        .call(|_| {});
    let bus = Bus::builder().shared_store(home.open()).listener(listening).start().await.expect("the bus starts");
    within(bus.idle()).await;
    let causes: Vec<ParkedCause> = bus.parked().await.expect("parked").into_iter().map(|one| one.cause).collect();
    assert!(matches!(&causes[..], [ParkedCause::Undecodable(_)]), "{causes:?}");
    assert_eq!(heard.len(), 0, "it takes the event, which nobody can give it");
}
