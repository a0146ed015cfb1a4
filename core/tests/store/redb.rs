//! What the store on redb promises beyond the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aftercommit::adapters::redb::RedbStore;
use aftercommit::error::StoreError;
use aftercommit::store::{CommitRequest, Durability, Store};

use crate::place::*;

fn data(root: &Path) -> PathBuf {
    root.join("store/data.redb")
}

fn is_damaged(opened: Result<RedbStore, StoreError>) -> bool {
    matches!(opened, Err(StoreError::Damaged { .. }))
}

#[tokio::test]
async fn a_file_that_is_no_file_of_redb_or_not_that_of_a_store_is_damaged() {
    let root = tempfile::tempdir().expect("a folder");
    let store = RedbStore::open(root.path()).expect("opens");
    put(&store, b"a", b"1").await;
    store.close().await.expect("closes");
    let whole = fs::read(data(root.path())).expect("reads");

    let mut foreign = whole.clone();
    foreign[..9].copy_from_slice(b"cotton ba");
    for bytes in [&[][..], &whole[..100], &whole[..whole.len() / 2], &foreign] {
        fs::write(data(root.path()), bytes).expect("writes");
        assert!(is_damaged(RedbStore::open(root.path())), "{} bytes", bytes.len());
    }
    fs::remove_file(data(root.path())).expect("removes");
    assert!(is_damaged(RedbStore::open(root.path())));
    drop(redb::Database::create(data(root.path())).expect("creates"));
    assert!(is_damaged(RedbStore::open(root.path())), "without the table");

    fs::write(data(root.path()), whole).expect("writes");
    assert_eq!(get(&RedbStore::open(root.path()).expect("opens again"), b"a"), Some(b"1".to_vec()));
}

#[tokio::test]
async fn a_file_that_somebody_else_opened_is_waited_for_and_then_refused() {
    let root = tempfile::tempdir().expect("a folder");
    RedbStore::open(root.path()).expect("opens").close().await.expect("closes");
    let held = redb::Database::open(data(root.path())).expect("opens");
    let wait = Duration::from_millis(20);
    let refused = RedbStore::options().wait(wait).open(root.path());
    assert!(matches!(refused, Err(StoreError::Held { waited, .. }) if waited == wait));
    drop(held);
    RedbStore::open(root.path()).expect("is free again");
}

#[tokio::test]
async fn a_closed_store_has_let_go_of_its_folder() {
    let root = tempfile::tempdir().expect("a folder");
    for _ in 0..5 {
        let store = RedbStore::options().wait(Duration::ZERO).open(root.path()).expect("opens without waiting");
        put(&store, b"a", b"1").await;
        store.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_unit_of_ten_thousand_rows_is_one_unit() {
    let place = OnRedb::new();
    let store = place.open();
    let mut unit = begin(&*store).await;
    for number in 0..10_000u32 {
        unit.rows().expect("rows").put(&ROWS, number.to_be_bytes().to_vec(), vec![1; 100]).expect("puts");
    }
    commit(unit).await.expect("commits");
    drop(store);
    let store = place.open();
    assert!((0..10_000u32).all(|number| get(&*store, &number.to_be_bytes()).is_some()));
}

/// A copy of the files at a moment when nothing is written is what a kill leaves.
#[tokio::test]
async fn what_was_synced_or_flushed_is_in_the_files_and_so_is_everything_before_it() {
    let root = tempfile::tempdir().expect("a folder");
    let store = RedbStore::open(root.path()).expect("opens");
    for number in 0..60u32 {
        let durability = [Durability::Sync, Durability::Buffered, Durability::Flush][number as usize % 3];
        let mut unit = begin(&store).await;
        unit.rows().expect("rows").put(&ROWS, number.to_be_bytes().to_vec(), vec![1; 1_000]).expect("puts");
        unit.commit(CommitRequest { durability, ..CommitRequest::default() }).await.expect("commits");
        if durability == Durability::Buffered {
            continue;
        }
        let killed = tempfile::tempdir().expect("a folder");
        fs::create_dir(killed.path().join("store")).expect("makes");
        for name in ["store/format", "store/journal", "store/data.redb"] {
            fs::copy(root.path().join(name), killed.path().join(name)).expect("copies");
        }
        let left = RedbStore::open(killed.path()).expect("opens");
        assert!(!left.was_clean());
        assert!((0..=number).all(|number| get(&left, &number.to_be_bytes()).is_some()), "{number}");
    }
}
