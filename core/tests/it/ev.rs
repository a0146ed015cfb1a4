//! Immediate listeners, matching, replies, the background.

use std::sync::Arc;

use aftercommit::error::{BoxError, ListenerError, StartError};
use aftercommit::event::Stored;
use aftercommit::listener::{self, Mode, StartAt};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::heard::{Heard, within};

#[derive(Clone, Debug, PartialEq)]
struct Placed(u32);
impl Event for Placed {}

struct Shipped(u32);
impl Event for Shipped {}

struct Wrapper<T>(T);
impl<T: Send + Sync + 'static> Event for Wrapper<T> {}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("out of stock")]
struct OutOfStock;

on_every_store! {
    async fn ev_01_a_listener_gets_every_event_of_its_type_in_order_and_nothing_else(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("ev-01").phase(Phase::Immediate).call(move |event| to.note(format!("{}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        bus.publish(&Placed(1)).expect("published");
        bus.publish(&Shipped(9)).expect("published");
        bus.publish(&Placed(2)).expect("published");
        assert_eq!(heard.all(), ["1", "2"]);
        let unit = bus.transaction(async |tx| {
            tx.publish(Placed(3))?;
            tx.publish(Shipped(9))?;
            assert_eq!(heard.len(), 3, "it runs before publish returns");
            tx.publish(Placed(4))
        });
        unit.await.expect("committed");
        assert_eq!(heard.all(), ["1", "2", "3", "4"]);
    }
}

/// The peer removes by a pattern over ids; here each listener is named by its whole id.
#[tokio::test]
async fn ev_02_an_unregistered_listener_is_not_called_any_more() {
    let heard = Heard::new();
    let (first, second) = (heard.clone(), heard.clone());
    let bus = Bus::builder()
        .listener(listener::on::<Placed>("ev-02.a").phase(Phase::Immediate).call(move |_| first.note("a")))
        .listener(listener::on::<Placed>("ev-02.b").phase(Phase::Immediate).call(move |_| second.note("b")))
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Placed(1)).expect("published");
    assert!(bus.unregister("ev-02.a"));
    bus.publish(&Placed(2)).expect("published");
    assert_eq!(heard.all(), ["a", "b", "b"]);
    let again = heard.clone();
    let registration = listener::on::<Placed>("ev-02.a").phase(Phase::Immediate).call(move |_| again.note("a again"));
    bus.register(registration).await.expect("its id is free");
    bus.publish(&Placed(3)).expect("published");
    assert_eq!(heard.all()[3..], ["a again", "b"]);
}

#[tokio::test]
async fn ev_03_an_event_without_listener_is_published_and_counted() {
    let heard = Heard::new();
    let to = heard.clone();
    let bus = Bus::builder()
        .listener(listener::on::<Placed>("ev-03").phase(Phase::Immediate).call(move |_| to.note("called")))
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Shipped(1)).expect("nobody listens, which is no error");
    bus.transaction(async |tx| tx.publish(Shipped(2))).await.expect("nor in a unit of work");
    assert_eq!((heard.len(), bus.counts().dead_events), (0, 2));
}

#[tokio::test]
async fn ev_04_a_listener_of_one_instance_of_a_generic_event_does_not_get_another() {
    let heard = Heard::new();
    let to = heard.clone();
    let bus = Bus::builder()
        .listener(
            listener::on::<Wrapper<String>>("ev-04")
                .phase(Phase::Immediate)
                .call(move |event| to.note(event.0.clone())),
        )
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Wrapper(7i64)).expect("published");
    assert_eq!(heard.len(), 0);
    bus.publish(&Wrapper(String::from("text"))).expect("published");
    assert_eq!(heard.all(), ["text"]);
}

/// The peer counts a method's parameters at set-up. A declaration here names one event type, and the macro refuses two or none at
/// compile time (`tests/ui/listener/fail/two_events.rs`, `no_event.rs`); what is left for the start is a parameter that nobody
/// gave, which is refused with the listener's id and the type.
#[tokio::test]
async fn ev_05_a_listener_whose_parameter_cannot_be_given_is_refused_at_start() {
    struct Prices;
    let declare = || {
        listener::on::<Placed>("shop.price")
            .needs::<State<Prices>>()
            .call_with(|_, call| -> Result<(), BoxError> { call.take::<State<Prices>>().map(drop) })
    };
    let refused = Bus::builder().listener(declare()).start().await.expect_err("nobody gave it prices");
    match &refused {
        StartError::MissingState { listener, state } => {
            assert_eq!(listener, "shop.price");
            assert!(state.ends_with("Prices"), "{state}");
        }
        other => panic!("{other}"),
    }
    assert!(refused.to_string().contains("add `.state(..)`"), "it says what to do: {refused}");
    Bus::builder().listener(declare()).state(Prices).start().await.expect("now it can work");
}

on_every_store! {
    /// The peer publishes whatever a method returns; here a reply is said: `Publish<E>`.
    async fn ev_06_a_reply_is_published_as_a_new_event(home: &dyn Home) {
        let heard = Heard::new();
        let (one, all) = (heard.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("ev-06.one").phase(Phase::Immediate).call(|event| Publish(Shipped(event.0))))
            .listener(listener::on::<Placed>("ev-06.after").call(|event| vec![Publish(Wrapper(event.0)), Publish(Wrapper(event.0 + 1))]))
            .listener(listener::on::<Shipped>("ev-06.shipped").phase(Phase::Immediate).call(move |event| one.note(format!("shipped {}", event.0))))
            .listener(listener::on::<Wrapper<u32>>("ev-06.wrapped").phase(Phase::Immediate).call(move |event| all.note(format!("wrapped {}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
        assert_eq!(heard.all(), ["shipped 1", "wrapped 1", "wrapped 2"]);
    }
}

#[tokio::test]
async fn ev_07_a_reply_of_nothing_publishes_nothing() {
    let heard = Heard::new();
    let to = heard.clone();
    let bus = Bus::builder()
        .listener(
            listener::on::<Placed>("ev-07")
                .phase(Phase::Immediate)
                .call(|event| (event.0 > 1).then_some(Publish(Shipped(event.0)))),
        )
        .listener(
            listener::on::<Placed>("ev-07.list").phase(Phase::Immediate).call(|_| Vec::<Publish<Wrapper<u8>>>::new()),
        )
        .listener(
            listener::on::<Shipped>("ev-07.shipped")
                .phase(Phase::Immediate)
                .call(move |event| to.note(format!("{}", event.0))),
        )
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Placed(1)).expect("published");
    assert_eq!((heard.len(), bus.counts().dead_events), (0, 0), "not even an event that nobody listens to");
    bus.publish(&Placed(2)).expect("published");
    assert_eq!(heard.all(), ["2"]);
}

on_every_store! {
    /// The peer publishes what a returned future resolves to; here an `async fn` answers with `Publish<E>`, awaited in its phase,
    /// or in the background if it says `spawn`.
    async fn ev_09_a_reply_that_takes_time_is_published_when_it_is_there(home: &dyn Home) {
        let heard = Heard::new();
        let gate = Arc::new(Semaphore::new(0));
        let (opened, to) = (gate.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("ev-09.awaited").call_async(|event, _| {
                CallFuture::from_or_box(async move {
                    tokio::task::yield_now().await;
                    listener::IntoAnswer::into_answer(Publish(Shipped(event.0)))
                })
            }))
            .listener(listener::on::<Placed>("ev-09.spawned").spawn().call_async(move |event, _| {
                let opened = opened.clone();
                CallFuture::from_or_box(async move {
                    opened.acquire().await?.forget();
                    listener::IntoAnswer::into_answer(vec![Publish(Shipped(event.0 + 1)), Publish(Shipped(event.0 + 2))])
                })
            }))
            .listener(listener::on::<Shipped>("ev-09.shipped").phase(Phase::Immediate).call(move |event| to.note(format!("{}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        let done = bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
        assert_eq!(heard.all(), ["1"], "what was awaited is published, what waits is not");
        gate.add_permits(1);
        assert!(within(done.settled()).await.is_empty());
        assert_eq!(heard.all(), ["1", "2", "3"]);
    }
}

on_every_store! {
    /// The peer sends every listener of an executor to the background; here only one that says `spawn` (or `blocking`).
    async fn ev_10_a_spawned_listener_runs_elsewhere_and_publish_does_not_wait(home: &dyn Home) {
        let heard = Heard::new();
        let gate = Arc::new(Semaphore::new(0));
        let (opened, spawned, blocking) = (gate.clone(), heard.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("ev-10.spawn").phase(Phase::Immediate).spawn().cloning().call_async(move |event, _| {
                let (opened, to) = (opened.clone(), spawned.clone());
                CallFuture::from_or_box(async move {
                    opened.acquire().await?.forget();
                    to.note(format!("{} in task {:?}", event.0, tokio::task::id()));
                    Ok(None)
                })
            }))
            .listener(listener::on::<Placed>("ev-10.blocking").phase(Phase::Immediate).blocking().cloning().call(move |_| {
                blocking.note(format!("{:?}", std::thread::current().id()));
            }))
            .start()
            .await
            .expect("the bus starts");
        let here = tokio::spawn({
            let bus = bus.clone();
            async move {
                bus.publish(&Placed(1)).expect("published");
                bus.transaction(async |tx| tx.publish(Placed(2))).await.expect("committed");
                tokio::task::id()
            }
        });
        let task = within(here).await.expect("publishing did not wait for the gate");
        heard.until(2).await;
        assert!(!heard.all().iter().any(|line| line.contains("in task")), "the gate is closed");
        gate.add_permits(2);
        within(bus.idle()).await;
        let spawned: Vec<String> = heard.all().into_iter().filter(|line| line.contains("in task")).collect();
        assert_eq!(spawned.len(), 2);
        assert!(spawned.iter().all(|line| !line.ends_with(&format!("in task {task:?}"))), "{spawned:?} and {task:?}");
    }
}

#[tokio::test]
async fn ev_11_the_error_of_an_immediate_listener_reaches_the_publisher_by_value() {
    let bus = Bus::builder()
        .listener(listener::on::<Placed>("ev-11").phase(Phase::Immediate).call(|_| Err::<(), _>(OutOfStock)))
        .start()
        .await
        .expect("the bus starts");
    let refused = bus.publish(&Placed(1)).expect_err("the listener said no");
    assert_eq!(refused.listener_cause::<OutOfStock>(), Some(&OutOfStock));
    assert!(matches!(&refused, Error::Listener(ListenerError { listener, .. }) if listener == "ev-11"));
    let in_unit =
        bus.transaction(async |tx| tx.publish(Placed(1))).await.expect_err("and so it does in a unit of work");
    assert_eq!(in_unit.listener_cause::<OutOfStock>(), Some(&OutOfStock));
}

on_every_store! {
    /// The peer's asynchronous errors go to a handler set on the executor; here to the observer, and to who waits for the spawned ones.
    async fn ev_12_the_error_of_a_spawned_listener_spares_the_publisher_and_is_told(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .observer(move |notice: &Notice<'_>| {
                if let Notice::AfterFailed { error, spawned } = notice {
                    to.note(format!("{} {} {spawned}", error.who, error.cause));
                }
            })
            .listener(listener::on::<Placed>("ev-12.fails").spawn().call_async(|_, _| CallFuture::from_or_box(async { Err(OutOfStock.into()) })))
            .listener(listener::on::<Placed>("ev-12.panics").spawn().call_async(|_, _| CallFuture::from_or_box(async { panic!("at once") })))
            .start()
            .await
            .expect("the bus starts");
        let done = bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("the publisher is unaffected");
        assert!(done.after_errors.is_empty(), "nobody waited for them");
        let mut told: Vec<String> = within(done.settled()).await.iter().map(|error| format!("{} {} true", error.who, error.cause)).collect();
        told.sort();
        assert_eq!(told, ["ev-12.fails out of stock true", "ev-12.panics panicked: at once true"]);
        let mut observed = heard.all();
        observed.sort();
        assert_eq!(observed, told);
        assert_eq!(bus.counts().after_errors, 2);
    }
}

#[tokio::test]
async fn ev_13_listeners_run_by_order_and_one_without_comes_last() {
    let heard = Heard::new();
    let declare = |id: &str, order: Option<i32>| {
        let (to, name) = (heard.clone(), id.to_owned());
        let declaration = listener::on::<Placed>(id).phase(Phase::Immediate);
        let declaration = match order {
            Some(order) => declaration.order(order),
            None => declaration,
        };
        declaration.call(move |_| to.note(name.clone()))
    };
    let bus = Bus::builder()
        .listener(declare("a-none", None))
        .listener(declare("third", Some(3)))
        .listener(declare("first", Some(-1)))
        .listener(declare("highest", Some(i32::MAX)))
        .listener(declare("second", Some(2)))
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Placed(1)).expect("published");
    assert_eq!(heard.all(), ["first", "second", "third", "highest", "a-none"]);
}

#[tokio::test]
async fn ev_14_conditions_look_at_the_event_and_at_states() {
    struct Threshold(u32);
    let heard = Heard::new();
    let (field, state) = (heard.clone(), heard.clone());
    let bus = Bus::builder()
        .state(Threshold(10))
        .listener(
            listener::on::<Placed>("ev-14.field")
                .phase(Phase::Immediate)
                .order(1)
                .when(|event| event.0 % 2 == 0)
                .call(move |event| field.note(format!("even {}", event.0))),
        )
        .listener(
            listener::on::<Placed>("ev-14.state")
                .phase(Phase::Immediate)
                .order(2)
                .needs::<State<Threshold>>()
                .when_with(|event, call| call.take::<State<Threshold>>().is_ok_and(|threshold| event.0 > threshold.0))
                .call(move |event| state.note(format!("large {}", event.0))),
        )
        .start()
        .await
        .expect("the bus starts");
    for number in [1, 2, 11, 12] {
        bus.publish(&Placed(number)).expect("published");
    }
    assert_eq!(heard.all(), ["even 2", "large 11", "even 12", "large 12"]);
}

/// The peer marks a listener as one that must not go to the executor; here a `fn` stays with its caller unless it says `blocking`.
#[tokio::test]
async fn ev_16_a_sync_listener_runs_on_the_caller_beside_spawned_ones() {
    let heard = Heard::new();
    let (here, background) = (heard.clone(), heard.clone());
    let declared = listener::on::<Placed>("ev-16.here")
        .phase(Phase::Immediate)
        .order(2)
        .call(move |_| here.note(format!("here {:?}", std::thread::current().id())));
    assert_eq!(declared.descriptor().mode, Mode::InPlace);
    let bus = Bus::builder()
        .listener(declared)
        .listener(listener::on::<Placed>("ev-16.away").phase(Phase::Immediate).order(1).spawn().cloning().call_async(
            move |_, _| {
                let to = background.clone();
                CallFuture::from_or_box(async move {
                    to.note("away");
                    Ok(None)
                })
            },
        ))
        .start()
        .await
        .expect("the bus starts");
    bus.publish(&Placed(1)).expect("published");
    let me = format!("here {:?}", std::thread::current().id());
    assert_eq!(heard.all(), [me], "on this thread, before publish returned; the other waits for a free thread");
    within(bus.idle()).await;
    assert_eq!(heard.len(), 2);
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opened(u32);
impl Event for Opened {
    const STORED: Option<Stored<Self>> = Some(Stored::json("ev.opened").logged());
}
impl StoredEvent for Opened {}

on_every_store! {
    /// The peer buffers what components publish while they are being wired. Here nobody can publish before the bus has started, as
    /// only `start` gives a `Bus`; a listener that needs what came before it listens durably to a logged event, and gets each once.
    async fn ev_18_events_from_before_a_listener_exists_reach_it_once(home: &dyn Home) {
        let before = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        for number in 1..=3 {
            before.transaction(async |tx| tx.publish(Opened(number))).await.expect("committed, and logged");
        }
        before.shutdown(std::time::Duration::from_secs(5)).await.expect("nothing runs");
        drop(before);
        for _ in 0..2 {
            let heard = Heard::new();
            let to = heard.clone();
            let bus = Bus::builder()
                .shared_store(home.open())
                .listener(listener::on::<Opened>("ev-18").durable().start_at(StartAt::Beginning).takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                    to.note(format!("{}", event.0));
                    Ok(SEEN.add(call.tx()?, &event.0, 1)?)
                }))
                .start()
                .await
                .expect("the bus starts");
            within(bus.idle()).await;
            let counted: Vec<(u32, i64)> =
                SEEN.iter(&mut bus.reader().expect("a reader")).collect::<Result<_, _>>().expect("rows");
            assert_eq!(counted, [(1, 1), (2, 1), (3, 1)], "once each, at the first start and at the second");
            bus.shutdown(std::time::Duration::from_secs(5)).await.expect("nothing runs");
        }
    }
}

const SEEN: Counters<u32> = Counters::new("ev-18.seen");
