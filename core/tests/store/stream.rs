//! A store as a stream: everything comes through, whichever engine it comes from, and nothing that is not whole is taken.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::error::StoreError;
use aftercommit::store::embedded::copy::Target;
use aftercommit::store::embedded::stream::Streamed;
use aftercommit::store::embedded::{EmbeddedStore, Limits};
use aftercommit::store::{Direction, Due, Position, Retention, Store};
use aftercommit::testing::MovedClock;

use crate::place::*;
use crate::verify::rich;

fn export(engine: &Arc<MemoryEngine>) -> Vec<u8> {
    let mut out = Vec::new();
    let done = EmbeddedStore::export_engine(engine.clone(), &mut out).expect("exports");
    assert_eq!(done.bytes, out.len() as u64);
    out
}

/// What came of an import, and whether a store was made of it.
fn import(mut bytes: &[u8]) -> (Result<Streamed, StoreError>, Arc<MemoryEngine>, bool) {
    let engine = Arc::new(MemoryEngine::default());
    let made = Arc::new(AtomicBool::new(false));
    let told = made.clone();
    let target = Target::new("memory", engine.clone(), move || {
        told.store(true, SeqCst);
        Ok(())
    });
    let done = EmbeddedStore::import_engine(&mut bytes, target);
    (done, engine, made.load(SeqCst))
}

/// Everything that the port shows of a store.
async fn shown(engine: &Arc<MemoryEngine>) -> Vec<String> {
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    let mut out = vec![format!("{}", store.was_clean())];
    let mut reader = store.reader().expect("reader");
    for table in [&ROWS, &OTHER] {
        let rows = reader.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Forward, usize::MAX);
        out.push(format!("{:?}", rows.expect("scans")));
    }
    out.extend(log(&store).await.iter().map(|event| format!("{event:?}")));
    out.push(format!("{:?}", store.cursors().await.expect("reads")));
    out.push(format!("{:?}", store.redeliveries("l").await.expect("reads")));
    out.push(format!("{:?}", store.parked(None).await.expect("reads")));
    out.push(format!("{:?}", store.suspects().await.expect("reads")));
    out.push(format!("{:?}", store.listener_records().await.expect("reads")));
    let given_up = store.given_up_from("l", Position(0), 9).await.expect("reads");
    assert_eq!(given_up.len(), 1);
    out.push(format!("{given_up:?}"));
    out.push(format!("{:?}", store.scheduled(Due::default(), 9, usize::MAX).await.expect("reads")));
    out.push(format!("{:?}", begin(&store).await.remembered("scope", b"id").await.expect("reads")));
    schedule(&store, vec![later(50, "last")]).await;
    out.push(format!("{:?}", scheduled(&store).await.last()));
    out.push(format!("{:?}", store.erased_at(Position(3)).expect("reads")));
    out.push(format!("{:?}", publish(&store, vec![event("next")]).await));
    out
}

#[tokio::test]
async fn what_is_imported_is_what_was_exported() {
    let engine = rich().await;
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    store.erase(Position(3)).await.expect("erases");
    store.close().await.expect("closes");
    let stream = export(&engine);
    let (done, copy, made) = import(&stream);
    let done = done.expect("imports");
    assert!(made);
    assert_eq!((done.rows, done.events, done.bytes), (2, 6, stream.len() as u64));
    let report = EmbeddedStore::verify_engine(copy.clone(), false).expect("reads");
    assert!(report.is_whole(), "{report}");
    assert_eq!(export(&copy), stream, "the way back is the same");
    assert_eq!(shown(&copy).await, shown(&engine).await);
}

#[tokio::test]
async fn gaps_of_the_log_and_an_unclean_end_come_through() {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("makes");
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    request(&store, Vec::new(), vec![start("l", 1)]).await.expect("commits");
    publish(&store, vec![logged("kept")]).await;
    publish(&store, vec![event("pruned")]).await;
    publish(&store, vec![logged("kept too"), event("beside it")]).await;
    for position in 1..=4 {
        request(&store, Vec::new(), vec![done("l", position)]).await.expect("commits");
    }
    retain(&store, Retention::delete_when_done(), &MovedClock::default()).await;
    while positions(&store).await.len() > 3 {
        put(&store, b"a", b"1").await;
    }
    let (done, copy, _) = import(&export(&engine));
    done.expect("imports");
    let copied = EmbeddedStore::inline(copy, Limits::default()).expect("opens");
    assert_eq!(positions(&copied).await, [1, 3, 4]);
    assert!(!copied.was_clean());
    assert_eq!(publish(&copied, vec![event("next")]).await, [5]);
}

#[tokio::test]
async fn a_store_whose_log_is_pruned_to_its_end_gives_out_no_position_twice() {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("makes");
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    publish(&store, vec![event("a"), event("b")]).await;
    retain(&store, Retention::delete_when_done(), &MovedClock::default()).await;
    while !positions(&store).await.is_empty() {
        put(&store, b"a", b"1").await;
    }
    let (done, copy, _) = import(&export(&engine));
    done.expect("imports");
    let copied = EmbeddedStore::inline(copy, Limits::default()).expect("opens");
    assert_eq!(publish(&copied, vec![event("next")]).await, [3]);
}

#[tokio::test]
async fn a_stream_that_is_cut_flipped_or_continued_is_refused_with_where() {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("makes");
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    put(&store, b"key", b"value").await;
    publish(&store, vec![logged("happened")]).await;
    request(&store, Vec::new(), vec![start("l", 1)]).await.expect("commits");
    schedule(&store, vec![later(9, "later")]).await;
    remember(&store, remembered("scope", b"id", 9)).await;
    store.close().await.expect("closes");
    let whole = export(&engine);
    assert!(import(&whole).0.is_ok());
    let refused = |bytes: &[u8], what: String| {
        let (done, _, made) = import(bytes);
        assert!(!made, "{what}");
        match done {
            Err(StoreError::Damaged { what: told, .. }) => assert!(told.contains("at byte"), "{what}: {told}"),
            other => panic!("{what}: {other:?}"),
        }
    };
    for cut in 0..whole.len() {
        refused(&whole[..cut], format!("cut at {cut}"));
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped, format!("bit {bit}"));
    }
    refused(&[&whole[..], b"x"].concat(), "something follows".to_owned());
}

#[tokio::test]
async fn a_damaged_store_is_not_exported() {
    let engine = rich().await;
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    store.close().await.expect("closes");
    let key = [&b"k"[..], &1u64.to_be_bytes(), &1u32.to_be_bytes()].concat();
    aftercommit::store::embedded::Engine::apply(&*engine, [(key, None)].into()).expect("a map does not fail");
    let refused = EmbeddedStore::export_engine(engine, &mut Vec::new());
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
}
