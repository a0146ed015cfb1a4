//! What the store on sled promises beyond the others.

use std::fs;

use aftercommit::adapters::sled::SledStore;

use crate::place::*;

#[tokio::test]
async fn a_half_written_snapshot_does_not_keep_a_store_from_opening() {
    let root = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(root.path()).expect("opens");
    put(&store, b"a", b"1").await;
    drop(store);
    fs::write(root.path().join("store/sled/snap.0000000000001234.generating"), "half").expect("writes");
    assert_eq!(get(&SledStore::open(root.path()).expect("opens"), b"a"), Some(b"1".to_vec()));
}

#[tokio::test]
async fn large_values_never_become_files_that_nobody_syncs() {
    let root = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(root.path()).expect("opens");
    request(&store, vec![], vec![start("l", 1)]).await.expect("starts");
    for round in 0..3u8 {
        publish(&store, vec![event(vec![round; 3 << 20])]).await;
        put(&store, b"a", &vec![round; 1 << 20]).await;
        for number in 0..40u8 {
            put(&store, &[number], &vec![round; 8_000]).await;
        }
    }
    assert_eq!(fs::read_dir(root.path().join("store/sled/blobs")).expect("reads").count(), 0);
}
