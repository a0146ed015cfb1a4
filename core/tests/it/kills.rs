//! A process that is killed, some hundred times on each store: at random moments, and at every named step between publish and settle.
//!
//! The child is this test binary run again; it publishes, says what was acknowledged, and ends itself where it was told to, or is
//! killed by its parent after so many acknowledgements. After each life the parent opens the store and audits: nothing acknowledged
//! is lost, nothing is half done, and each order is counted once by each durable listener.
//!
//! `AFTERCOMMIT_KILLS` says how many lives end on each store (200 on sled, 110 on redb); how each ends is drawn from a fixed seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::{BoxError, StoreError};
use aftercommit::event::Stored;
use aftercommit::listener::{self, IntoAnswer, Redeliver, Registration, fixed};
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{ParkedCause, Store};
use aftercommit::transaction::CallFuture;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// Where a life ends, between publish and settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The closure has published; nothing is handed over.
    Published,
    /// The before-commit listener runs.
    BeforeCommit,
    /// The first listener after the commit runs: the commit stands, the caller does not know it.
    AfterCommit,
    /// The commit stands and the caller knows it.
    Acknowledged,
    /// The listener with a unit of work is called.
    TxCalled,
    /// It has written, and its unit is not committed.
    TxWrote,
    /// Its commit, with the settlement in it, stands; its worker does not know it.
    TxSettled,
    /// The listener with a delivery is called.
    DeliveryCalled,
    /// It has worked outside the store.
    WorkedOutside,
    /// It settles: it has written in the unit of work that settles.
    BeforeSettle,
    /// The settlement stands; the listener has not answered.
    Settled,
    /// The plain listener has worked, and nothing says so yet.
    PlainWorked,
    /// The answer of the plain listener is published in the unit of work that settles it.
    PlainReplied,
}

const STEPS: [Step; 13] = [
    Step::Published,
    Step::BeforeCommit,
    Step::AfterCommit,
    Step::Acknowledged,
    Step::TxCalled,
    Step::TxWrote,
    Step::TxSettled,
    Step::DeliveryCalled,
    Step::WorkedOutside,
    Step::BeforeSettle,
    Step::Settled,
    Step::PlainWorked,
    Step::PlainReplied,
];

/// What the data is stored with.
#[derive(Clone, Copy, Debug)]
enum On {
    Sled,
    Redb,
}

impl On {
    fn open(self, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            On::Sled => Arc::new(SledStore::open(folder)?),
            On::Redb => Arc::new(RedbStore::open(folder)?),
        })
    }
}

/// The signals of `kill -9` and of `abort`.
const KILLED: i32 = 9;
const ABORTED: i32 = 6;

/// Fails what would wait for ever. Many lives may share a machine, and a slow disk, with much else.
async fn within<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), waiting).await.expect("it came to nothing within ten minutes")
}

/// What tells the child that it is one: the store, the folder, the step or `parent`, how often it is passed first, the first order, the durability.
const ROLE: &str = "AFTERCOMMIT_KILLS_CHILD";

/// After so many lives another shop is opened, so that an audit takes as long at the end as at the beginning.
const LIVES_OF_A_SHOP: usize = 200;
/// Of many shops so many are lived in at once: a life waits more than it works.
const SHOPS_AT_ONCE: usize = 4;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Placed {
    shop: u32,
    order: u32,
}

impl Event for Placed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("kills.placed"));

    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend(self.shop.to_be_bytes());
        true
    }
}

impl StoredEvent for Placed {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Billed {
    order: u32,
}

impl Event for Billed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("kills.billed"));
}

impl StoredEvent for Billed {}

/// Written by the publisher, in the unit of work that publishes.
const ORDERS: Table<u32, u32> = Table::new("kills.orders");
/// Written by the before-commit listener.
const RESERVED: Counters<u32> = Counters::new("kills.reserved");
/// Written by the listener with a unit of work; by the one with a delivery; and by the one of the replies.
const COUNTED: Counters<u32> = Counters::new("kills.counted");
const BOOKED: Counters<u32> = Counters::new("kills.booked");
const BILLED: Counters<u32> = Counters::new("kills.billed");
/// The orders of each shop in the order in which they were counted.
const SEQUENCE: Table<u32, Vec<u32>> = Table::new("kills.sequence");

/// Ends the process when its step has been reached often enough.
#[derive(Clone)]
struct End {
    at: Option<Step>,
    left: Arc<AtomicI64>,
}

impl End {
    fn reach(&self, step: Step) {
        if self.at == Some(step) && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::process::abort();
        }
    }
}

/// The outside world: a file to which each call adds a line with its delivery id.
#[derive(Clone)]
struct Outside(Arc<std::path::PathBuf>);

impl Outside {
    fn call(&self, id: &str) -> Result<(), BoxError> {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&**self.0)?;
        Ok(file.write_all(format!("{id}\n").as_bytes())?)
    }
}

fn listeners(end: &End, outside: &Outside) -> Vec<Registration> {
    let again = Redeliver::new().attempts(1_000).backoff(fixed(Duration::from_millis(1)));
    let [before, after, unit, settle, plain] = [(); 5].map(|()| end.clone());
    let (booking, mailing) = (outside.clone(), outside.clone());
    vec![
        listener::on::<Placed>("kills.reserve").phase(Phase::BeforeCommit).takes_tx().call_with(
            move |event, call| -> Result<(), BoxError> {
                RESERVED.add(call.tx()?, &event.order, 1)?;
                before.reach(Step::BeforeCommit);
                Ok(())
            },
        ),
        listener::on::<Placed>("kills.after").call(move |_| after.reach(Step::AfterCommit)),
        listener::on::<Placed>("kills.count").durable().concurrency(3).redeliver(again).takes_tx().call_with(
            move |event, call| -> Result<(), BoxError> {
                unit.reach(Step::TxCalled);
                let tx = call.tx()?;
                COUNTED.add(tx, &event.order, 1)?;
                let mut sequence = SEQUENCE.get(tx, &event.shop)?.unwrap_or_default();
                sequence.push(event.order);
                SEQUENCE.put(tx, &event.shop, &sequence)?;
                unit.reach(Step::TxWrote);
                let settled = unit.clone();
                tx.after_commit(1, move || {
                    settled.reach(Step::TxSettled);
                    Ok(())
                });
                Ok(())
            },
        ),
        listener::on::<Placed>("kills.book").durable().concurrency(3).redeliver(again).takes_delivery().call_async(
            move |event, mut call| {
                let (end, outside) = (settle.clone(), booking.clone());
                CallFuture::from_or_box(async move {
                    end.reach(Step::DeliveryCalled);
                    let delivery: Delivery = call.take()?;
                    outside.call(&delivery.id().to_string())?;
                    end.reach(Step::WorkedOutside);
                    let settled = delivery.settle(async |tx| {
                        BOOKED.add(tx, &event.order, 1)?;
                        end.reach(Step::BeforeSettle);
                        Ok::<_, Error>(())
                    });
                    let settled = settled.await?;
                    end.reach(Step::Settled);
                    settled.into_answer()
                })
            },
        ),
        listener::on::<Placed>("kills.mail").durable().redeliver(again).call_with(
            move |event, call| -> Result<Publish<Billed>, BoxError> {
                mailing.call(&format!("{}/kills.mail", call.metadata().id))?;
                plain.reach(Step::PlainWorked);
                Ok(Publish(Billed { order: event.order }))
            },
        ),
        {
            let replied = end.clone();
            listener::on::<Billed>("kills.replied").phase(Phase::BeforeCommit).call(move |_| {
                replied.reach(Step::PlainReplied);
            })
        },
        listener::on::<Billed>("kills.bill")
            .durable()
            .redeliver(again)
            .takes_tx()
            .call_with(|event, call| -> Result<(), BoxError> { Ok(BILLED.add(call.tx()?, &event.order, 1)?) }),
    ]
}

fn bus_over(on: On, folder: &Path, end: &End) -> Result<BusBuilder, BoxError> {
    let outside = Outside(Arc::new(folder.with_extension("outside")));
    Ok(Bus::builder().shared_store(on.open(folder)?).crash_limit(0).listeners(listeners(end, &outside)))
}

/// A life of the process that is killed; does nothing unless the parent says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [on, folder, step, passes, first, durability] = role.split('|').collect::<Vec<_>>()[..] else {
        panic!("not a role: {role}")
    };
    let on = if on == "Redb" { On::Redb } else { On::Sled };
    if step == "crash" {
        return crash_in_a_listener(on, Path::new(folder), first == "0").await;
    }
    let at = STEPS.into_iter().find(|one| format!("{one:?}") == step);
    let end = End { at, left: Arc::new(AtomicI64::new(passes.parse().expect("a number"))) };
    let first: u32 = first.parse().expect("a number");
    let durability = if durability == "Sync" { Durability::Sync } else { Durability::Flush };
    let bus = bus_over(on, Path::new(folder), &end).expect("the store opens").durability(durability).start().await;
    let bus = bus.expect("the bus starts");
    // Ends by being killed: if its step does not come, the parent closes the pipe.
    for order in first..first + 10_000 {
        let done = bus
            .transaction(async |tx| {
                ORDERS.put(tx, &order, &(order % 4))?;
                tx.publish(Placed { shop: order % 4, order })?;
                end.reach(Step::Published);
                Ok::<_, Error>(())
            })
            .await;
        done.expect("committed");
        end.reach(Step::Acknowledged);
        // The harness' own capture is off: this is the process' standard output.
        println!("\nacknowledged {order}");
    }
}

/// One life of a child, which ends itself, or is killed after so many acknowledgements; answers the orders it acknowledged.
fn live(
    on: On,
    folder: &Path,
    step: &str,
    passes: usize,
    first: u32,
    durability: &str,
    kill_after: Option<usize>,
) -> Vec<u32> {
    let role = format!("{on:?}|{}|{step}|{passes}|{first}|{durability}", folder.display());
    follow("kills::child", (ROLE, &role), step, kill_after)
}

/// Runs a test of this binary as a process of its own, which ends itself, or is killed after so many acknowledgements; answers the orders
/// it acknowledged.
pub(crate) fn follow(child: &str, (name, role): (&str, &str), step: &str, kill_after: Option<usize>) -> Vec<u32> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(name, role)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut acknowledged = Vec::new();
    for line in lines.map_while(Result::ok) {
        if let Some(order) = line.strip_prefix("acknowledged ") {
            acknowledged.push(order.parse().expect("a number"));
            if Some(acknowledged.len()) == kill_after {
                child.kill().expect("it can be killed");
            }
        }
    }
    let ended = child.wait().expect("it ends");
    let expected = if kill_after.is_some() { KILLED } else { ABORTED };
    assert_eq!(ended.signal(), Some(expected), "a child of {step} ends by a signal, and not in good order: {ended}");
    acknowledged
}

/// Opens what a life left, lets everything owed be delivered, and compares.
async fn audit(on: On, folder: &Path, acknowledged: &BTreeSet<u32>, what: &str) {
    let nowhere = End { at: None, left: Arc::default() };
    let bus = bus_over(on, folder, &nowhere).expect("the store opens").start().await.expect("the bus starts");
    within(bus.idle()).await;
    let mut reader = bus.reader().expect("a reader");
    let orders: BTreeMap<u32, u32> = ORDERS.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    let lost: Vec<&u32> = acknowledged.iter().filter(|order| !orders.contains_key(order)).collect();
    assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}");
    let once: BTreeMap<u32, i64> = orders.keys().map(|order| (*order, 1)).collect();
    for (name, table) in [("reserved", RESERVED), ("counted", COUNTED), ("booked", BOOKED), ("billed", BILLED)] {
        let counted: BTreeMap<u32, i64> = table.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
        assert_eq!(counted, once, "{what}: {name}");
    }
    let mut by_shop: HashMap<u32, Vec<u32>> = HashMap::new();
    for (order, shop) in &orders {
        by_shop.entry(*shop).or_default().push(*order);
    }
    let sequences: HashMap<u32, Vec<u32>> = SEQUENCE.iter(&mut reader).collect::<Result<_, _>>().expect("rows");
    assert_eq!(sequences, by_shop, "{what}: each key in the order it was published");
    let outside = std::fs::read_to_string(folder.with_extension("outside")).unwrap_or_default();
    for listener in ["kills.book", "kills.mail"] {
        let ids: BTreeSet<&str> = outside.lines().filter(|line| line.ends_with(listener)).collect();
        assert_eq!(ids.len(), orders.len(), "{what}: outside, {listener} is idempotent by its delivery id");
    }
    assert!(bus.parked().await.expect("the parked ones").is_empty(), "{what}: nothing is given up");
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

/// So many lives end, or as many as the environment says: seven of ten at a named step, each step in turn, the others at a
/// random moment. Each run of lives has a shop of its own.
async fn killed_anywhere(on: On, lives: usize) {
    let told = std::env::var("AFTERCOMMIT_KILLS").ok();
    let lives = told.map_or(lives, |count| count.parse().expect("a number"));
    let per_step = lives * 7 / 10 / STEPS.len();
    let mut random = fastrand::Rng::with_seed(7);
    let mut ends: Vec<Option<Step>> = STEPS.iter().flat_map(|step| vec![Some(*step); per_step]).collect();
    ends.resize(lives, None);
    random.shuffle(&mut ends);
    let shops = ends.chunks(LIVES_OF_A_SHOP).enumerate();
    let shops = shops.map(|(shop, ends)| lives_of_a_shop(on, shop, ends, fastrand::Rng::with_seed(random.u64(..))));
    let mut lived = futures::stream::iter(shops.collect::<Vec<_>>()).buffer_unordered(SHOPS_AT_ONCE);
    let (mut hit, mut acknowledged) = (BTreeMap::<String, usize>::new(), 0);
    while let Some((ended, answered)) = lived.next().await {
        ended.into_iter().for_each(|step| *hit.entry(step).or_default() += 1);
        acknowledged += answered;
        println!("{} lives, {acknowledged} orders acknowledged", hit.values().sum::<usize>());
    }
    println!("ended at {hit:?}");
    assert!(hit.len() == STEPS.len() + 1 && hit.values().all(|count| *count >= 5), "{hit:?}");
}

/// Ends the lives of one shop, and audits it; answers where they ended, and how many orders were acknowledged.
async fn lives_of_a_shop(
    on: On,
    shop: usize,
    ends: &[Option<Step>],
    mut random: fastrand::Rng,
) -> (Vec<String>, usize) {
    let (mut ended, home) = (Vec::new(), tempfile::tempdir().expect("a folder"));
    let folder = home.path().join("shop");
    let mut acknowledged = BTreeSet::new();
    let mut first = 0;
    for (number, end) in ends.iter().enumerate() {
        let durability = if number % 4 == 0 { "Sync" } else { "Flush" };
        let (step, kill_after) = match end {
            Some(step) => (format!("{step:?}"), None),
            None => ("parent".to_owned(), Some(random.usize(1..12))),
        };
        let passes = random.usize(0..6);
        let answered = {
            let (folder, step) = (folder.clone(), step.clone());
            let living =
                tokio::task::spawn_blocking(move || live(on, &folder, &step, passes, first, durability, kill_after));
            within(living).await.expect("the child was followed")
        };
        ended.push(step.clone());
        acknowledged.extend(answered);
        // Numbers of a life are its own: what was not acknowledged may or may not be there.
        first += 10_000;
        // Several lives are audited together now and then, so that a crash also meets what a crash left.
        if random.u8(0..4) == 0 {
            audit(on, &folder, &acknowledged, &format!("shop {shop}, life {number}, {step}")).await;
        }
    }
    audit(on, &folder, &acknowledged, &format!("shop {shop}, in the end")).await;
    (ended, acknowledged.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_on_sled_nothing_acknowledged_is_lost_and_nothing_is_half_done() {
    killed_anywhere(On::Sled, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_on_redb_nothing_acknowledged_is_lost_and_nothing_is_half_done() {
    killed_anywhere(On::Redb, 110).await;
}

/// A life in which one order takes the process with it, each time it is delivered.
async fn crash_in_a_listener(on: On, folder: &Path, publishes: bool) {
    let bus = Bus::builder()
        .shared_store(on.open(folder).expect("the store opens"))
        .crash_limit(2)
        .listener(listener::on::<Placed>("kills.crash").durable().takes_tx().call_with(
            |event, call| -> Result<(), BoxError> {
                if event.order == 1 {
                    std::process::abort();
                }
                Ok(COUNTED.add(call.tx()?, &event.order, 1)?)
            },
        ))
        .start()
        .await
        .expect("the bus starts");
    if publishes {
        let placed = bus.transaction(async |tx| {
            tx.publish(Placed { shop: 1, order: 1 })?;
            tx.publish(Placed { shop: 1, order: 2 })?;
            tx.publish(Placed { shop: 2, order: 3 })
        });
        placed.await.expect("committed");
    }
    within(bus.idle()).await;
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_ends_the_process_parks_and_the_others_go_on() {
    for on in [On::Sled, On::Redb] {
        parks_what_ends_the_process(on).await;
    }
}

async fn parks_what_ends_the_process(on: On) {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("shop");
    // Once unmarked, then marked as often as the limit says.
    for first in 0..3 {
        let folder = folder.clone();
        let living = tokio::task::spawn_blocking(move || live(on, &folder, "crash", 0, first, "Flush", None));
        within(living).await.expect("the child was followed");
    }
    let bus = Bus::builder()
        .shared_store(on.open(&folder).expect("the store opens"))
        .crash_limit(2)
        .listener(
            listener::on::<Placed>("kills.crash")
                .durable()
                .takes_tx()
                .call_with(|event, call| -> Result<(), BoxError> { Ok(COUNTED.add(call.tx()?, &event.order, 1)?) }),
        )
        .start()
        .await
        .expect("the bus starts");
    within(bus.idle()).await;
    let parked = bus.parked().await.expect("the parked ones");
    let behind = ParkedCause::Behind(parked[0].position);
    let causes: Vec<&ParkedCause> = parked.iter().map(|one| &one.cause).collect();
    assert_eq!(causes, [&ParkedCause::Crashed(2), &behind]);
    let mut reader = bus.reader().expect("a reader");
    assert_eq!(COUNTED.get(&mut reader, &3).expect("a row"), 1, "another key went on");
    assert!(bus.resubmit("kills.crash", parked[0].position).await.expect("readable"));
    within(bus.idle()).await;
    for order in 1..=3 {
        assert_eq!(COUNTED.get(&mut reader, &order).expect("a row"), 1, "mended, each once");
    }
}
