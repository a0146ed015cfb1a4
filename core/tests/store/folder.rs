//! What a store promises about its folder: it touches nothing that is not its own, and is held by one at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use aftercommit::error::StoreError;

use crate::crash::{Child, child};
use crate::place::*;

on_every_disk! {
    a_folder_that_is_not_ours_is_refused_and_untouched
    a_store_on_another_engine_is_refused_by_its_name_and_untouched
    an_empty_folder_or_none_at_all_becomes_a_store
    a_half_made_store_is_made_anew
    a_marker_that_is_newer_damaged_or_gone_is_named_and_nothing_is_touched
    a_store_that_lost_everything_is_not_taken_for_a_new_one
    a_store_can_be_opened_at_once_after_it_was_dropped
    a_store_can_be_opened_while_processes_are_started
    a_held_store_is_refused_within_this_process_and_after_a_wait
    a_store_held_by_another_process_is_refused_until_that_one_ends
}

/// Every file and folder below `path`, with what files hold.
fn everything(path: &Path) -> BTreeMap<std::path::PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            found.extend(everything(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(&path).expect("reads")));
        }
    }
    found
}

/// Opening `path` is refused as told, and changes nothing below `around`.
fn refused<D: Disk>(path: &Path, around: &Path, is_expected: impl Fn(&StoreError) -> bool) {
    let before = everything(around);
    match D::within(Duration::ZERO, path) {
        Ok(_) => panic!("{path:?} was opened"),
        Err(error) => assert!(is_expected(&error), "{error}"),
    }
    assert_eq!(everything(around), before);
}

fn not_a_store(error: &StoreError) -> bool {
    matches!(error, StoreError::NotAStore { .. })
}

async fn a_folder_that_is_not_ours_is_refused_and_untouched<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let around = root.path();
    let make = |name: &str| {
        let path = around.join(name);
        fs::create_dir(&path).expect("makes");
        path
    };

    let file = around.join("file");
    fs::write(&file, "text").expect("writes");
    refused::<D>(&file, around, not_a_store);

    let photos = make("photos");
    fs::write(photos.join("beach.jpg"), "sand").expect("writes");
    refused::<D>(&photos, around, not_a_store);

    let shop = make("shop");
    fs::create_dir(shop.join("store")).expect("makes");
    refused::<D>(&shop, around, not_a_store);
    fs::write(shop.join("store/format"), "cotton").expect("writes");
    refused::<D>(&shop, around, not_a_store);

    let foreign = around.join("foreign");
    let db = ::sled::open(&foreign).expect("opens");
    db.insert("key", "value").expect("writes");
    db.flush().expect("flushes");
    drop(db);
    refused::<D>(&foreign, around, not_a_store);
}

async fn a_store_on_another_engine_is_refused_by_its_name_and_untouched<D: Disk>() {
    async fn check<D: Disk, Other: Disk>(root: &Path) {
        Other::at(root).expect("opens").close().await.expect("closes");
        // Once more, so that the engine has let go of everything.
        Other::at(root).expect("opens").close().await.expect("closes");
        refused::<D>(
            root,
            root,
            |error| matches!(error, StoreError::OtherEngine { found, asked, .. } if found == Other::ENGINE && *asked == D::ENGINE),
        );
        Other::at(root).expect("opens again");
    }
    let root = tempfile::tempdir().expect("a folder");
    match D::ENGINE {
        OnSled::ENGINE => check::<D, OnRedb>(root.path()).await,
        _ => check::<D, OnSled>(root.path()).await,
    }
}

async fn an_empty_folder_or_none_at_all_becomes_a_store<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    for path in [root.path().join("a/b/c"), root.path().to_owned().join("empty")] {
        if path.ends_with("empty") {
            fs::create_dir(&path).expect("makes");
        }
        let store = D::at(&path).expect("opens");
        assert!(store.was_clean());
        put(&*store, b"a", b"1").await;
        assert_eq!(store.kind(), D::ENGINE);
    }
}

async fn a_half_made_store_is_made_anew<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("aftercommit.new/sled/blobs")).expect("makes");
    for half in ["sled/conf", "data.redb"] {
        fs::write(root.path().join("aftercommit.new").join(half), "half").expect("writes");
    }
    fs::write(root.path().join("aftercommit.lock"), "").expect("writes");
    let store = D::at(root.path()).expect("opens");
    put(&*store, b"a", b"1").await;
    assert!(!root.path().join("aftercommit.new").exists());
}

async fn a_marker_that_is_newer_damaged_or_gone_is_named_and_nothing_is_touched<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let store = D::at(root.path()).expect("opens");
    store.close().await.expect("closes");
    drop(store);
    // Once more, so that sled has let go of everything.
    D::at(root.path()).expect("opens").close().await.expect("closes");
    let marker = root.path().join("store/format");
    let whole = fs::read(&marker).expect("reads");

    let mut newer = whole[..whole.len() - 4].to_vec();
    newer[15] = 9;
    newer.extend_from_slice(&crc32fast::hash(&newer).to_be_bytes());
    fs::write(&marker, newer).expect("writes");
    refused::<D>(root.path(), root.path(), |error| matches!(error, StoreError::NewerFormat { found: 9, known: 1, .. }));

    let damaged = |error: &StoreError| matches!(error, StoreError::Damaged { .. });
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    fs::write(&marker, flipped).expect("writes");
    refused::<D>(root.path(), root.path(), damaged);
    fs::write(&marker, "").expect("writes");
    refused::<D>(root.path(), root.path(), damaged);
    fs::remove_file(&marker).expect("removes");
    refused::<D>(root.path(), root.path(), damaged);

    fs::write(&marker, whole).expect("writes");
    D::at(root.path()).expect("opens again");
}

async fn a_store_that_lost_everything_is_not_taken_for_a_new_one<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let store = D::at(root.path()).expect("opens");
    put(&*store, b"a", b"1").await;
    store.close().await.expect("closes");
    drop(store);
    D::at(root.path()).expect("opens").close().await.expect("closes");
    let files = root.path().join("store").join(D::FILES);
    if files.is_dir() { fs::remove_dir_all(files) } else { fs::remove_file(files) }.expect("removes");
    assert!(matches!(D::at(root.path()), Err(StoreError::Damaged { .. })));
}

async fn a_store_can_be_opened_at_once_after_it_was_dropped<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    for round in 0..15u8 {
        let store = D::at(root.path()).expect("opens");
        assert_eq!(round == 0, get(&*store, b"a").is_none());
        put(&*store, b"a", &[round]).await;
    }
}

/// A process that is being started has, for a moment, a copy of every file that is open here, and of the locks on them.
async fn a_store_can_be_opened_while_processes_are_started<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let ended = AtomicBool::new(false);
    let opened = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(SeqCst) {
                    Command::new("true").status().expect("starts");
                }
            });
        }
        let opened = (0..30).try_for_each(|_| D::at(root.path()).map(drop));
        ended.store(true, SeqCst);
        opened
    });
    opened.expect("opens each time");
}

async fn a_held_store_is_refused_within_this_process_and_after_a_wait<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let _store = D::at(root.path()).expect("opens");
    let wait = Duration::from_millis(20);
    let refused = D::within(wait, root.path());
    assert!(matches!(refused, Err(StoreError::Held { waited, .. }) if waited == wait));
}

async fn a_store_held_by_another_process_is_refused_until_that_one_ends<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let mut holder = child::<D>(Child::Hold, root.path());
    assert_eq!(holder.line(), "open");
    let refused = D::within(Duration::from_millis(20), root.path());
    assert!(matches!(refused, Err(StoreError::Held { .. })));
    holder.kill();
    D::at(root.path()).expect("is free again");
}
