//! The derive and attribute macros of `aftercommit`, which re-exports them.
//!
//! They write glue and nothing else: whatever a macro writes can be written by hand with the public types of `aftercommit`.
//! A mistake is a compile error at the token that is wrong, in words that show the legal form; all mistakes are reported at
//! once, and the user's item stays in place.

mod around;
mod event;
mod key;
mod listener;
mod ranked;
mod resilient;
mod sim;
mod support;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct or an enum an event.
///
/// ```
/// use aftercommit::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "shop.order-placed", version = 1)]
/// struct OrderPlaced {
///     #[event(key)]
///     order: u64,
///     total: u64,
/// }
///
/// assert_eq!(OrderPlaced::name(), "shop.order-placed");
/// ```
///
/// # On the type
/// - `name = ".."`: the name it is stored under, which outlives the name of the type. Asks for serde's traits.
/// - `version = 3`: the version of its stored form; 1 by default.
/// - `upcast(1 => from_v1, 2 => from_v2)`: the functions that bring an older body to the next version. Each takes what the old one is
///   read as, an old struct or a `serde_json::Value`, and answers the new one or a `Result` of it.
/// - `oldest = 2`: the oldest version that is still read; 1 by default. Each one from there on needs its function.
/// - `formerly = [".."]`: names it was stored under before.
/// - `logged`: stored even while nobody listens durably, so that a later listener can start from the beginning.
/// - `instance(Wrapper<i64>, name = "..", ..)`: of a generic event, one that is named; only such instances are then events.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
///
/// # On a field
/// `key`: events of one key reach a durable listener in commit order. Several key fields are a tuple, in the order of declaration.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Says for which item an event counts in rankings, and how much: the trait `Ranked`.
///
/// ```
/// use aftercommit::clock::Timestamp;
/// use aftercommit::prelude::*;
/// use aftercommit::ranking::{Ranked, Ranking, ln_1p};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Ranked, Serialize, Deserialize)]
/// #[event(name = "shop.sold")]
/// #[ranked(source = "sale", points = |event| ln_1p(event.price * event.units))]
/// struct Sold {
///     #[ranked(item)]
///     product: u64,
///     price: f64,
///     units: f64,
///     #[ranked(at)]
///     at: Timestamp,
/// }
///
/// let ranking = Ranking::declare("shop.sales").counts::<Sold>("0.7").build();
/// assert!(ranking.is_ok());
/// ```
///
/// # On the type
/// - `source = ".."`: what its measures are called in rankings; stored with them.
/// - `points = |event| ..`: how much it counts, an `f64`; one unless said.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
///
/// # On a field
/// - `item`: what it counts for; one field.
/// - `at`: when it happened, a `Timestamp`; when it was published unless said.
#[proc_macro_derive(Ranked, attributes(ranked))]
pub fn derive_ranked(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    ranked::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct of keys a key: its bytes are those of its fields, in the order of declaration.
///
/// A struct of one field has the bytes and the shape of that field, one of several those of a tuple.
/// `#[key(crate = ::path)]` says where `aftercommit` is, if it is not called so.
///
/// ```
/// use aftercommit::Key;
///
/// #[derive(Key)]
/// struct OrderId(u64);
///
/// assert_eq!(aftercommit::key::encode_key(&OrderId(7)), 7_u64.to_be_bytes());
/// ```
#[proc_macro_derive(Key, attributes(key))]
pub fn derive_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    key::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Declares a free function as a listener.
///
/// ```
/// use aftercommit::prelude::*;
///
/// #[derive(Event)]
/// struct OrderPlaced { total: u64 }
///
/// const SALES: Counters<u8> = Counters::new("shop.sales");
///
/// #[listener(phase = BeforeCommit, condition = |event| event.total > 0)]
/// fn count_sale(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
///     SALES.add(tx, &0, 1)
/// }
///
/// #[listener(order = 10)]
/// async fn send_receipt(event: &OrderPlaced, mail: State<String>) {
///     println!("to {}: {}", *mail, event.total);
/// }
///
/// assert_eq!(listed![count_sale, send_receipt].len(), 2);
/// ```
///
/// The function stays what it is. Its first parameter is the event, by reference; after it come, in any order,
/// `tx: &mut Tx`, `Delivery` and `Ack` (known by their names), and whatever else implements `FromCall`, such as `State<T>`.
/// Beside it stands a hidden type of the same name, through which `listed![..]` finds it.
///
/// # Arguments
/// - `phase = AfterCommit`: when it runs; `Immediate`, `BeforeCommit`, `AfterCommit` (the default), `AfterRollback`, `AfterCompletion`.
/// - `order = 10`: its place in the phase, ascending; those without one come last.
/// - `condition = |event| ..` or `|event, call| ..`: called only for events that meet it.
/// - `id = ".."`: unique on its bus; the path of the function by default. A durable listener must have one.
/// - `without_tx = run`: run at once if published without a unit of work, instead of refusing.
/// - `spawn`: send an `async fn` to the background. `blocking`: run a `fn` on the blocking pool.
/// - `lock = |event| ..`: holds the lock of this key around each call, until the outcome is durable if it takes a `tx`.
/// - `slow_after = Duration::from_secs(1)`: tell the observer of a call that takes longer, while it still runs.
/// - `resilient = GATEWAY`: call it through these policies (feature `resilience`).
/// - `durable`: owed until done, across restarts. With it:
///   - `formerly = [".."]`: former ids.
///   - `sequence = Total` or `Unordered`: which events come one after another; `PerKey` by default. `concurrency = 8`: how many
///     sequences at once. `look_ahead = 4096`: how many events it looks at ahead.
///   - `redeliver(attempts = 5, backoff = exponential(..), within = .., on = [..], when = |error| .., never_on = [..],
///     stop_on = [..], fallback = ..)`: what a failure comes to; the backoff is `exponential`, `linear` or `fixed`.
///   - `park(followers = Pass, sequences = 100, length = 1000, full = Discard)`: what becomes of what is given up.
///   - `ack = Count(100)`: when it is settled; `Record` (the default), `Batch`, `Count`, `Time`, `CountOrTime`, and `Manual` or
///     `ManualImmediate` for a listener that takes an `Ack`.
///   - `batch(max = 100, linger = ..)`: several events at once, taken as `&[Delivered<E>]`.
///   - `start = Beginning`: where it begins if the store does not know it yet; `Now` by default.
///   - `time_limit = Duration::from_secs(5)`: how long one call of an `async fn` may take.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
#[proc_macro_attribute]
pub fn listener(args: TokenStream, item: TokenStream) -> TokenStream {
    listener::attribute(args.into(), item.into()).into()
}

/// Declares the methods of a component that are marked `#[listener(..)]` as its listeners.
///
/// ```
/// use aftercommit::prelude::*;
/// # #[derive(Event)]
/// # struct OrderPlaced { total: u64 }
///
/// struct Mailer { sender: String }
///
/// #[listeners]
/// impl Mailer {
///     #[listener(spawn)]
///     async fn send_receipt(&self, event: &OrderPlaced) {
///         println!("from {}: {}", self.sender, event.total);
///     }
/// }
///
/// assert_eq!(listed![Mailer].len(), 1);
/// ```
///
/// They take `&self` and then what a [`macro@listener`] takes; the component is given to the bus with `.state(mailer)`.
/// Their ids are `module::Type::method` unless said otherwise. A type has one such block, and no generic parameters.
/// `#[listeners(crate = ::path)]` says where `aftercommit` is, if it is not called so.
#[proc_macro_attribute]
pub fn listeners(args: TokenStream, item: TokenStream) -> TokenStream {
    listener::component::attribute(args.into(), item.into()).into()
}

/// Runs a function while it holds the lock of a key.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::lock::KeyedLock;
/// use aftercommit::prelude::*;
///
/// const STOCK: Counters<u32> = Counters::new("shop.stock");
///
/// /// With a `tx` the lock is the unit of work's: held until its outcome is durable.
/// #[locked(key = product, wait = Duration::from_secs(5))]
/// async fn take(tx: &mut Tx, product: u32, units: i64) -> Result<bool, Error> {
///     let there = STOCK.get(tx, &product)? >= units;
///     if there {
///         STOCK.add(tx, &product, -units)?;
///     }
///     Ok(there)
/// }
///
/// struct Accounts { locks: KeyedLock<u64> }
///
/// impl Accounts {
///     /// Without one, of a `KeyedLock`: held until the function answers.
///     #[locked(keys = [from, to], on = self.locks)]
///     fn transfer(&self, from: u64, to: u64) {}
/// }
/// # let accounts = Accounts { locks: KeyedLock::new() };
/// # accounts.transfer(1, 2);
/// ```
///
/// # Arguments
/// - `key = order`: the key, an expression of the parameters; or `keys = [from, to]`, taken in one order for everybody.
/// - `on = self.accounts`: the `KeyedLock`; left out where the function takes `tx: &mut Tx`.
/// - `wait = Duration::from_secs(5)`: how long it is waited for; the function then answers a `Result<_, E>` with
///   `E: From<aftercommit::Error>`. As long as it takes unless this is said, with a `tx` as long as the bus's `lock_wait`.
/// - `shared`: together with others who share the key.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
///
/// An `async fn` waits, a `fn` blocks its thread.
#[proc_macro_attribute]
pub fn locked(args: TokenStream, item: TokenStream) -> TokenStream {
    around::locked(args.into(), item.into()).into()
}

/// Runs a function once for each request; who comes again gets the first answer.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::prelude::*;
///
/// struct Payments { bus: Bus }
///
/// impl Payments {
///     /// Outside the store: done, then its answer is stored.
///     #[idempotent(key = request, body = cents, name = "bank.pay", retention = Duration::from_secs(86_400), bus = self.bus)]
///     async fn pay(&self, request: String, cents: u64) -> Result<String, Error> {
///         Ok(format!("paid {cents}"))
///     }
/// }
///
/// /// In a unit of work: its answer is stored with the commit.
/// #[idempotent(key = request, body = (), name = "shop.place-order", retention = Duration::from_secs(86_400))]
/// async fn place(tx: &mut Tx, request: String) -> Result<u64, Error> {
///     Ok(7)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let payments = Payments { bus: Bus::builder().start().await? };
/// # assert_eq!(payments.pay("a".to_owned(), 5).await?, "paid 5");
/// # assert!(payments.pay("a".to_owned(), 6).await.is_err());
/// # Ok(())
/// # }
/// ```
///
/// An `async fn` that answers a `Result<T, E>`, with `T` of serde's traits and `E: From<aftercommit::Error>`.
///
/// # Arguments
/// - `key = request`: what a request is known by, a `Key`.
/// - `body = order`: what must be the same when it comes again, of serde's `Serialize`; `body = ()` for nothing.
/// - `name = ".."`, `retention = ..`: under which name answers are stored, and for how long; or `guard = PLACE_ORDER`, an
///   `Idempotency` that says both.
/// - `bus = self.bus`: where answers are stored; left out where the function takes a `Bus`, or `tx: &mut Tx`.
/// - `keep_errors = |error| error.is_final()`: which errors are stored and given again like answers; none unless this is said.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    around::idempotent(args.into(), item.into()).into()
}

/// Measures the calls of a function: how many, how long, how many at once, and what kinds of failures.
///
/// ```
/// use aftercommit::prelude::*;
///
/// #[metered(name = "carrier.book", kind = |error: &std::io::Error| error.kind().to_string())]
/// async fn book(slip: u32) -> Result<u32, std::io::Error> {
///     Ok(slip)
/// }
/// ```
///
/// Measures go to the observers that ask for them, as those of listeners do, which are measured without this.
///
/// # Arguments
/// - `name = ".."`: what they are called.
/// - `kind = |error| ..`: the kind of an error, of which there must be few; that of an `aftercommit::Error`, else `error`.
/// - `meter = self.meter`: whose observers are told, from `bus.meter()`; those of every bus of the process unless this is said.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
#[proc_macro_attribute]
pub fn metered(args: TokenStream, item: TokenStream) -> TokenStream {
    around::metered(args.into(), item.into()).into()
}

/// Makes a function a test that simulates an application under many seeds; needs the feature `testing`.
///
/// ```
/// use aftercommit::prelude::*;
/// use aftercommit::sim_test;
/// use aftercommit::testing::sim::{Life, Sim};
///
/// /// Lives after lives, with what the test keeps outside of them.
/// #[sim_test(seeds = 500)]
/// fn every_order_is_booked_once(sim: &mut Sim) {
///     let bus = sim.lives(async |life| { /* start a bus on `life.bus()`, work, answer */ });
/// }
///
/// /// One life after the other until one ends.
/// #[sim_test]
/// async fn every_order_is_counted(life: Life) { /* start a bus on `life.bus()`, work, check */ }
/// ```
///
/// The same by hand is a `#[test]` that calls `aftercommit::testing::sim::check(name, seeds, |sim| ..)`.
///
/// # Arguments
/// - `seeds = 500`: it runs with the seeds from 0 on; with 100 by default. `AFTERCOMMIT_SEEDS` says how many instead, and
///   `AFTERCOMMIT_SEED` runs one alone.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
#[proc_macro_attribute]
pub fn sim_test(args: TokenStream, item: TokenStream) -> TokenStream {
    sim::attribute(args.into(), item.into()).into()
}

/// Calls a function through a pipeline of policies; needs the feature `resilience`.
///
/// ```
/// use std::sync::LazyLock;
/// use std::time::Duration;
///
/// use aftercommit::error::PolicyError;
/// use aftercommit::resilience::{BreakerSettings, Pipeline, RetrySettings};
/// use aftercommit::resilient;
///
/// static GATEWAY: LazyLock<Pipeline> = LazyLock::new(|| {
///     Pipeline::named("gateway")
///         .retry(RetrySettings::new().attempts(3))
///         .circuit_breaker(BreakerSettings::new())
///         .time_limiter(Duration::from_secs(2))
///         .build()
///         .expect("legal")
/// });
///
/// #[derive(Debug, thiserror::Error)]
/// enum PriceError {
///     #[error("unknown product")]
///     Unknown,
///     #[error(transparent)]
///     Policy(#[from] PolicyError),
/// }
///
/// #[resilient(with = GATEWAY, fallback(PriceError::Policy(_) => last_price))]
/// async fn price(product: u32, currency: &str) -> Result<u64, PriceError> {
///     Ok(100)
/// }
///
/// async fn last_price(product: u32, currency: &str, error: PriceError) -> Result<u64, PriceError> {
///     Ok(90)
/// }
/// ```
///
/// The function keeps its name and its signature; its body becomes one call through the pipeline, made again where a retry says so.
/// So what it takes by value is cloned for each attempt, and `&mut` is refused. It answers with a `Result` whose error can hold a
/// `PolicyError`. In an impl block it takes `&self`; an `async fn` waits on the runtime, a `fn` on its thread.
///
/// # Arguments
/// - `with = GATEWAY`: the pipeline; anything that dereferences to one, also `self.gateway`.
/// - `limit = PER_USER, key = user`: a permit of this key of a `KeyedRateLimiter` first, once for the call however many attempts it
///   takes; what it refuses goes to the fallback, not to the pipeline.
/// - `fallback = last_price`: a function that answers in the place of every error. It takes what the function takes, `self` included,
///   and then the error; or the error alone. That of an `async fn` is an `async fn`. The compiler's message about one of another
///   signature shows that which it must have; about a name that is not there it says no more than that, as it looks for names
///   before it knows of types.
/// - `fallback(PriceError::Policy(_) => last_price, PriceError::Unknown if .. => nothing)`: for the first pattern that the error
///   meets; an error that meets none stays.
/// - `crate = ::path`: where `aftercommit` is, if it is not called so.
#[proc_macro_attribute]
pub fn resilient(args: TokenStream, item: TokenStream) -> TokenStream {
    resilient::attribute(args.into(), item.into()).into()
}
