//! Stores as the present format writes them, kept in `core/tests/fixtures`: they open, and hold what they must.
//!
//! Each is a folder, file by file, compressed. `AFTERCOMMIT_FIXTURES=write cargo test -p aftercommit --test store fixtures`
//! writes them anew, with what [`fill`] stores and a little more; then, as always, they are opened and compared with the same
//! stored just now, record by record.

use std::fs;
use std::io::{Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::error::StoreError;
use aftercommit::store::embedded::copy::Target;
use aftercommit::store::embedded::{EmbeddedStore, Engine, Limits};
use aftercommit::store::{CommitRequest, Direction, Durability, Position, Store};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::place::*;
use crate::verify::fill;

/// What to do when one of them is not read any more.
const ADVICE: &str = "a store in core/tests/fixtures is not read as it was written: \
    a change has changed the format, or what it means.\n\
    - If it was not meant to, mend the change.\n\
    - As long as no version was released, a format may change: run\n\
      `AFTERCOMMIT_FIXTURES=write cargo test -p aftercommit --test store fixtures`,\n\
      commit what it writes, and say in docs/storage.md what is true now.\n\
    - Once one was released, raise the format's number, and read the old one too, or refuse it with words: keep these stores.";

on_every_disk! {
    a_store_that_was_killed_is_read_as_it_was_written
    a_store_that_was_closed_is_read_as_it_was_written
    a_store_that_moved_away_is_refused_with_where_to
    a_store_of_a_newer_format_is_refused_with_words_and_left_as_it_is
}

/// What came of it; without it, what to do.
fn read<T>(outcome: Result<T, StoreError>) -> T {
    outcome.unwrap_or_else(|error| panic!("{ADVICE}\n\n{error:?}"))
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The bytes of a fixture, which are made first if that is what was asked for.
fn fixture(name: &str, made: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = path_of(&format!("{name}.gz"));
    if std::env::var("AFTERCOMMIT_FIXTURES").as_deref() == Ok("write") {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&made()).expect("compresses");
        fs::create_dir_all(path_of("")).expect("makes");
        // In one step, as another test may read it.
        let mut new = tempfile::NamedTempFile::new_in(path_of("")).expect("a file");
        new.write_all(&packed.finish().expect("compresses")).expect("writes");
        new.persist(&path).expect("takes its place");
    }
    let packed = fs::read(&path).unwrap_or_else(|cause| panic!("{path:?}: {cause}\n\n{ADVICE}"));
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("decompresses");
    bytes
}

/// The files of a folder as bytes: of each the name, with slashes, and the content, both with their lengths before them.
fn packed(folder: &Path) -> Vec<u8> {
    fn add(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    fn walk(out: &mut Vec<u8>, folder: &Path, within: &str) {
        let mut names: Vec<_> = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads")).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let name = format!("{within}{}", entry.file_name().to_str().expect("text"));
            match entry.path().is_dir() {
                true => walk(out, &entry.path(), &format!("{name}/")),
                false => {
                    add(out, name.as_bytes());
                    add(out, &fs::read(entry.path()).expect("reads"));
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(&mut out, folder, "");
    out
}

/// Lays the files down in `folder`.
fn unpack(mut bytes: &[u8], folder: &Path) {
    fn take<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
        let (len, rest) = bytes.split_first_chunk().expect("a length");
        let (taken, rest) = rest.split_at(u64::from_be_bytes(*len) as usize);
        *bytes = rest;
        taken
    }
    while !bytes.is_empty() {
        let path = folder.join(std::str::from_utf8(take(&mut bytes)).expect("a name"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        fs::write(path, take(&mut bytes)).expect("writes");
    }
}

/// A fixture laid down in a folder of its own.
fn laid_down(name: &str, made: impl FnOnce() -> Vec<u8>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    unpack(&fixture(name, made), folder.path());
    folder
}

/// Something of every kind, and of some kinds more than one.
async fn stored(store: &dyn Store) {
    fill(store).await;
    let mut published = Vec::new();
    for number in 0..40u8 {
        let mut unit = begin(store).await;
        let rows = unit.rows().expect("rows");
        rows.put(&ROWS, vec![b'n', number], vec![number; 100]).expect("puts");
        rows.add(&OTHER, vec![number % 3], i64::from(number) - 20, None).expect("adds");
        // Every other one is settled, with gaps between them.
        let settlements =
            if number % 2 == 0 { vec![] } else { published.pop().map(|at| done("l", at)).into_iter().collect() };
        let events = vec![if number % 4 == 0 { logged([number]) } else { event([number]) }];
        let receipt = unit.commit(CommitRequest { durability: Durability::Sync, events, settlements }).await;
        published.extend(receipt.expect("commits").positions.iter().map(|position| position.0));
    }
}

/// What is written once all that is in the engine: it stands in the journal alone when the process is killed.
async fn stored_last(store: &dyn Store) {
    put(store, b"last", b"in the journal").await;
    let last = publish(store, vec![logged("last")]).await;
    request(store, vec![], vec![done("l", last[0])]).await.expect("commits");
}

/// Everything that the port shows of a store.
async fn shown(store: &dyn Store) -> Vec<String> {
    let mut out = Vec::new();
    let mut reader = store.reader().expect("reader");
    for table in [&ROWS, &OTHER] {
        let rows = read(reader.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Forward, usize::MAX));
        out.extend(rows.iter().map(|(key, value)| format!("{} {key:?}: {value:?}", table.name)));
    }
    let log = read(store.read_log(Position(0), usize::MAX, usize::MAX).await);
    out.extend(log.iter().map(|event| format!("{event:?}")));
    out.push(format!("{:?}", read(store.cursors().await)));
    out.push(format!("{:?}", read(store.redeliveries("l").await)));
    out.push(format!("{:?}", read(store.parked(None).await)));
    out.push(format!("{:?}", read(store.suspects().await)));
    out
}

/// All of it, stored just now.
struct Expected {
    shown: Vec<String>,
    /// As a stream, which holds records of every kind and depends on no engine.
    stream: Vec<u8>,
}

async fn expected() -> Expected {
    let engine = Arc::new(MemoryEngine::default());
    EmbeddedStore::create(&*engine).expect("makes");
    let store = EmbeddedStore::inline(engine.clone(), Limits::default()).expect("opens");
    stored(&store).await;
    stored_last(&store).await;
    store.close().await.expect("closes");
    let stream = exported(engine.clone());
    // Opened anew, as suspects are what an opening finds.
    Expected { shown: shown(&EmbeddedStore::inline(engine, Limits::default()).expect("opens")).await, stream }
}

/// Everything that a closed store holds, as a stream.
fn exported(engine: Arc<dyn Engine>) -> Vec<u8> {
    let mut out = Vec::new();
    read(EmbeddedStore::export_engine(engine, &mut out));
    out
}

fn same_stream(found: &[u8], expected: &[u8]) {
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let lengths = (found.len(), expected.len());
    assert!(found == expected, "{ADVICE}\n\nas streams they differ from byte {at:?} on; {lengths:?} bytes");
}

fn same(found: &[String], expected: &[String]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!(found == expected, "{ADVICE}\n\nfound: {found}\n\nexpected: {expected}");
    }
    assert!(found.len() == expected.len(), "{ADVICE}\n\nfound {}, expected {}", found.len(), expected.len());
}

/// The store in `folder` holds everything, has nothing wrong with it, and goes on.
async fn holds_everything<D: Disk>(folder: &Path, was_clean: bool) {
    let expected = expected().await;
    let store = read(D::checked(folder));
    assert_eq!(store.was_clean(), was_clean, "{ADVICE}");
    same(&shown(&*store).await, &expected.shown);
    let report = read(store.as_embedded().expect("an embedded store").verify());
    assert!(report.is_whole(), "{ADVICE}\n\n{:?}", report.findings);
    // As a bus does: without one, a store that was killed stays marked so.
    assert!(store.claim());
    store.close().await.expect("closes");
    drop(store);
    same_stream(&exported(engine::<D>(folder)), &expected.stream);
    let store = read(D::at(folder));
    let next = publish(&*store, vec![event("next")]).await;
    request(&*store, vec![], vec![done("l", next[0])]).await.expect("settles");
    put(&*store, b"large", b"small by now").await;
    store.close().await.expect("closes");
}

/// Runs `make` to its end with a runtime of its own, on a thread that may block.
fn aside<R: Send>(make: impl AsyncFnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(make())
        });
        thread.join().expect("no panic")
    })
}

/// A folder that everything was stored in; `last` is done with the store before the files are taken.
fn folder_of<D: Disk>(last: impl AsyncFnOnce(&dyn Store) + Send) -> Vec<u8> {
    aside(async || {
        let folder = tempfile::tempdir().expect("a folder");
        let store = D::at(folder.path()).expect("opens");
        stored(&*store).await;
        store.close().await.expect("closes");
        drop(store);
        let store = D::at(folder.path()).expect("opens");
        stored_last(&*store).await;
        last(&*store).await;
        // Nothing is written at this moment: these are the files that a kill would leave.
        packed(folder.path())
    })
}

async fn a_store_that_was_killed_is_read_as_it_was_written<D: Disk>() {
    let name = format!("{}-killed", D::ENGINE);
    let folder = laid_down(&name, || folder_of::<D>(async |_| ()));
    holds_everything::<D>(folder.path(), false).await;
}

async fn a_store_that_was_closed_is_read_as_it_was_written<D: Disk>() {
    let name = format!("{}-closed", D::ENGINE);
    let folder = laid_down(&name, || folder_of::<D>(async |store| store.close().await.expect("closes")));
    holds_everything::<D>(folder.path(), true).await;
}

async fn a_store_that_moved_away_is_refused_with_where_to<D: Disk>() {
    let folder = laid_down(&format!("{}-moved", D::ENGINE), || {
        aside(async || {
            let folder = tempfile::tempdir().expect("a folder");
            let store = D::at(folder.path()).expect("opens");
            stored(&*store).await;
            stored_last(&*store).await;
            store.close().await.expect("closes");
            drop(store);
            let to = Target::new("another-place", Arc::new(MemoryEngine::default()), || Ok(()));
            EmbeddedStore::move_engine(&*engine::<D>(folder.path()), to).expect("moves");
            // Once more, so that the engine has let go of everything.
            drop(engine::<D>(folder.path()));
            packed(folder.path())
        })
    });
    let refused = D::at(folder.path()).map(drop).expect_err(ADVICE);
    assert!(matches!(&refused, StoreError::Moved { to } if to == "another-place"), "{ADVICE}\n\n{refused:?}");
    EmbeddedStore::forget_move(&*engine::<D>(folder.path())).expect("takes it back");
    same(&shown(&*read(D::at(folder.path()))).await, &expected().await.shown);
}

fn engine<D: Disk>(path: &Path) -> Arc<dyn Engine> {
    let wait = std::time::Duration::from_secs(60);
    read(match D::ENGINE {
        OnRedb::ENGINE => RedbStore::options().wait(wait).engine(path),
        _ => SledStore::options().wait(wait).engine(path),
    })
}

async fn a_store_of_a_newer_format_is_refused_with_words_and_left_as_it_is<D: Disk>() {
    let folder = laid_down(&format!("{}-killed", D::ENGINE), || folder_of::<D>(async |_| ()));
    let marker = folder.path().join("store/format");
    let mut bytes = fs::read(&marker).expect("reads");
    // Behind twelve bytes that are the same in all formats stands the number; the checksum stands last.
    let known = u32::from_be_bytes(bytes[12..16].try_into().expect("four bytes"));
    bytes[12..16].copy_from_slice(&(known + 1).to_be_bytes());
    let end = bytes.len() - 4;
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_be_bytes());
    fs::write(&marker, bytes).expect("writes");
    let before = packed(folder.path());
    let told = D::at(folder.path()).map(drop).expect_err("newer than this").to_string();
    let expected =
        format!("has store format {}, newer than the {known} this version knows: use a newer aftercommit", known + 1);
    assert!(told.ends_with(&expected), "{told}");
    assert!(packed(folder.path()) == before, "it was touched");
}

#[tokio::test]
async fn an_exported_stream_is_read_as_it_was_written() {
    let expected = expected().await;
    let stream = fixture("stream", || expected.stream.clone());
    same_stream(&stream, &expected.stream);
    let engine = Arc::new(MemoryEngine::default());
    read(EmbeddedStore::import_engine(&mut &stream[..], Target::new("memory", engine.clone(), || Ok(()))));
    same_stream(&exported(engine.clone()), &expected.stream);
    let store = read(EmbeddedStore::inline(engine, Limits::default()));
    same(&shown(&store).await, &expected.shown);
}
