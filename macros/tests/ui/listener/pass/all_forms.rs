//! Every form of listener, in a crate with strict lints.
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]

use std::fmt;
use std::time::Duration;

use aftercommit::event::Metadata;
use aftercommit::listener::{Descriptor, Mode, State, StopSignal, WithoutTx, exponential, fixed};
use aftercommit::transaction::Tx;
use aftercommit::{Event, Phase, listed, listener};
use serde::{Deserialize, Serialize};

/// An order was placed.
#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "shop.order-placed")]
pub struct OrderPlaced {
    /// What it costs.
    pub total: u64,
}

/// Anything changed.
#[derive(Event)]
pub struct Changed<T>(pub T);

/// It did not work.
#[derive(Debug)]
pub struct Failed;
impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("it did not work")
    }
}
impl std::error::Error for Failed {}

/// A state.
pub struct Pages;

/// Listens to all defaults.
#[listener]
pub fn plain(event: &OrderPlaced) {
    let _ = event;
}

#[listener(phase = BeforeCommit, order = -3, condition = |event| event.total > 0)]
fn reserve(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Failed> {
    let _ = (event, tx);
    Ok(())
}

/// Patterns are parameters like others, and so is the place of the `tx`.
#[listener(phase = Phase::BeforeCommit, condition = |event, call| event.total > 0 && !call.metadata().id.is_nil(),)]
pub(crate) async fn patterns(
    &OrderPlaced { total }: &OrderPlaced,
    pages: State<Pages>,
    tx: &mut Tx,
    Metadata { id, .. }: Metadata,
    mut stop: StopSignal,
) -> Result<(), Failed> {
    let _ = (total, &pages as &Pages, tx, id);
    if stop.is_stopping() {
        stop.stopped().await;
    }
    Ok(())
}

#[listener(phase = Immediate, order = ORDER + 1)]
fn at_once(event: &Changed<String>, pages: State<Pages>) {
    let _ = (event, pages);
}
const ORDER: i32 = 4;

#[listener(phase = Immediate, spawn)]
async fn in_the_background(event: &OrderPlaced) -> Result<(), Failed> {
    let _ = event;
    Err(Failed)
}

#[listener(phase = AfterRollback, blocking, without_tx = run, slow_after = Duration::from_secs(1))]
fn on_the_pool<'a>(event: &'a OrderPlaced, pages: State<Pages>) {
    let _ = (event, pages);
}

#[listener(durable, id = "shop.units-sold", formerly = ["shop.sold", "shop.units"], concurrency = 8)]
fn count_units(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Failed> {
    let _ = (event, tx);
    Ok(())
}

#[listener(
    durable,
    id = "shop.book",
    redeliver(attempts = 5, backoff = exponential(Duration::from_millis(100))),
    time_limit = Duration::from_secs(5)
)]
async fn book(event: &OrderPlaced, tx: &mut Tx) {
    let _ = (event, tx);
}

#[cfg(any())]
#[listener]
fn left_out_before(event: &NoSuchType) {}

#[listener]
#[cfg(any())]
fn left_out_after(event: &NoSuchType) {}

/// A module of its own.
pub mod mail {
    use aftercommit::listener;

    /// Sends it.
    #[listener(phase = AfterCompletion, crate = ::aftercommit)]
    pub fn r#match(_: &super::OrderPlaced) {}

    #[listener(durable, id = "mail.fixed", redeliver(backoff = fixed(std::time::Duration::from_secs(1))))]
    pub(super) fn without_imports(_: &super::OrderPlaced) {}
}

macro_rules! listens_to {
    ($name:ident, $event:ty) => {
        #[listener(order = 5)]
        fn $name(event: &$event) {
            let _ = event;
        }
    };
}
listens_to!(by_macro, Changed<u8>);

fn one(registrations: Vec<aftercommit::listener::Registration>) -> Descriptor {
    let [one] = &registrations[..] else { panic!("{registrations:?}") };
    one.descriptor().clone()
}

fn main() {
    let plain = one(listed![plain]);
    assert_eq!(plain.id, concat!(module_path!(), "::plain"));
    assert_eq!((plain.phase, plain.order, plain.mode, plain.is_async), (Phase::AfterCommit, None, Mode::InPlace, false));
    assert_eq!(plain.event, "shop.order-placed");
    assert_eq!(plain.module, module_path!());
    assert!(plain.location.contains("all_forms.rs"), "{}", plain.location);

    let reserve = one(listed![reserve]);
    assert_eq!((reserve.phase, reserve.order, reserve.conditional, reserve.wants_tx), (Phase::BeforeCommit, Some(-3), true, true));

    let patterns = one(listed![patterns]);
    assert_eq!((patterns.is_async, patterns.wants_tx, patterns.needs.len()), (true, true, 1));

    let at_once = one(listed![at_once]);
    assert_eq!((at_once.phase, at_once.order), (Phase::Immediate, Some(5)));
    assert_eq!(one(listed![in_the_background]).mode, Mode::Spawned);
    let pool = one(listed![on_the_pool]);
    assert_eq!((pool.mode, pool.without_tx, pool.phase), (Mode::Blocking, WithoutTx::Run, Phase::AfterRollback));
    assert_eq!(pool.slow_after, Some(Duration::from_secs(1)));

    let units = one(listed![count_units]);
    assert_eq!((&*units.id, &units.formerly[..]), ("shop.units-sold", &["shop.sold".to_owned(), "shop.units".to_owned()][..]));
    assert_eq!(units.durable.expect("durable").concurrency, 8);
    let book = one(listed![book]).durable.expect("durable");
    assert_eq!((book.redeliver.attempts, book.time_limit), (5, Some(Duration::from_secs(5))));
    assert_eq!(book.redeliver.backoff, exponential(Duration::from_millis(100)));
    let without = one(listed![mail::without_imports]).durable.expect("durable");
    assert_eq!((without.redeliver.attempts, without.redeliver.backoff), (10, fixed(Duration::from_secs(1))));

    let r#match = one(listed![mail::r#match]);
    assert_eq!(r#match.id, concat!(module_path!(), "::mail::match"));
    assert_eq!(one(listed![by_macro]).order, Some(5));
    assert_eq!(listed![plain, reserve, mail::r#match,].len(), 3);

    // The functions are what they were.
    super_plain();
    let linked = aftercommit::__private::inventory::iter::<aftercommit::listener::Linked>.into_iter();
    assert_eq!(linked.map(|linked| (linked.registrations)().len()).sum::<usize>(), 11);
}

fn super_plain() {
    let _: fn(&OrderPlaced) = plain;
}
