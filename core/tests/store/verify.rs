//! What a verification finds: each kind of damage that is planted, nothing in a whole store, and what a repair mends.

use std::sync::Arc;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::clock::Timestamp;
use aftercommit::store::embedded::verify::{Problem, Remedy, Report};
use aftercommit::store::embedded::{Batch, EmbeddedStore, Engine, Limits};
use aftercommit::store::{
    CommitRequest, Cursor, CursorChange, Direction, Durability, Ending, GivenUp, ListenerRecord, Parked, ParkedCause,
    Position, Redelivery, Row, Store,
};

use crate::place::*;

fn parked(listener: &str, position: u64, body: Vec<u8>) -> Parked {
    Parked {
        listener: listener.to_owned(),
        position: Position(position),
        attempts: 1,
        cause: ParkedCause::Failed("no".to_owned()),
        parked_at: Timestamp(1),
        asked: None,
        envelope: event(body),
    }
}

fn given_up(listener: &str, position: u64) -> GivenUp {
    GivenUp {
        listener: listener.to_owned(),
        position: Position(position),
        attempts: 1,
        how: Ending::Skipped,
        reason: "no".to_owned(),
        at: Timestamp(1),
        header: event("x").header,
    }
}

fn redelivery(position: u64) -> Redelivery {
    Redelivery {
        position: Position(position),
        attempts: 1,
        due: Timestamp(9),
        error: "no".to_owned(),
        failed_at: Timestamp(1),
        first_failed_at: Timestamp(1),
        counted: 1,
        kind: None,
    }
}

/// A closed store with something of every kind in it.
pub(crate) async fn rich() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("makes");
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    fill(&store).await;
    store.close().await.expect("closes");
    engine
}

/// Stores something of every kind.
pub(crate) async fn fill(store: &dyn Store) {
    put(store, b"small", b"1").await;
    put(store, b"large", &[3; 30_000]).await;
    publish(store, (0..6).map(|number| logged([number])).collect()).await;
    publish(store, vec![logged(vec![7; 30_000])]).await;
    let park = CursorChange::Park { parked: parked("l", 2, vec![8; 30_000]), covers: 2..3 };
    let settlements = vec![
        start("l", 1),
        done("l", 1),
        settle("l", park),
        settle("l", CursorChange::Redeliver(redelivery(4))),
        settle("l", CursorChange::Suspect { position: Position(5), count: 1 }),
        settle("l", CursorChange::Describe(ListenerRecord::new(Vec::new(), Position(1)))),
        settle("l", CursorChange::GiveUp { given_up: given_up("l", 6), covers: 6..7 }),
    ];
    request(store, Vec::new(), settlements).await.expect("commits");
    schedule(store, vec![later(50, vec![9; 30_000]), later(50, "small"), later(40, "sooner")]).await;
    remember(store, remembered("scope", b"id", 60)).await;
}

fn frame(key: &[u8], body: &[u8]) -> Vec<u8> {
    framed(key, 0, body)
}

fn framed(key: &[u8], tag: u8, body: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(&[key, &[tag], body].concat());
    [&[tag], &sum.to_be_bytes()[..], body].concat()
}

fn plant(engine: &MemoryEngine, key: &[u8], value: Option<Vec<u8>>) {
    engine.apply(Batch::from([(key.to_vec(), value)])).expect("a map does not fail");
}

fn all(engine: &MemoryEngine) -> Vec<Row> {
    engine.scan(&[0]..&[255], Direction::Forward, usize::MAX).expect("a map does not fail")
}

fn first_of(engine: &MemoryEngine, kind: u8) -> Row {
    all(engine).into_iter().find(|(key, _)| key[0] == kind).expect("there is one")
}

fn problems(report: &Report) -> Vec<Problem> {
    report.findings.iter().map(|one| one.problem.clone()).collect()
}

/// What is found in the closed store, and again once it was asked to be mended.
fn verify(engine: &Arc<MemoryEngine>) -> Report {
    let before = all(engine);
    let report = EmbeddedStore::verify_engine(engine.clone(), false).expect("reads");
    assert_eq!(all(engine), before, "looking changes nothing");
    report
}

/// The one thing that is found, which a repair mends so that nothing is found afterwards and the store opens.
fn mended(engine: &Arc<MemoryEngine>) -> Problem {
    let found = verify(engine);
    assert_eq!(found.findings.len(), 1, "{found}");
    assert_eq!(found.findings[0].remedy, Remedy::Repair);
    assert!(!found.is_whole());
    let mended = EmbeddedStore::verify_engine(engine.clone(), true).expect("reads");
    assert_eq!((mended.findings.len(), mended.findings[0].remedy), (1, Remedy::Mended));
    assert!(mended.is_whole());
    assert_eq!(problems(&verify(engine)), []);
    EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    found.findings[0].problem.clone()
}

/// The one thing that is found, which a repair leaves as it is.
fn left(engine: &Arc<MemoryEngine>) -> Problem {
    let found = verify(engine);
    assert_eq!(found.findings.len(), 1, "{found}");
    assert_eq!(found.findings[0].remedy, Remedy::Restore);
    let before = all(engine);
    let again = EmbeddedStore::verify_engine(engine.clone(), true).expect("reads");
    assert_eq!(again, found);
    assert_eq!(all(engine), before);
    found.findings[0].problem.clone()
}

#[tokio::test]
async fn a_whole_store_has_no_findings_and_its_contents_are_counted() {
    let engine = rich().await;
    let report = verify(&engine);
    assert!(report.is_whole(), "{report}");
    let contents = &report.contents;
    assert_eq!(contents.entries, all(&engine).len() as u64);
    assert_eq!((contents.tables.len(), contents.tables[0].rows), (1, 2));
    assert_eq!(contents.tables[0].name, "test.rows");
    assert_eq!((contents.log.first, contents.log.next, contents.log.events), (Some(1), 8, 7));
    assert_eq!((contents.large_values, contents.scheduled, contents.remembered), (4, 3, 1));
    let listener = &contents.listeners[0];
    assert_eq!((&*listener.id, listener.low, listener.behind), ("l", 3, 4));
    assert_eq!((listener.waiting, listener.parked), (1, 1));
}

#[tokio::test]
async fn every_flipped_byte_of_every_entry_is_found() {
    let engine = rich().await;
    for (key, whole) in all(&engine) {
        for at in [0, 1, 5, whole.len() - 1] {
            let mut flipped = whole.clone();
            let at = at.min(whole.len() - 1);
            flipped[at] ^= 0x10;
            plant(&engine, &key, Some(flipped));
            let report = verify(&engine);
            assert!(!report.is_whole(), "byte {at} of {key:?}");
            plant(&engine, &key, Some(whole.clone()));
        }
    }
    assert!(verify(&engine).is_whole());
}

#[tokio::test]
async fn a_damaged_row_pack_cursor_or_parked_event_is_named_and_left() {
    for kind in *b"rlcpwo" {
        let engine = rich().await;
        let (key, mut value) = first_of(&engine, kind);
        *value.last_mut().expect("not empty") ^= 1;
        plant(&engine, &key, Some(value));
        let report = verify(&engine);
        let damaged = report.findings.iter().find(|one| matches!(one.problem, Problem::Damaged { .. }));
        let damaged = damaged.unwrap_or_else(|| panic!("{}: {report}", kind as char));
        assert_eq!(damaged.remedy, Remedy::Restore);
    }
}

#[tokio::test]
async fn an_entry_of_no_known_kind_is_named() {
    let engine = rich().await;
    plant(&engine, b"zebra", Some(frame(b"zebra", b"")));
    assert_eq!(left(&engine), Problem::Unknown);
}

#[tokio::test]
async fn a_store_without_its_mark_is_named() {
    let engine = rich().await;
    plant(&engine, b"mclean", None);
    assert_eq!(left(&engine), Problem::NoMark);
}

#[tokio::test]
async fn a_damaged_mark_is_mended_as_not_clean() {
    let engine = rich().await;
    plant(&engine, b"mclean", Some(frame(b"mclean", &[7])));
    assert!(matches!(mended(&engine), Problem::Damaged { .. }));
}

#[tokio::test]
async fn damaged_ends_of_the_log_are_mended_from_the_log() {
    let engine = rich().await;
    plant(&engine, b"mlog", Some(vec![1, 2, 3]));
    assert!(matches!(mended(&engine), Problem::Damaged { .. }));
    let store = EmbeddedStore::inline(engine, Limits::default()).expect("opens");
    assert_eq!(publish(&store, vec![event("next")]).await, [8]);
}

#[tokio::test]
async fn a_log_pruned_past_its_end_is_mended() {
    let engine = rich().await;
    let ends = [8u64, 80, 0].map(u64::to_be_bytes).concat();
    plant(&engine, b"mlog", Some(frame(b"mlog", &ends)));
    assert_eq!(mended(&engine), Problem::PrunedPastEnd { pruned: 80, end: 8 });
}

#[tokio::test]
async fn rows_of_a_table_that_is_not_recorded_are_named() {
    let engine = rich().await;
    let key = [&b"r"[..], &9u32.to_be_bytes(), b"k"].concat();
    plant(&engine, &key, Some(frame(&key, b"v")));
    assert_eq!(left(&engine), Problem::UnknownTable { table: 9 });
}

#[tokio::test]
async fn two_tables_with_one_id_are_named() {
    let engine = rich().await;
    let key = b"tzebra";
    plant(&engine, key, Some(frame(key, &[&1u32.to_be_bytes()[..], &[0], b"rows"].concat())));
    assert_eq!(left(&engine), Problem::SharedTable { other: "test.rows".to_owned() });
}

#[tokio::test]
async fn a_missing_piece_is_found_for_rows_events_and_parked_events() {
    for id in 1..=3u64 {
        let engine = rich().await;
        let key = [&b"k"[..], &id.to_be_bytes(), &1u32.to_be_bytes()].concat();
        assert!(engine.get(&key).expect("reads").is_some());
        plant(&engine, &key, None);
        assert!(matches!(left(&engine), Problem::Pieces { .. }));
    }
}

#[tokio::test]
async fn pieces_that_nothing_refers_to_are_swept() {
    let engine = rich().await;
    for number in 0..40u32 {
        let key = [&b"k"[..], &77u64.to_be_bytes(), &number.to_be_bytes()].concat();
        plant(&engine, &key, Some(frame(&key, b"orphan")));
    }
    assert_eq!(mended(&engine), Problem::OrphanPieces { count: 40 });
    let surplus = [&b"k"[..], &1u64.to_be_bytes(), &4u32.to_be_bytes()].concat();
    plant(&engine, &surplus, Some(frame(&surplus, b"one too many")));
    assert_eq!(mended(&engine), Problem::OrphanPieces { count: 1 });
}

#[tokio::test]
async fn a_value_that_would_be_swept_is_kept() {
    let engine = rich().await;
    let key = [&b"f"[..], &1u64.to_be_bytes()].concat();
    let chunks = [&1u64.to_be_bytes()[..], &4u32.to_be_bytes(), &30_000u64.to_be_bytes()].concat();
    plant(&engine, &key, Some(frame(&key, &chunks)));
    assert_eq!(mended(&engine), Problem::ListedToSweep { id: 1 });
    let store = EmbeddedStore::inline(engine, Limits::default()).expect("opens");
    put(&store, b"another", b"1").await;
    assert_eq!(get(&store, b"large"), Some(vec![3; 30_000]));
}

#[tokio::test]
async fn a_damaged_list_to_sweep_is_mended() {
    let engine = rich().await;
    let key = [&b"f"[..], &70u64.to_be_bytes()].concat();
    plant(&engine, &key, Some(frame(&key, b"nowhere")));
    assert!(matches!(mended(&engine), Problem::Damaged { .. }));
}

#[tokio::test]
async fn two_values_in_the_same_pieces_are_named() {
    let engine = rich().await;
    let row = all(&engine).into_iter().find(|(key, value)| key[0] == b'r' && value[0] == 1).expect("the large one");
    let key = [&b"r"[..], &1u32.to_be_bytes(), b"twin"].concat();
    plant(&engine, &key, Some(framed(&key, 1, &row.1[5..])));
    assert_eq!(left(&engine), Problem::SharedPieces { id: 1 });
}

#[tokio::test]
async fn packs_that_hold_the_same_positions_are_named() {
    let engine = rich().await;
    let (key, value) = first_of(&engine, b'l');
    let twin = [&b"l"[..], &3u64.to_be_bytes()].concat();
    assert!(key < twin);
    plant(&engine, &twin, Some(frame(&twin, &value[5..])));
    let found = problems(&verify(&engine));
    assert!(found.contains(&Problem::Overlap { before: 7 }), "{found:?}");
}

#[tokio::test]
async fn a_cursor_past_the_end_of_the_log_is_named() {
    let engine = rich().await;
    plant(&engine, b"cm", Some(frame(b"cm", &Cursor::at(90).encode())));
    assert_eq!(left(&engine), Problem::PastEnd { position: 90, end: 8 });
}

fn delivery(kind: &[u8], listener: &[u8], position: u64) -> Vec<u8> {
    [kind, listener, &[0xff], &position.to_be_bytes()].concat()
}

fn json(position: u64) -> Vec<u8> {
    serde_json::to_vec(&redelivery(position)).expect("encodes")
}

#[tokio::test]
async fn a_delivery_past_the_end_of_the_log_is_removed() {
    let engine = rich().await;
    let key = delivery(b"d", b"l", 80);
    plant(&engine, &key, Some(frame(&key, &json(80))));
    assert_eq!(mended(&engine), Problem::PastEnd { position: 80, end: 8 });
}

#[tokio::test]
async fn a_redelivery_or_suspect_of_what_is_settled_is_removed() {
    for (kind, body) in [(b"d", json(1)), (b"s", vec![0, 0, 0, 1])] {
        let engine = rich().await;
        let key = delivery(kind, b"l", 1);
        plant(&engine, &key, Some(frame(&key, &body)));
        assert_eq!(mended(&engine), Problem::Settled { listener: "l".to_owned(), position: 1 });
    }
}

#[tokio::test]
async fn a_delivery_of_a_listener_without_a_cursor_is_removed() {
    let engine = rich().await;
    let key = delivery(b"d", b"gone", 4);
    plant(&engine, &key, Some(frame(&key, &json(4))));
    assert_eq!(mended(&engine), Problem::NoCursor { listener: "gone".to_owned() });
}

#[tokio::test]
async fn what_is_kept_of_a_listener_without_a_cursor_is_removed() {
    for kind in *b"ng" {
        let engine = rich().await;
        let (key, value) = first_of(&engine, kind);
        let gone = match kind {
            b'n' => b"ngone".to_vec(),
            _ => delivery(b"g", b"gone", 6),
        };
        assert_eq!(value[0], 0, "it stands in one piece");
        assert_ne!(key, gone);
        plant(&engine, &gone, Some(frame(&gone, &value[5..])));
        assert_eq!(mended(&engine), Problem::NoCursor { listener: "gone".to_owned() });
    }
}

#[tokio::test]
async fn a_damaged_note_of_what_was_given_up_is_removed_and_what_is_known_of_a_listener_is_left() {
    let engine = rich().await;
    let (key, _) = first_of(&engine, b'g');
    plant(&engine, &key, Some(frame(&key, b"{}")));
    assert!(matches!(mended(&engine), Problem::Damaged { .. }));
    let engine = rich().await;
    let (key, _) = first_of(&engine, b'n');
    plant(&engine, &key, Some(frame(&key, b"[]")));
    assert!(matches!(left(&engine), Problem::Damaged { .. }), "it may say that the listener is paused");
}

#[tokio::test]
async fn a_damaged_redelivery_or_suspect_is_removed_and_called_as_if_new() {
    for kind in *b"ds" {
        let engine = rich().await;
        let (key, _) = first_of(&engine, kind);
        plant(&engine, &key, Some(frame(&key, b"{}")));
        assert!(matches!(mended(&engine), Problem::Damaged { .. }));
    }
    let engine = rich().await;
    let (key, _) = first_of(&engine, b'd');
    plant(&engine, &key, Some(frame(&key, &json(5))));
    assert!(matches!(mended(&engine), Problem::Damaged { .. }), "it names another position than its key");
}

/// What is found, all of which a repair mends; what was scheduled and remembered is there afterwards as it was.
async fn relinked(engine: &Arc<MemoryEngine>) -> Vec<Problem> {
    let found = verify(engine);
    assert!(!found.is_whole() && found.findings.iter().all(|one| one.remedy == Remedy::Repair), "{found}");
    EmbeddedStore::verify_engine(engine.clone(), true).expect("reads");
    assert_eq!(problems(&verify(engine)), []);
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    let waiting = scheduled(&store).await;
    assert_eq!(
        waiting.iter().map(|(time, body)| (*time, body.len())).collect::<Vec<_>>(),
        [(40, 6), (50, 30_000), (50, 5)]
    );
    let mut unit = begin(&store).await;
    assert!(unit.unschedule(later(50, "small").header.metadata.id).await.expect("reads"));
    assert_eq!(unit.remembered("scope", b"id").await.expect("reads"), Some(remembered("scope", b"id", 60)));
    assert_eq!(unit.forget_expired(Timestamp(60), 9).await.expect("reads"), 1);
    commit(unit).await.expect("commits");
    store.close().await.expect("closes");
    assert_eq!(problems(&verify(engine)), []);
    problems(&found)
}

#[tokio::test]
async fn a_lost_link_of_a_scheduled_event_or_remembered_id_is_made_anew() {
    for kind in *b"ie" {
        let engine = rich().await;
        let (key, _) = first_of(&engine, kind);
        plant(&engine, &key, None);
        assert_eq!(relinked(&engine).await, [Problem::Unlinked], "lost {}", kind as char);
        let engine = rich().await;
        plant(&engine, &key, Some(b"?".to_vec()));
        let found = relinked(&engine).await;
        assert!(
            matches!(found[..], [Problem::Damaged { .. }, Problem::Unlinked]),
            "damaged {}: {found:?}",
            kind as char
        );
    }
}

#[tokio::test]
async fn a_link_to_nothing_is_removed() {
    let engine = rich().await;
    let id = [&b"i"[..], &[1; 16]].concat();
    plant(&engine, &id, Some(frame(&id, &[2; 16])));
    assert_eq!(relinked(&engine).await, [Problem::Dangling]);
    let engine = rich().await;
    let expiry = [&b"e"[..], &59u64.to_be_bytes(), b"scope\xffid"].concat();
    plant(&engine, &expiry, Some(frame(&expiry, b"")));
    assert_eq!(relinked(&engine).await, [Problem::Dangling]);
}

#[tokio::test]
async fn an_order_that_might_be_given_out_again_is_mended() {
    for next in [None, Some(frame(b"mscheduled", &2u64.to_be_bytes())), Some(frame(b"mscheduled", b"?"))] {
        let engine = rich().await;
        plant(&engine, b"mscheduled", next);
        let found = relinked(&engine).await;
        let is_told = |one: &Problem| matches!(one, Problem::OrderNotTaken { .. } | Problem::Damaged { .. });
        assert!(found.iter().all(is_told), "{found:?}");
        let store = EmbeddedStore::inline(engine, Limits::default()).expect("opens");
        schedule(&store, vec![later(50, "last")]).await;
        assert_eq!(scheduled(&store).await.last(), Some(&(50, b"last".to_vec())));
    }
}

#[tokio::test]
async fn an_event_parked_and_owed_all_the_same_is_named() {
    let engine = rich().await;
    // Nothing settled: the parked position 2 would be delivered again.
    plant(&engine, b"cl", Some(frame(b"cl", &Cursor::at(1).encode())));
    assert_eq!(left(&engine), Problem::ParkedAndOwed { listener: "l".to_owned(), position: 2 });
}

#[tokio::test]
async fn an_open_store_is_found_whole_while_units_replace_large_values_and_settle() {
    let root = tempfile::tempdir().expect("a folder");
    let store = aftercommit::adapters::sled::SledStore::open(root.path()).expect("opens");
    request(&store, Vec::new(), vec![start("l", 1)]).await.expect("commits");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (busy, ended) = (store.clone(), stop.clone());
    let writer = tokio::spawn(async move {
        let mut number = 0u64;
        while !ended.load(std::sync::atomic::Ordering::SeqCst) {
            number += 1;
            let mut unit = begin(&busy).await;
            let rows = unit.rows().expect("rows");
            rows.put(&ROWS, vec![number as u8 % 16], vec![number as u8; 20_000]).expect("puts");
            let mut settlements = Vec::new();
            if number > 1 {
                let park =
                    CursorChange::Park { parked: parked("l", number - 1, vec![1; 9_000]), covers: number - 1..number };
                settlements.push(settle("l", park));
            }
            if number > 4 {
                settlements.push(settle("l", CursorChange::Resolved { position: Position(number - 4) }));
            }
            let events = vec![event(vec![number as u8; 9_000])];
            unit.commit(CommitRequest { durability: Durability::Buffered, events, settlements })
                .await
                .expect("commits");
        }
        number
    });
    for _ in 0..20 {
        let looked = store.clone();
        let report =
            tokio::task::spawn_blocking(move || aftercommit::store::embedded::Embedded::embedded(&looked).verify());
        let report = report.await.expect("ends").expect("reads");
        assert!(report.is_whole(), "{report}");
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(writer.await.expect("ends") > 20);
}

#[tokio::test]
async fn damage_in_an_open_store_is_found_there_too() {
    let engine = rich().await;
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    let key = [&b"k"[..], &1u64.to_be_bytes(), &1u32.to_be_bytes()].concat();
    plant(&engine, &key, None);
    plant(&engine, b"cm", Some(frame(b"cm", &Cursor::at(90).encode())));
    let found = problems(&store.verify().expect("reads"));
    assert!(matches!(found[..], [Problem::PastEnd { .. }, Problem::Pieces { .. }]), "{found:?}");
}
