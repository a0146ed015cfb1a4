//! What the macros write does what the same declaration by hand does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::listener::{self, Descriptor, Redeliver, Registration, exponential};
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    #[event(key)]
    order: u64,
    total: u64,
}

#[derive(Event, Clone)]
struct ReceiptSent(u64);

/// Who was called, with what.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, who: &str, what: u64) {
        self.0.lock().expect("no test panics while it notes").push(format!("{who} {what}"));
    }

    fn sorted(&self) -> Vec<String> {
        let mut seen = self.0.lock().expect("no test panics while it notes").clone();
        seen.sort();
        seen
    }
}

const SALES: Counters<u64> = Counters::new("shop.sales");

#[listener(phase = Immediate, order = 2)]
fn at_once(event: &OrderPlaced, seen: State<Seen>) {
    seen.note("at once", event.order);
}

#[listener(phase = BeforeCommit, condition = |event| event.total > 0)]
fn reserve(event: &OrderPlaced, tx: &mut Tx, seen: State<Seen>) -> Result<(), Error> {
    seen.note("reserve", event.order);
    SALES.add(tx, &event.order, 1)
}

#[listener]
async fn send_receipt(OrderPlaced { order, .. }: &OrderPlaced) -> Publish<ReceiptSent> {
    Publish(ReceiptSent(*order))
}

#[listener(phase = Immediate)]
fn receipt_sent(ReceiptSent(order): &ReceiptSent, seen: State<Seen>) {
    seen.note("receipt", *order);
}

#[listener(durable, id = "shop.count-units")]
async fn count_units(event: &OrderPlaced, seen: State<Seen>, tx: &mut Tx) -> Result<(), Error> {
    SALES.add(tx, &event.order, 10)?;
    seen.note("units", event.order);
    Ok(())
}

#[listener(
    durable,
    id = "shop.book",
    formerly = ["shop.ship"],
    redeliver(attempts = 5, backoff = exponential(Duration::from_millis(1))),
    concurrency = 8,
    time_limit = Duration::from_secs(5)
)]
async fn book(event: &OrderPlaced, delivery: Delivery) -> Result<Settled, Error> {
    delivery.settle(async |tx| SALES.add(tx, &event.order, 100)).await
}

struct Mailer {
    sender: &'static str,
    seen: Seen,
}

#[listeners]
impl Mailer {
    #[listener(phase = AfterCommit, order = 3)]
    fn count(&self, event: &OrderPlaced) {
        self.seen.note(self.sender, event.order);
    }

    #[listener(phase = AfterCompletion, spawn)]
    async fn log(&self, event: &OrderPlaced, bus: Bus) -> Result<(), BoxError> {
        bus.publish(&ReceiptSent(event.total))?;
        Ok(())
    }
}

#[tokio::test]
async fn linked_listeners_are_called_in_their_phases() -> Result<(), BoxError> {
    let seen = Seen::default();
    let bus = Bus::builder()
        .state(seen.clone())
        .state(Mailer { sender: "mailer", seen: seen.clone() })
        .linked()
        .require_module(module_path!())
        .start()
        .await?;
    let done = bus
        .transaction(async |tx| {
            tx.publish(OrderPlaced { order: 1, total: 7 })?;
            tx.publish(OrderPlaced { order: 2, total: 0 })?;
            Ok::<_, Error>(())
        })
        .await?;
    assert!(done.after_errors.is_empty(), "{:?}", done.after_errors);
    bus.idle().await;
    let expected = [
        "at once 1",
        "at once 2",
        "mailer 1",
        "mailer 2",
        "receipt 0",
        "receipt 1",
        "receipt 2",
        "receipt 7",
        "reserve 1",
        "units 1",
        "units 2",
    ];
    assert_eq!(seen.sorted(), expected);
    let mut reader = bus.reader()?;
    assert_eq!((SALES.get(&mut reader, &1)?, SALES.get(&mut reader, &2)?), (111, 110));
    drop(reader);
    bus.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// All that a listener asks for, but where it stands.
fn asked(registration: &Registration) -> Descriptor {
    let mut descriptor = registration.descriptor().clone();
    descriptor.location.clear();
    descriptor
}

#[test]
fn a_declared_listener_asks_for_what_the_one_by_hand_asks_for() {
    let by_macro = listed![at_once, reserve, book, Mailer];
    let at = |name: &str| format!("{}::{name}", module_path!());
    let by_hand = [
        listener::on::<OrderPlaced>(at("at_once"))
            .module(module_path!())
            .phase(Phase::Immediate)
            .order(2)
            .needs::<State<Seen>>()
            .call_with(|event, call| -> Result<(), BoxError> {
                at_once(event, call.take()?);
                Ok(())
            }),
        listener::on::<OrderPlaced>(at("reserve"))
            .module(module_path!())
            .phase(Phase::BeforeCommit)
            .when(|event| event.total > 0)
            .takes_tx()
            .needs::<State<Seen>>()
            .call_with(|event, call| -> Result<(), BoxError> {
                let seen = call.take()?;
                Ok(reserve(event, call.tx()?, seen)?)
            }),
        listener::on::<OrderPlaced>("shop.book")
            .durable()
            .formerly("shop.ship")
            .redeliver(Redeliver::new().attempts(5).backoff(exponential(Duration::from_millis(1))))
            .concurrency(8)
            .time_limit(Duration::from_secs(5))
            .module(module_path!())
            .takes_delivery()
            .call_async(|event, mut call| {
                CallFuture::from_or_box(async move {
                    let Settled { .. } = book(event, call.take()?).await?;
                    Ok(None)
                })
            }),
        listener::on::<OrderPlaced>(at("Mailer::count"))
            .module(module_path!())
            .order(3)
            .needs::<State<Mailer>>()
            .call_with(|event, call| -> Result<(), BoxError> {
                call.take::<State<Mailer>>()?.count(event);
                Ok(())
            }),
        listener::on::<OrderPlaced>(at("Mailer::log"))
            .spawn()
            .module(module_path!())
            .phase(Phase::AfterCompletion)
            .needs::<State<Mailer>>()
            .needs::<Bus>()
            .call_async(|_, _| CallFuture::from_or_box(async { Ok(None) })),
    ];
    for (by_macro, by_hand) in by_macro.iter().zip(&by_hand) {
        assert_eq!(format!("{:#?}", asked(by_macro)), format!("{:#?}", asked(by_hand)));
    }
    assert_eq!(by_macro.len(), by_hand.len());
}
