//! The short ways of dispatch change nothing: an event with a slot is told like one without, and a run of awaited listeners
//! like one call after the other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aftercommit::error::{ListenerError, PublishError};
use aftercommit::listener::{self, Publish, Registration};
use aftercommit::prelude::*;
use aftercommit::testing::Recorder;
use aftercommit::transaction::CallFuture;
use tokio::task::yield_now;

use crate::scene::{Heard, No};

/// Found by its slot.
#[derive(Event, Clone, Debug, PartialEq)]
struct Slotted(u32);

/// Found by its type.
#[derive(Clone, Debug, PartialEq)]
struct Unslotted(u32);
impl Event for Unslotted {}

trait Numbered: Event + Clone + PartialEq + std::fmt::Debug + From<u32> {
    fn number(&self) -> u32;
}

macro_rules! numbered {
    ($($event:ident)*) => {$(
        impl From<u32> for $event {
            fn from(number: u32) -> Self {
                Self(number)
            }
        }
        impl Numbered for $event {
            fn number(&self) -> u32 {
                self.0
            }
        }
    )*};
}

numbered!(Slotted Unslotted);

/// Makes a test of the same name for each kind of event.
macro_rules! with_and_without_slot {
    ($($(#[$about:meta])* async fn $name:ident<$event:ident>() $body:block)*) => {$(
        $(#[$about])*
        mod $name {
            use super::*;

            async fn check<$event: Numbered>() $body

            #[tokio::test]
            async fn with_slot() {
                check::<Slotted>().await;
            }

            #[tokio::test]
            async fn without_slot() {
                check::<Unslotted>().await;
            }
        }
    )*};
}

fn noting<E: Numbered>(id: &str, heard: &Heard) -> Registration {
    let (name, note) = (id.to_owned(), heard.clone());
    listener::on::<E>(id).phase(Phase::Immediate).call(move |event| note.note(format!("{name} {}", event.number())))
}

/// Refuses odd numbers.
fn refusing<E: Numbered>(id: &str, heard: &Heard) -> Registration {
    let (name, note) = (id.to_owned(), heard.clone());
    listener::on::<E>(id).phase(Phase::Immediate).call(move |event| {
        note.note(format!("{name} {}", event.number()));
        if event.number() % 2 == 1 { Err(No) } else { Ok(()) }
    })
}

with_and_without_slot! {
    /// A publish that begins after a listener came or went sees it so, however often that happens.
    async fn listeners_come_and_go<E>() {
        let heard = Heard::default();
        let bus = Bus::builder().listener(noting::<E>("b", &heard)).start().await.expect("the bus starts");
        bus.publish(&E::from(0)).expect("published");
        for round in 1..5 {
            bus.register(noting::<E>("a", &heard)).await.expect("its id is free");
            bus.publish(&E::from(round)).expect("published");
            bus.publish_all(&[E::from(10 * round)]).expect("published");
            assert!(bus.unregister("a"));
            bus.publish(&E::from(100 * round)).expect("published");
            let round = [("a", round), ("b", round), ("a", 10 * round), ("b", 10 * round), ("b", 100 * round)];
            let lines: Vec<String> = round.map(|(id, number)| format!("{id} {number}")).into();
            assert_eq!(heard.all()[heard.all().len() - 5..], lines);
        }
    }

    /// Not even the last listener leaves quietly.
    async fn an_event_whose_last_listener_went_is_dead<E>() {
        let heard = Heard::default();
        let bus = Bus::builder().listener(noting::<E>("a", &heard)).start().await.expect("the bus starts");
        assert!(bus.unregister("a"));
        bus.publish(&E::from(1)).expect("nobody listens, which is no error");
        bus.publish_all(&[E::from(2), E::from(3)]).expect("nor of a slice");
        assert_eq!((heard.all().len(), bus.counts().dead_events), (0, 3));
        bus.register(noting::<E>("a", &heard)).await.expect("its id is free");
        bus.publish(&E::from(4)).expect("published");
        assert_eq!((heard.all(), bus.counts().dead_events), (vec!["a 4".to_owned()], 3));
    }

    /// The first that fails is named, and none is called after it.
    async fn an_immediate_listener_that_fails_is_named<E>() {
        let heard = Heard::default();
        let listeners = [noting::<E>("a", &heard), refusing::<E>("b", &heard), noting::<E>("c", &heard)];
        let bus = Bus::builder().listeners(listeners).start().await.expect("the bus starts");
        bus.publish(&E::from(2)).expect("nobody refuses");
        let refused = |error: &Error| matches!(error, Error::Listener(ListenerError { listener, .. }) if listener == "b");
        let error = bus.publish(&E::from(1)).expect_err("one refuses");
        assert!(refused(&error) && error.listener_cause::<No>().is_some(), "{error:?}");
        assert_eq!(heard.all(), ["a 2", "b 2", "c 2", "a 1", "b 1"]);
        let error = bus.publish_all(&[E::from(4), E::from(3), E::from(6)]).expect_err("one refuses");
        let Error::Publish(PublishError::AtIndex { index: 1, cause }) = &error else { panic!("{error:?}") };
        assert!(refused(cause), "{cause:?}");
        assert_eq!(heard.all()[5..], ["a 4", "a 3", "a 6", "b 4", "b 3"]);
    }

    /// A tap sees every event, also those of listeners that ask for nothing.
    async fn a_tap_sees_every_event<E>() {
        let (heard, recorder) = (Heard::default(), Recorder::new());
        let bus = Bus::builder()
            .tap(recorder.keeping::<E>())
            .listener(noting::<E>("a", &heard))
            .start()
            .await
            .expect("the bus starts");
        bus.publish(&E::from(1)).expect("published");
        bus.publish_all(&[E::from(2)]).expect("published");
        assert_eq!((recorder.events::<E>(), heard.all().len()), (vec![E::from(1), E::from(2)], 2));
    }

    /// A bus that stops takes in nothing more, whether it was told to or its last owner let it go.
    async fn a_bus_that_stops_refuses_what_is_published<E>() {
        for told in [true, false] {
            let heard = Heard::default();
            let kept: Arc<OnceLock<Bus>> = Arc::default();
            let keep = kept.clone();
            let keeping = listener::on::<Asked>("keeping").phase(Phase::Immediate).call_with(move |_, call| {
                keep.get_or_init(|| call.take().expect("a bus calls"));
            });
            let bus =
                Bus::builder().listeners([noting::<E>("a", &heard), keeping]).start().await.expect("the bus starts");
            bus.publish(&Asked).expect("published");
            let kept = kept.get().expect("kept");
            kept.publish(&E::from(1)).expect("published");
            if told {
                bus.shutdown(Duration::from_secs(60)).await.expect("in good order");
            } else {
                drop(bus);
            }
            let closed = |published: Result<(), Error>| {
                matches!(published, Err(Error::Publish(PublishError::ShuttingDown { .. })))
            };
            assert!(closed(kept.publish(&E::from(2))) && closed(kept.publish_all(&[E::from(3)])));
            assert_eq!(heard.all(), ["a 1"]);
        }
    }
}

struct Asked;
impl Event for Asked {}

/// Notes that a call's future was dropped.
struct Dropped(Heard, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note(format!("{} dropped", self.1));
    }
}

/// Listeners of one order that wait or do not, answer with events, fail and panic, before and after they waited:
/// each is called once the one before it is finished and dropped, and each failure is told beside its id.
#[tokio::test]
async fn awaited_listeners_run_one_after_the_other_whatever_becomes_of_each() {
    #[derive(Clone, Copy, PartialEq)]
    enum Ends {
        Well,
        Replying,
        Failing,
        Panicking,
    }
    let heard = Heard::default();
    let called = |id: &'static str, waits: usize, ends: Ends| {
        let heard = heard.clone();
        listener::on::<Slotted>(id).call_async(move |_, _| {
            let heard = heard.clone();
            CallFuture::from_or_box(async move {
                let _dropped = Dropped(heard.clone(), id);
                heard.note(format!("{id} called"));
                for _ in 0..waits {
                    yield_now().await;
                }
                match ends {
                    Ends::Well => Ok(None),
                    Ends::Replying => listener::IntoAnswer::into_answer(Publish(Asked)),
                    Ends::Failing => Err(No.into()),
                    Ends::Panicking => panic!("{id} gives up"),
                }
            })
        })
    };
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let ends = [Ends::Well, Ends::Well, Ends::Replying, Ends::Replying, Ends::Failing, Ends::Failing, Ends::Panicking];
    let listeners: Vec<Registration> = std::iter::zip(ids, ends.into_iter().chain([Ends::Panicking, Ends::Well]))
        .enumerate()
        .map(|(at, (id, ends))| called(id, 2 * (at % 2), ends))
        .collect();
    let note = heard.clone();
    let asked = listener::on::<Asked>("asked").phase(Phase::Immediate).call(move |_| note.note("asked"));
    let bus = Bus::builder().listeners(listeners).listener(asked).start().await.expect("the bus starts");
    let committed = bus.transaction(async |tx| tx.publish(Slotted(1))).await.expect("it commits");
    let one_by_one = ids.iter().flat_map(|id| [format!("{id} called"), format!("{id} dropped")]);
    let expected: Vec<String> = one_by_one.chain(["asked".to_owned(), "asked".to_owned()]).collect();
    assert_eq!(heard.all(), expected);
    let failed: Vec<&str> = committed.after_errors.iter().map(|error| error.who.as_str()).collect();
    assert_eq!(failed, ["e", "f", "g", "h"]);
}
