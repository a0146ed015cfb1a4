//! Every shape of event, with what the derive says about it.
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]

use aftercommit::event::StoredEvent;
use aftercommit::{Event, Key};
use serde::{Deserialize, Serialize};

#[derive(Key, Debug, PartialEq)]
struct OrderId(u64);

#[derive(Event)]
struct Ping;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.order-placed", version = 4, oldest = 2, formerly = ["shop.order-made"], logged,
    upcast(3 => |old: serde_json::Value| old, 2 => from_v2))]
struct OrderPlaced {
    total: u64,
    #[event(key)]
    order: String,
    #[event(key)]
    line: u8,
}

#[derive(Deserialize)]
struct OrderPlacedV2 {
    total: u64,
    order: String,
}

fn from_v2(old: OrderPlacedV2) -> Result<OrderPlaced, std::num::TryFromIntError> {
    Ok(OrderPlaced { line: u8::try_from(old.total)?, total: old.total, order: old.order })
}

#[derive(Event)]
struct Moved(#[event(key)] u16, u64);

#[derive(Event, Serialize, Deserialize)]
#[event(name = "shop.paid")]
enum Paid {
    Cash,
    Card(u64),
}

/// Any instance of it is an event.
#[derive(Event)]
struct Changed<K, V: Clone = u8>
where
    V: PartialEq,
{
    #[event(key)]
    key: K,
    value: V,
}

/// Only these instances are events.
#[derive(Event, Serialize, Deserialize)]
#[event(instance(Wrapper<i64>, name = "shop.wrapper-i64", version = 2, upcast(1 => |old: i64| Wrapper { within: old })))]
#[event(instance(self::Wrapper<String>, name = "shop.wrapper-text", logged))]
struct Wrapper<T> {
    #[event(key)]
    within: T,
}

fn key<E: Event>(event: &E) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    event.key(&mut out).then_some(out)
}

fn slot<E: Event>() -> usize {
    E::slot().expect("not generic").index()
}

fn stored<E: StoredEvent>() -> (&'static str, u32, bool) {
    let stored = E::STORED.expect("named");
    (stored.name, stored.version, stored.logged)
}

fn main() {
    assert_eq!(key(&Ping), None);
    let order = OrderPlaced { total: 7, order: "a".to_owned(), line: 3 };
    assert_eq!(key(&order).expect("keyed"), b"a\0\0\x03", "in the order of declaration");
    assert_eq!(order.total, 7);
    assert_eq!(stored::<OrderPlaced>(), ("shop.order-placed", 4, true));
    assert_eq!(OrderPlaced::STORED.expect("named").formerly, ["shop.order-made"]);
    let steps = OrderPlaced::STORED.expect("named").upcasts;
    let step = |from| steps.iter().find(|step| step.from == from).expect("a step").step;
    let third = step(2)(br#"{"total":7,"order":"a"}"#).expect("of version 2");
    assert_eq!(step(3)(&third).expect("of version 3"), br#"{"line":7,"order":"a","total":7}"#);
    assert!(step(2)(br#"{"total":777,"order":"a"}"#).is_err(), "it said no");
    assert_eq!(OrderPlaced::name(), "shop.order-placed");
    assert_eq!(key(&Moved(1, 2)).expect("keyed"), [0, 1]);
    assert_eq!(Moved(1, 2).1, 2);
    assert_eq!(stored::<Paid>(), ("shop.paid", 1, false));
    assert_eq!(key(&Paid::Card(1)).or(key(&Paid::Cash)), None);

    assert!(Changed::<OrderId>::slot().is_none());
    assert!(Changed::<OrderId>::STORED.is_none());
    let changed = Changed { key: OrderId(1), value: 2_u8 };
    assert_eq!((key(&changed).expect("keyed").len(), changed.value), (8, 2));

    assert_eq!(stored::<Wrapper<i64>>(), ("shop.wrapper-i64", 2, false));
    assert_eq!(stored::<Wrapper<String>>(), ("shop.wrapper-text", 1, true));
    assert_eq!(key(&Wrapper { within: String::new() }).expect("keyed"), [0, 0]);

    let slots = [slot::<Ping>(), slot::<OrderPlaced>(), slot::<Moved>(), slot::<Wrapper<i64>>(), slot::<Wrapper<String>>()];
    assert!((1..slots.len()).all(|at| !slots[..at].contains(&slots[at])), "each has its own: {slots:?}");
}
