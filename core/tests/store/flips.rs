//! One bit of a store's files is flipped, anywhere: that is harmless, or told; what is served is what was stored.
//!
//! `AFTERCOMMIT_FLIPS` says how many flips are tried on each store (120); which ones is drawn from a fixed seed.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use aftercommit::clock::Timestamp;
use aftercommit::error::StoreError;
use aftercommit::event::Envelope;
use aftercommit::store::{CommitRequest, Durability, ParkedCause};
use aftercommit::store::{
    Cursor, CursorChange, Direction, KeyRange, LogEvent, Parked, Position, Row, Store, TableSpec,
};

use crate::place::*;

/// Everything there is to be read of a store.
#[derive(Debug, PartialEq)]
struct Everything {
    rows: Vec<Vec<Row>>,
    log: Vec<(Position, Envelope)>,
    cursors: Vec<(String, Cursor)>,
    parked: Vec<Parked>,
}

async fn everything(store: &dyn Store) -> Result<Everything, StoreError> {
    let all: KeyRange = (Bound::Unbounded, Bound::Unbounded);
    let scan = |table: &TableSpec| store.reader()?.scan(table, all.clone(), Direction::Forward, usize::MAX);
    let rows = vec![scan(&ROWS)?, scan(&OTHER)?];
    for (table, rows) in [&ROWS, &OTHER].into_iter().zip(&rows) {
        for (key, value) in rows {
            // A point is found another way than a range.
            let found = store.reader()?.get(table, key)?;
            if found.as_ref() != Some(value) {
                return Err(StoreError::Damaged { what: "a row".into(), reason: "a scan and a get disagree".into() });
            }
        }
    }
    let log = store.read_log(Position(1), usize::MAX, usize::MAX).await?;
    let log = log.into_iter().map(|LogEvent { position, envelope, .. }| (position, (*envelope).clone())).collect();
    Ok(Everything { rows, log, cursors: store.cursors().await?, parked: store.parked(None).await? })
}

/// Some of everything a store can hold, a large row and a large event among it; closed in good order.
async fn filled(store: &dyn Store) -> Everything {
    request(store, vec![logged("first")], vec![start("a", 1), start("b", 1)]).await.expect("commits");
    for number in 0..60u32 {
        let mut unit = begin(store).await;
        let rows = unit.rows().expect("rows");
        let key = number.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec();
        let len = if number % 20 == 7 { 20_000 } else { 150 };
        rows.put(&ROWS, key.clone(), vec![number as u8; len]).expect("puts");
        rows.add(&OTHER, (number % 5).to_be_bytes().to_vec(), 1, None).expect("adds");
        let body = vec![number as u8; if number % 30 == 9 { 30_000 } else { 200 }];
        let settlements = vec![done("a", u64::from(number) + 1)];
        let request = CommitRequest { durability: Durability::Flush, events: vec![logged(body)], settlements };
        unit.commit(request).await.expect("commits");
    }
    let envelope = event("cannot be delivered");
    let cause = ParkedCause::Failed("no such mailbox".to_owned());
    let (listener, position) = ("b".to_owned(), Position(1));
    let parked = Parked { listener, position, attempts: 3, cause, parked_at: Timestamp(1), asked: None, envelope };
    let settlements = vec![settle("b", CursorChange::Park { parked, covers: 1..2 })];
    request(store, Vec::new(), settlements).await.expect("commits");
    let held = everything(store).await.expect("whole");
    store.close().await.expect("closes");
    held
}

fn files_in(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_in(&path, files);
        } else {
            let bytes = fs::read(&path).expect("readable");
            files.insert(path, bytes);
        }
    }
}

async fn a_flipped_bit_is_harmless_or_told<P: Disk>() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("shop");
    let store = P::at(&folder).expect("opens");
    let held = filled(&*store).await;
    drop(store);
    // Opened once more, as one that was closed in good order is.
    let store = P::at(&folder).expect("opens");
    store.close().await.expect("closes");
    drop(store);

    let mut whole = BTreeMap::new();
    files_in(&folder, &mut whole);
    let written: Vec<(&PathBuf, usize)> = whole
        .iter()
        .flat_map(|(path, bytes)| (0..bytes.len()).filter(|&at| bytes[at] != 0).map(move |at| (path, at)))
        .collect();
    let flips = std::env::var("AFTERCOMMIT_FLIPS").ok().and_then(|flips| flips.parse().ok()).unwrap_or(120);
    let mut chance = fastrand::Rng::with_seed(7);
    let (mut harmless, mut told) = (0, 0);
    for flip in 0..flips {
        // Every other one where something is written, as most of a file may be empty.
        let (path, at) = if flip % 2 == 0 {
            written[chance.usize(..written.len())]
        } else {
            let files: Vec<_> = whole.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
            let (path, bytes) = files[chance.usize(..files.len())];
            (path, chance.usize(..bytes.len()))
        };
        let bit = chance.u8(..8);
        fs::remove_dir_all(&folder).expect("removed");
        for (path, bytes) in &whole {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        let mut bytes = whole[path].clone();
        bytes[at] ^= 1 << bit;
        fs::write(path, bytes).expect("written");
        let found = match P::checked(&folder) {
            Ok(store) => {
                let found = everything(&*store).await;
                // A damaged store may fail to close; it must not hang.
                let _ = store.close().await;
                found
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                let place = path.strip_prefix(&folder).unwrap_or(path);
                assert!(found == held, "flip {flip}, bit {bit} of byte {at} of {place:?}: something else was served");
                harmless += 1;
            }
            Err(_) => told += 1,
        }
    }
    assert!(harmless > 0 && told > 0, "{harmless} harmless, {told} told");
    println!("{}: {flips} flips, {harmless} harmless, {told} told", P::ENGINE);
}

on_every_disk! { a_flipped_bit_is_harmless_or_told }
