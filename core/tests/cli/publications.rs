//! What is owed to whom, from outside: looking at it, calling again, discarding, pausing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::adapters::Kind;
use aftercommit::error::BoxError;
use aftercommit::event::Stored;
use aftercommit::listener::{self, Redeliver, fixed};
use aftercommit::prelude::*;
use aftercommit::store::{CommitRequest, CursorChange, Position, Settlement, Store, Suspect};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{json, path, refused, run, said, text};

const ENGINES: [Kind; 2] = [Kind::Sled, Kind::Redb];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ordered {
    customer: String,
    order: u32,
}

impl Event for Ordered {
    const STORED: Option<Stored<Self>> = Some(Stored::json("shop.ordered"));

    fn key(&self, out: &mut Vec<u8>) -> bool {
        self.customer.encode(out);
        true
    }
}

impl StoredEvent for Ordered {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Invoiced;

impl Event for Invoiced {
    const STORED: Option<Stored<Self>> = Some(Stored::json("shop.invoiced").logged());
}

impl StoredEvent for Invoiced {}

/// A shop whose mails come back while its carrier is down, and which asks again about payments.
#[derive(Clone, Default)]
struct Shop {
    heard: Arc<Mutex<Vec<String>>>,
    is_up: Arc<AtomicBool>,
}

impl Shop {
    async fn start(&self, store: Arc<dyn Store>) -> Bus {
        let (heard, is_up) = (self.heard.clone(), self.is_up.clone());
        let mails = listener::on::<Ordered>("shop.mails").durable().redeliver(Redeliver::new().attempts(1)).call(
            move |event| {
                heard.lock().push(format!("{} {}", event.customer, event.order));
                if is_up.load(Ordering::SeqCst) || event.customer == "cy" { Ok(()) } else { Err("the carrier is down") }
            },
        );
        let hour = fixed(Duration::from_secs(3_600));
        let asks = listener::on::<Ordered>("shop.asks")
            .durable()
            .redeliver(Redeliver::new().attempts(9).backoff(hour))
            .call(|event| if event.order == 1 && event.customer == "ada" { Err("not paid yet") } else { Ok(()) });
        let invoices = listener::on::<Ordered>("shop.invoices")
            .durable()
            .takes_tx()
            .call_with(|_: &Ordered, call| -> Result<(), BoxError> { Ok(call.tx()?.publish(Invoiced)?) });
        Bus::builder().shared_store(store).listeners([mails, asks, invoices]).start().await.expect("the bus starts")
    }

    /// Four orders: ada 1, ada 2, bob 1, cy 1.
    async fn trade(&self, engine: Kind, path: &Path) {
        let bus = self.start(open(engine, path)).await;
        for (customer, order) in [("ada", 1), ("ada", 2), ("bob", 1), ("cy", 1)] {
            let placed = bus.transaction(async |tx| tx.publish(Ordered { customer: customer.to_owned(), order }));
            placed.await.expect("committed");
            bus.quiet().await;
        }
        bus.shutdown(Duration::from_secs(30)).await.expect("everything ended");
        self.heard.lock().clear();
    }

    /// What mails were sent during another life.
    async fn mails(&self, path: &Path) -> Vec<String> {
        let bus = self.start(open(Kind::of(path).expect("a store"), path)).await;
        bus.quiet().await;
        bus.shutdown(Duration::from_secs(30)).await.expect("everything ended");
        std::mem::take(&mut *self.heard.lock())
    }
}

fn open(engine: Kind, path: &Path) -> Arc<dyn Store> {
    match engine {
        Kind::Redb => Arc::new(aftercommit::adapters::redb::RedbStore::open(path).expect("opens")),
        _ => Arc::new(SledStore::open(path).expect("opens")),
    }
}

async fn traded(engine: Kind) -> (tempfile::TempDir, PathBuf, Shop) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("shop");
    let shop = Shop::default();
    shop.trade(engine, &path).await;
    (root, path, shop)
}

/// Each listed publication as `customer listener state`.
fn listed(args: &[&str]) -> Vec<String> {
    let page = json(&[&["list"], args].concat());
    let line = |one: &Value| {
        let word = |value: &Value| value.as_str().expect("text").to_owned();
        format!("{} {} {}", word(&one["event"]["key"]).trim_matches('"'), word(&one["listener"]), word(&one["state"]))
    };
    page["publications"].as_array().expect("a list").iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn list_narrows_and_pages_and_tells_nothing_an_event_says() {
    for engine in ENGINES {
        let (_root, shop, _) = traded(engine).await;
        let shop = path(&shop);
        let open = [
            "ada shop.asks redelivering",
            "ada shop.mails dead",
            "ada shop.asks waiting",
            "ada shop.mails dead",
            "bob shop.mails dead",
        ];
        assert_eq!(listed(&[shop]), open);
        assert_eq!(listed(&[shop, "--listener", "shop.mails", "--key", "ada"]), ["ada shop.mails dead"; 2]);
        assert_eq!(listed(&[shop, "--state", "waiting", "--state", "redelivering"]), [open[0], open[2]]);
        assert_eq!(listed(&[shop, "--state", "done"]).len(), 4 + 1 + 2);
        assert_eq!(listed(&[shop, "--position", "1"]), [open[0], open[1]]);
        assert_eq!(listed(&[shop, "--name", "shop.other"]), [""; 0]);
        assert_eq!(listed(&[shop, "--older-than", "1d"]), [""; 0]);
        let first = json(&["list", shop, "--limit", "2"]);
        assert_eq!(first["publications"].as_array().map(Vec::len), Some(2));
        assert_eq!(listed(&[shop, "--after", first["next"].as_str().expect("more")]), open[2..]);
        let id = first["publications"][0]["event"]["id"].as_str().expect("an id");
        assert_eq!(listed(&[shop, "--event", id]), [open[0], open[1]]);
        let told = said(&["list", shop, "--limit", "2"]);
        assert!(told.contains("not paid yet") && told.contains("--after '1:shop.mails'"), "{told}");
        let (code, told) = refused(&["list", shop, "--state", "failed"]);
        assert!(code == 2 && told.contains("expected one of: waiting"), "{told}");
        assert_eq!(refused(&["list", shop, "--limit", "0"]).0, 2);
        assert_eq!(refused(&["list", shop, "--older-than", "soon"]).0, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn show_tells_one_events_story() {
    for engine in ENGINES {
        let (_root, shop, _) = traded(engine).await;
        let shop = path(&shop);
        let first = json(&["list", shop])["publications"][0]["event"]["id"].as_str().expect("an id").to_owned();
        let story = json(&["show", shop, &first]);
        assert_eq!(
            (&story["held"], &story["event"]["name"], &story["event"]["causation"]),
            (&"log".into(), &"shop.ordered".into(), &Value::Null)
        );
        let states: Vec<&str> =
            (0..3).map(|at| story["publications"][at]["state"].as_str().expect("a state")).collect();
        assert_eq!(states, ["redelivering", "done", "dead"]);
        assert_eq!(
            (&story["publications"][2]["attempts"], &story["publications"][0]["error"]),
            (&1.into(), &"not paid yet".into())
        );
        let caused = story["caused"][0]["event"]["id"].as_str().expect("it caused one");
        assert_eq!(json(&["show", shop, caused])["event"]["causation"], first.as_str());
        let told = said(&["show", shop, &first]);
        for line in
            ["shop.ordered, version 1", "in the log", "\"ada\"", "nobody's event", "the carrier is down", caused]
        {
            assert!(told.contains(line), "{line} in {told}");
        }
        said(&["erase", shop, &first]);
        assert_eq!(json(&["show", shop, &first])["held"], "erased");
        let (code, told) = refused(&["show", shop, "00000000-0000-0000-0000-000000000009"]);
        assert!(code == 5 && told.contains("pruned, or never stored"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_by_listener() {
    for engine in ENGINES {
        let (_root, shop, _) = traded(engine).await;
        let stats = json(&["stats", path(&shop)]);
        let of = |at: usize| (stats["listeners"][at]["listener"].clone(), stats["listeners"][at]["counts"].clone());
        let (asks, counts) = of(0);
        assert_eq!(
            (asks, &counts["waiting"], &counts["redelivering"], &counts["done"]),
            ("shop.asks".into(), &1.into(), &1.into(), &2.into())
        );
        let (mails, counts) = of(2);
        assert_eq!((mails, &counts["dead"], &counts["done"]), ("shop.mails".into(), &3.into(), &1.into()));
        assert_eq!((&stats["total"]["dead"], &stats["total"]["done"]), (&3.into(), &7.into()));
        let told = said(&["stats", path(&shop)]);
        assert!(told.contains("REDELIVERING") && told.contains("in all"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_is_carried_out_when_the_application_runs() {
    for engine in ENGINES {
        let (_root, folder, shop) = traded(engine).await;
        let store = path(&folder);
        let ids = json(&["list", store, "--state", "dead"]);
        let id = |at: usize| ids["publications"][at]["event"]["id"].as_str().expect("an id").to_owned();
        shop.is_up.store(true, Ordering::SeqCst);
        let told = said(&["replay", store, "--event", &id(1)]);
        assert!(
            told.starts_with("0 dead letters") && told.contains("1 stay as they are"),
            "the second of its key: {told}"
        );
        assert_eq!(shop.mails(&folder).await, [""; 0]);
        let told = said(&["replay", store, "--listener", "shop.mails", "--position", "1"]);
        assert!(
            told.contains("1 dead letters are called again once their application runs; nobody is called now"),
            "{told}"
        );
        assert!(said(&["list", store, "--state", "dead"]).contains("to be called again once its listener runs"));
        assert_eq!(shop.mails(&folder).await, ["ada 1"], "one dead letter");
        assert_eq!(json(&["replay", store, "--key", "ada"])["asked"], 1);
        assert_eq!(shop.mails(&folder).await, ["ada 2"], "a key");
        assert_eq!(json(&["replay", store, "--all"])["asked"], 1);
        assert_eq!(shop.mails(&folder).await, ["bob 1"], "all");
        let (code, told) = refused(&["replay", store, "--listener", "shop.mails"]);
        assert!(code == 5 && told.contains("no dead letter"), "{told}");
        assert_eq!(refused(&["replay", store]).0, 2, "nothing is said");
        assert_eq!(listed(&[store, "--listener", "shop.mails"]), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_again_is_dead_again_and_was_asked_for_once() {
    let (_root, folder, shop) = traded(Kind::Sled).await;
    assert_eq!(json(&["replay", path(&folder), "--listener", "shop.mails"])["asked"], 3);
    let mut mails = shop.mails(&folder).await;
    mails.sort();
    assert_eq!(mails, ["ada 1", "bob 1"], "the second of ada waits behind the first");
    assert_eq!(shop.mails(&folder).await.iter().filter(|line| *line != "ada 2").count(), 0);
    assert_eq!(listed(&[path(&folder), "--state", "dead"]).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn discard_is_at_once_and_leaves_a_note() {
    for engine in ENGINES {
        let (_root, shop, _) = traded(engine).await;
        let shop = path(&shop);
        assert_eq!(refused(&["discard", shop, "--all"]).0, 2, "without a reason");
        let told = json(&["discard", shop, "--key", "ada", "--reason", "a test order"]);
        assert_eq!((&told["discarded"], &told["takes_effect"]), (&2.into(), &"at once".into()));
        assert_eq!(listed(&[shop, "--state", "dead"]), ["bob shop.mails dead"]);
        let notes = json(&["list", shop, "--state", "given-up"]);
        let note = &notes["publications"][0];
        assert_eq!(
            (&note["how"], &note["reason"], &note["attempts"]),
            (&"discarded".into(), &"a test order".into(), &1.into())
        );
        assert_eq!(refused(&["discard", shop, "--key", "ada", "--reason", "again"]).0, 5);
        assert!(said(&["verify", shop]).contains("the store is whole"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_listener_is_not_called_until_it_is_resumed() {
    for engine in ENGINES {
        let (_root, folder, shop) = traded(engine).await;
        let store = path(&folder);
        shop.is_up.store(true, Ordering::SeqCst);
        said(&["replay", store, "--all"]);
        assert!(
            said(&["pause", store, "shop.mails", "--reason", "the carrier is down"]).contains("from the next start on")
        );
        assert!(
            said(&["pause", store, "shop.mails", "--reason", "still"])
                .contains("it was, because of: the carrier is down")
        );
        assert_eq!(shop.mails(&folder).await, [""; 0]);
        assert!(said(&["stats", store]).contains("paused: still"));
        assert!(said(&["resume", store, "shop.mails"]).contains("called again from the next start on"));
        assert!(said(&["resume", store, "shop.mails"]).contains("was not paused"));
        let mut mails = shop.mails(&folder).await;
        mails.sort();
        assert_eq!(mails, ["ada 1", "ada 2", "bob 1"]);
        for args in [vec!["pause", store, "shop.none", "--reason", "x"], vec!["resume", store, "shop.none"]] {
            let (code, told) = refused(&args);
            assert!(code == 5 && told.contains("no durable listener `shop.none`"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_a_store_after_a_crash_does_not_hide_it() {
    let (_root, folder, _) = traded(Kind::Sled).await;
    let crashed = open(Kind::Sled, &folder);
    assert!(crashed.claim(), "a bus had it");
    let change = CursorChange::Suspect { position: Position(2), count: 1 };
    let settlements = vec![Settlement { listener: "shop.asks".into(), change }];
    let unit = crashed.begin().await.expect("begins");
    unit.commit(CommitRequest { settlements, ..CommitRequest::default() }).await.expect("commits");
    drop(crashed);
    said(&["discard", path(&folder), "--key", "bob", "--reason", "a test"]);
    said(&["stats", path(&folder)]);
    let store = open(Kind::Sled, &folder);
    assert!(!store.was_clean());
    let suspect = Suspect { listener: "shop.asks".to_owned(), position: Position(2), count: 1 };
    assert_eq!(store.suspects().await.expect("reads"), [suspect]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_held_is_refused_by_each_of_them() {
    let (_root, folder, _) = traded(Kind::Sled).await;
    let store = path(&folder);
    let held = open(Kind::Sled, &folder);
    for args in [
        vec!["list", store],
        vec!["show", store, "00000000-0000-0000-0000-000000000001"],
        vec!["stats", store],
        vec!["replay", store, "--all"],
        vec!["discard", store, "--all", "--reason", "x"],
        vec!["pause", store, "shop.mails", "--reason", "x"],
        vec!["resume", store, "shop.mails"],
    ] {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_aftercommit")).args(&args).args(["--wait", "0"]).output();
        let output = output.expect("runs");
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(3) && told.contains("bus.publications()"), "{args:?}: {told}");
    }
    drop(held);
    assert!(run(&["stats", store]).status.success());
}
