//! The operator's program, run as an operator runs it.

mod publications;

use std::io::Write;
mod archive;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use aftercommit::adapters::Kind;
use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::clock::Timestamp;
use aftercommit::error::StoreError;
use aftercommit::event::{Envelope, EventHeader, Metadata};
use aftercommit::store::embedded::{Batch, Embedded, EmbeddedStore};
use aftercommit::store::{
    CommitRequest, CursorChange, Durability, Parked, ParkedCause, Position, Settlement, Store, TableSpec,
};
use serde_json::Value;
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(30);
const ROWS: TableSpec = TableSpec { name: "shop.orders", shape: || "rows(bytes -> bytes)".to_owned(), formerly: &[] };

fn event(id: u128, body: &str) -> Envelope {
    let metadata = Metadata::new(Uuid::from_u128(id), Timestamp(1), None);
    let mut header = EventHeader::new(metadata, "shop.order-placed", 1);
    header.logged = true;
    Envelope { header, body: body.into() }
}

/// Three orders and a large one, four events, a listener that has settled the first and parked the second.
async fn fill(store: &EmbeddedStore) {
    let mut unit = store.begin().await.expect("begins");
    let rows = unit.rows().expect("rows");
    for key in 1..=3u8 {
        rows.put(&ROWS, vec![key], b"an order".to_vec()).expect("puts");
    }
    rows.put(&ROWS, vec![4], vec![7; 100_000]).expect("puts");
    let events = (1..=4).map(|id| event(id, "ada@example.org")).collect();
    let change = |change| Settlement { listener: "shop.mails".into(), change };
    let parked = Parked {
        listener: "shop.mails".to_owned(),
        position: Position(2),
        attempts: 3,
        cause: ParkedCause::Failed("no such mailbox".to_owned()),
        parked_at: Timestamp(1),
        asked: None,
        envelope: event(2, "ada@example.org"),
    };
    let request = CommitRequest { durability: Durability::Sync, events, settlements: Vec::new() };
    unit.commit(request).await.expect("commits");
    let settlements = vec![
        change(CursorChange::Start { from: Position(1), unasked_below: Position(0) }),
        change(CursorChange::Done { position: Position(1), covers: 1..2 }),
        change(CursorChange::Park { parked, covers: 2..3 }),
    ];
    let unit = store.begin().await.expect("begins");
    unit.commit(CommitRequest { settlements, ..CommitRequest::default() }).await.expect("commits");
}

/// A folder with a filled and closed store on sled in it.
async fn shop() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("shop");
    let store = SledStore::open(&path).expect("opens");
    fill(store.embedded()).await;
    store.close().await.expect("closes");
    (root, path)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aftercommit"));
    command.args(args).args(["--wait", "30"]);
    command
}

fn run(args: &[&str]) -> Output {
    command(args).stdin(Stdio::null()).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What it says when all goes well.
fn said(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&said(&[args, &["--format", "json"]].concat())).expect("json")
}

/// How it ended, and what it complained of.
fn refused(args: &[&str]) -> (i32, String) {
    let output = run(args);
    (output.status.code().expect("a code"), text(&output.stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What `show` says of the contents.
fn contents(store: &Path) -> Value {
    json(&["show", path(store)])["contents"].clone()
}

#[tokio::test]
async fn show_lists_tables_the_log_and_listeners() {
    let (_root, shop) = shop().await;
    let told = said(&["show", path(&shop)]);
    for line in ["a store on sled", "shop.orders", "shop.mails", "LISTENER"] {
        assert!(told.contains(line), "{told}");
    }
    let contents = contents(&shop);
    assert_eq!((&contents["tables"][0]["name"], &contents["tables"][0]["rows"]), (&"shop.orders".into(), &4.into()));
    assert_eq!((&contents["log"]["events"], &contents["log"]["next"]), (&4.into(), &5.into()));
    let listener = &contents["listeners"][0];
    assert_eq!((&listener["low"], &listener["behind"], &listener["parked"]), (&3.into(), &2.into(), &1.into()));
}

#[tokio::test]
async fn parked_lists_ids_and_causes_and_nothing_an_event_says() {
    let (_root, shop) = shop().await;
    let told = said(&["parked", path(&shop)]);
    assert!(told.contains(&Uuid::from_u128(2).to_string()) && told.contains("no such mailbox"), "{told}");
    assert!(!told.contains("ada@example.org"));
    assert_eq!(json(&["parked", path(&shop)])["parked"][0]["position"], 2);
    let none = json(&["parked", path(&shop), "--listener", "another"]);
    assert_eq!(none["parked"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_backup_is_restored_on_either_engine() {
    let (root, shop) = shop().await;
    let backup = root.path().join("backup");
    assert!(said(&["backup", path(&shop), path(&backup)]).contains("backed up"));
    let whole = contents(&shop);
    assert_eq!(contents(&backup)["tables"], whole["tables"]);
    for engine in ["sled", "redb"] {
        let restored = root.path().join(engine);
        let told = json(&["restore", path(&backup), path(&restored), "--store", engine]);
        assert_eq!(told["report"]["findings"].as_array().map(Vec::len), Some(0));
        let found = json(&["show", path(&restored)]);
        assert_eq!(found["engine"], engine);
        for part in ["tables", "log", "listeners", "large_values"] {
            assert_eq!(found["contents"][part], whole[part], "{part}");
        }
    }
    let store = RedbStore::open(root.path().join("redb")).expect("opens");
    assert!(store.was_clean());
}

#[tokio::test]
async fn a_copy_never_goes_over_a_store_or_another_folder() {
    let (root, shop) = shop().await;
    let backup = root.path().join("backup");
    said(&["backup", path(&shop), path(&backup)]);
    let before = contents(&backup);
    let (code, told) = refused(&["backup", path(&shop), path(&backup)]);
    assert!(code == 1 && told.contains("holds a store already"), "{told}");
    assert_eq!(contents(&backup), before);
    let photos = root.path().join("photos");
    std::fs::create_dir(&photos).expect("makes");
    std::fs::write(photos.join("beach.jpg"), "sand").expect("writes");
    let (code, told) = refused(&["backup", path(&shop), path(&photos)]);
    assert!(code == 1 && told.contains("no aftercommit store"), "{told}");
    assert_eq!(std::fs::read_dir(&photos).expect("reads").count(), 1);
}

#[tokio::test]
async fn a_store_that_is_held_is_refused_with_words_and_a_code_of_its_own() {
    let (root, shop) = shop().await;
    let store = SledStore::open(&shop).expect("opens");
    let into = root.path().join("backup");
    for args in [
        vec!["show", path(&shop)],
        vec!["verify", path(&shop), "--repair"],
        vec!["backup", path(&shop), path(&into)],
        vec!["erase", path(&shop), "00000000-0000-0000-0000-000000000001"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_aftercommit")).args(&args).args(["--wait", "0"]).output();
        let output = output.expect("runs");
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let told = text(&output.stderr);
        assert!(told.contains("held open") && told.contains("its application runs"), "{told}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_aftercommit"))
        .args(["show", path(&shop), "--wait", "0", "--format", "json"])
        .output()
        .expect("runs");
    let told: Value = serde_json::from_slice(&output.stderr).expect("json");
    assert_eq!(told["exit"], 3);
    assert!(!into.exists() || matches!(Kind::of(&into), Err(StoreError::NotAStore { .. })));
    assert!(store.embedded().verify().expect("reads").is_whole());
}

#[tokio::test]
async fn verify_names_what_is_wrong_and_repair_mends_what_loses_nothing() {
    let (_root, shop) = shop().await;
    assert!(said(&["verify", path(&shop)]).contains("the store is whole"));
    let orphan = [&b"k"[..], &77u64.to_be_bytes(), &0u32.to_be_bytes()].concat();
    let sum = crc32fast::hash(&[&orphan[..], &[0], b"orphan"].concat());
    let piece = [&[0], &sum.to_be_bytes()[..], b"orphan"].concat();
    let plant = |key: &[u8], value: Vec<u8>| {
        let engine = Kind::Sled.engine(&shop, WAIT).expect("opens");
        engine.apply(Batch::from([(key.to_vec(), Some(value))])).expect("applies");
        engine.sync(Durability::Sync).expect("syncs");
    };
    plant(&orphan, piece);
    let output = run(&["verify", path(&shop)]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stdout).contains("a repair mends it"));
    assert!(said(&["verify", path(&shop), "--repair"]).contains("mended"));
    assert!(said(&["verify", path(&shop)]).contains("the store is whole"));
    plant(b"cshop.mails", vec![1, 2, 3]);
    let output = run(&["verify", path(&shop), "--repair", "--format", "json"]);
    assert_eq!(output.status.code(), Some(4));
    let told: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(told["whole"], false);
    let findings = told["report"]["findings"].as_array().expect("findings");
    let damaged = findings.iter().find(|one| one["problem"] == "damaged").expect("the cursor");
    assert_eq!(damaged["remedy"], "restore");
}

#[tokio::test]
async fn what_is_exported_is_imported_on_another_engine() {
    let (root, shop) = shop().await;
    let (file, copy, back) = (root.path().join("shop.export"), root.path().join("copy"), root.path().join("back"));
    assert!(said(&["export", path(&shop), path(&file)]).contains("4 rows, 4 events"));
    said(&["import", path(&file), path(&copy), "--store", "redb"]);
    let (whole, found) = (contents(&shop), json(&["show", path(&copy)]));
    assert_eq!(found["engine"], "redb");
    for part in ["tables", "listeners", "large_values"] {
        assert_eq!(found["contents"][part], whole[part], "{part}");
    }
    // Through pipes, and to the same bytes.
    let out = run(&["export", path(&copy), "-"]);
    assert_eq!(out.stdout, std::fs::read(&file).expect("reads"));
    let mut import = command(&["import", "-", path(&back)]);
    import.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut import = import.spawn().expect("runs");
    import.stdin.take().expect("piped").write_all(&out.stdout).expect("writes");
    assert!(import.wait().expect("ends").success());
    assert_eq!(contents(&back)["tables"], whole["tables"]);
    let (code, told) = refused(&["export", path(&shop), path(&file)]);
    assert!(code == 1 && told.contains("make the export's file"), "{told}");
}

#[tokio::test]
async fn an_export_that_is_cut_off_makes_no_store() {
    let (root, shop) = shop().await;
    let (file, copy) = (root.path().join("shop.export"), root.path().join("copy"));
    said(&["export", path(&shop), path(&file)]);
    let whole = std::fs::read(&file).expect("reads");
    std::fs::write(&file, &whole[..whole.len() - 1]).expect("writes");
    let (code, told) = refused(&["import", path(&file), path(&copy)]);
    assert!(code == 1 && told.contains("at byte"), "{told}");
    let (code, told) = refused(&["show", path(&copy)]);
    assert!(code == 1 && told.contains("a copy that was not finished"), "{told}");
    assert!(SledStore::open(&copy).is_err());
    std::fs::write(&file, &whole).expect("writes");
    said(&["import", path(&file), path(&copy)]);
    assert_eq!(contents(&copy)["tables"], contents(&shop)["tables"]);
}

#[tokio::test]
async fn a_store_that_moved_says_where_and_can_be_taken_back() {
    let (root, shop) = shop().await;
    let new = root.path().join("new");
    said(&["move", path(&shop), path(&new), "--store", "redb"]);
    let refused = SledStore::open(&shop).err().expect("it moved");
    assert!(matches!(&refused, StoreError::Moved { to } if to.ends_with("new")), "{refused}");
    assert!(RedbStore::open(&new).is_ok());
    let (code, told) = self::refused(&["erase", path(&shop), "00000000-0000-0000-0000-000000000001"]);
    assert!(code == 1 && told.contains("take-back"), "{told}");
    said(&["take-back", path(&shop)]);
    assert!(SledStore::open(&shop).is_ok());
}

#[tokio::test]
async fn an_erased_event_is_gone_from_the_log_and_the_parked() {
    let (_root, shop) = shop().await;
    let id = |number| Uuid::from_u128(number).to_string();
    let told = json(&["erase", path(&shop), &id(2), &id(3), &id(9)]);
    let told: Vec<String> = (0..3).map(|at| told["events"][at]["erased"].to_string()).collect();
    assert_eq!(told, ["{\"done\":{\"parked\":1}}", "{\"done\":{\"parked\":0}}", "\"not-stored\""]);
    let contents = contents(&shop);
    assert_eq!((&contents["log"]["events"], &contents["log"]["erased"]), (&2.into(), &2.into()));
    assert_eq!(contents["listeners"][0]["parked"], 0);
    assert!(said(&["erase", path(&shop), &id(2)]).contains("was erased before"));
    let (code, _) = refused(&["erase", path(&shop), "ada@example.org"]);
    assert_eq!(code, 2);
}

#[test]
fn what_is_no_store_is_refused_and_untouched() {
    let root = tempfile::tempdir().expect("a folder");
    for folder in [root.path().to_owned(), root.path().join("nothing")] {
        for verb in ["show", "verify", "parked", "take-back"] {
            let (code, told) = refused(&[verb, path(&folder)]);
            assert!(code == 1 && told.contains("no aftercommit store"), "{verb}: {told}");
        }
    }
    assert_eq!(std::fs::read_dir(root.path()).expect("reads").count(), 0);
}

#[tokio::test]
async fn a_copy_that_is_killed_is_no_store_and_leaves_its_source_whole() {
    let (root, shop) = shop().await;
    let store = SledStore::open(&shop).expect("opens");
    for key in 10..210u8 {
        let mut unit = store.begin().await.expect("begins");
        unit.rows().expect("rows").put(&ROWS, vec![key], vec![key; 100_000]).expect("puts");
        unit.commit(CommitRequest { durability: Durability::Buffered, ..CommitRequest::default() })
            .await
            .expect("commits");
    }
    store.close().await.expect("closes");
    drop(store);
    let into = root.path().join("into");
    let (mut parts, mut tries) = (0, 0);
    while parts < 3 {
        tries += 1;
        assert!(tries < 30, "it was never killed before it was done");
        let mut backup = command(&["backup", path(&shop), path(&into)]).stdout(Stdio::null()).spawn().expect("runs");
        // Killed as soon as it has begun, and a little later each time.
        let mut looks = 0;
        while looks < 1 + 2_000 * parts && backup.try_wait().expect("asks").is_none() {
            looks += usize::from(into.join("aftercommit.copying").exists());
            std::thread::yield_now();
        }
        backup.kill().expect("kills");
        backup.wait().expect("ends");
        match Kind::of(&into) {
            Ok(_) => std::fs::remove_dir_all(&into).expect("removes"),
            Err(StoreError::NotAStore { .. }) => parts += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(SledStore::open(&into).is_err());
    said(&["verify", path(&shop)]);
    said(&["backup", path(&shop), path(&into)]);
    assert_eq!(contents(&into)["tables"], contents(&shop)["tables"]);
}
