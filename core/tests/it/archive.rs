//! The archive: what retention lets go of is in it, whole and once, and is replayed and streamed like the log.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftercommit::adapters::archive::ArchiveFolder;
use aftercommit::bus::{LogStream, StreamError};
use aftercommit::error::{StartError, StoreError};
use aftercommit::listener::{self, Registration, StartAt};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::runtime::BusBuilder;
use aftercommit::store::{Archive, Erasure, LogEvent, Position, Store};
use aftercommit::testing::MovedClock;
use uuid::Uuid;

use crate::heard::{Heard, until, within};
use crate::scene::Placed;
use crate::stores::Home;

const START: Position = Position(1);
const MINUTE: Duration = Duration::from_secs(60);

fn noting(heard: &Heard, id: &str, start: StartAt) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>(id).durable().start_at(start).call(move |event| to.note(event.0.to_string()))
}

/// A bus that keeps nothing that is done in its log.
fn lean(store: Arc<dyn Store>) -> BusBuilder {
    Bus::builder()
        .shared_store(store)
        .clock(MovedClock::default())
        .retention(Retention::delete_when_done())
        .listener(noting(&Heard::new(), "archive.first", StartAt::Now))
}

async fn archiving(home: &dyn Home, archive: &Path) -> (Bus, Arc<dyn Store>) {
    let store = home.open();
    let archive = ArchiveFolder::open(archive).expect("an archive opens");
    (lean(store.clone()).archive(archive).start().await.expect("the bus starts"), store)
}

async fn place(bus: &Bus, orders: Range<u32>) {
    for order in orders {
        bus.transaction(async |tx| tx.publish(Placed(order))).await.expect("committed");
    }
    within(bus.idle()).await;
}

/// What the log itself still holds.
async fn in_log(store: &dyn Store) -> Vec<u64> {
    let events = store.read_log(Position(0), usize::MAX, usize::MAX).await.expect("reads");
    events.iter().map(|event| event.position.0).collect()
}

async fn read(stream: &mut LogStream<Placed>, count: usize) -> Vec<u32> {
    let mut orders = Vec::new();
    while orders.len() < count {
        orders.push(within(stream.next()).await.expect("the bus runs").expect("an entry, and no gap").event.0);
    }
    orders
}

async fn stop(bus: Bus) {
    within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
}

fn orders(range: Range<u32>) -> Vec<String> {
    range.map(|order| order.to_string()).collect()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("archive");
    (root, path)
}

/// The positions that an archive holds, which must be whole.
fn archived(path: &Path) -> Vec<u64> {
    let archive = ArchiveFolder::look(path).expect("is there");
    assert!(archive.verify().expect("reads").is_empty());
    let events = archive.read(Position(0), usize::MAX, usize::MAX).expect("reads");
    events.iter().map(|event| event.position.0).collect()
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path).expect("is there").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "events")).collect();
    segments.sort();
    segments
}

on_embedded_stores! {
    async fn what_the_log_gives_up_is_replayed_and_streamed_from_the_archive(home: &dyn Home) {
        let (_root, path) = folder();
        let (bus, store) = archiving(home, &path).await;
        place(&bus, 1..8).await;
        bus.tidy().await.expect("tidies");
        assert!(in_log(&*store).await.is_empty());
        place(&bus, 8..11).await;
        let mut stream = bus.stream_from::<Placed>(START).expect("it is stored");
        assert_eq!(read(&mut stream, 10).await, (1..11).collect::<Vec<_>>(), "archive and log are one");
        bus.tidy().await.expect("tidies");
        place(&bus, 11..12).await;
        assert_eq!(read(&mut stream, 1).await, [11]);
        stop(bus).await;
        drop(store);
        let (bus, _store) = archiving(home, &path).await;
        let heard = Heard::new();
        bus.register(noting(&heard, "archive.late", StartAt::Beginning)).await.expect("its id is free");
        within(bus.idle()).await;
        assert_eq!(heard.all(), orders(1..12), "a listener that comes later begins in the archive");
        bus.reset("archive.late", StartAt::Beginning, async |_| Ok::<_, Error>(())).await.expect("it runs");
        within(bus.idle()).await;
        assert_eq!(heard.all()[11..], orders(1..12));
        bus.tidy().await.expect("tidies");
        stop(bus).await;
        assert_eq!(archived(&path), (1..12).collect::<Vec<_>>());
        assert_eq!(segments(&path).len(), 1, "small segments are written anew with what follows");
    }

    async fn done_events_are_kept_deleted_or_archived_as_is_said(home: &dyn Home) {
        let (_root, path) = folder();
        let mut next = START;
        for (mode, is_kept) in [("kept", true), ("deleted", false), ("archived", true)] {
            let store = home.open();
            let bus = match mode {
                "kept" => lean(store.clone()).retention(Retention::default()),
                "deleted" => lean(store.clone()),
                _ => lean(store.clone()).archive(ArchiveFolder::open(&path).expect("an archive opens")),
            };
            let bus = bus.start().await.expect("the bus starts");
            place(&bus, 1..4).await;
            bus.tidy().await.expect("tidies");
            assert_eq!(in_log(&*store).await.is_empty(), mode != "kept", "{mode}");
            let first = within(bus.stream_from::<Placed>(next).expect("it is stored").next()).await;
            assert_eq!(first.expect("the bus runs").is_ok(), is_kept, "{mode}");
            next = bus.log_end();
            stop(bus).await;
        }
    }

    async fn a_crash_between_archiving_and_removing_shows_nothing_twice(home: &dyn Home) {
        let (_root, path) = folder();
        let store = home.open();
        let bus = lean(store.clone()).retention(Retention::keep_forever()).start().await.expect("the bus starts");
        place(&bus, 1..6).await;
        let archive = ArchiveFolder::open(&path).expect("an archive opens");
        let events = store.read_log(START, 3, usize::MAX).await.expect("reads");
        archive.append(START..Position(4), true, &events).expect("is written");
        drop(archive);
        stop(bus).await;
        drop(store);
        let (bus, store) = archiving(home, &path).await;
        let mut stream = bus.stream_from::<Placed>(START).expect("it is stored");
        assert_eq!(read(&mut stream, 5).await, [1, 2, 3, 4, 5]);
        bus.tidy().await.expect("tidies");
        assert!(in_log(&*store).await.is_empty());
        stop(bus).await;
        assert_eq!(archived(&path), [1, 2, 3, 4, 5]);
    }

    async fn what_was_pruned_before_there_was_an_archive_is_told_as_a_gap(home: &dyn Home) {
        let (_root, path) = folder();
        let bus = lean(home.open()).start().await.expect("the bus starts");
        place(&bus, 1..4).await;
        bus.tidy().await.expect("tidies");
        stop(bus).await;
        let (bus, _store) = archiving(home, &path).await;
        place(&bus, 4..6).await;
        bus.tidy().await.expect("tidies");
        let mut stream = bus.stream_from::<Placed>(START).expect("it is stored");
        let gap = within(stream.next()).await.expect("the bus runs").expect_err("they are nowhere");
        assert!(matches!(gap, StreamError::Gap { from: START, to: Position(4) }), "{gap}");
        assert_eq!(read(&mut stream, 2).await, [4, 5]);
        stop(bus).await;
        assert_eq!(archived(&path), [4, 5]);
    }

    async fn an_erased_event_is_in_the_archive_no_more(home: &dyn Home) {
        let (_root, path) = folder();
        let (bus, _store) = archiving(home, &path).await;
        place(&bus, 1..6).await;
        bus.tidy().await.expect("tidies");
        let mut stream = bus.stream_from::<Placed>(Position(3)).expect("it is stored");
        let third = within(stream.next()).await.expect("the bus runs").expect("an entry").metadata.id;
        assert_eq!(bus.erase(third).await.expect("erases"), Erasure::Done { parked: 0 });
        assert_eq!(bus.erase(third).await.expect("answers"), Erasure::NotStored);
        let mut stream = bus.stream_from::<Placed>(START).expect("it is stored");
        assert_eq!(read(&mut stream, 4).await, [1, 2, 4, 5]);
        stop(bus).await;
        assert_eq!(archived(&path), [1, 2, 4, 5]);
    }

    async fn an_archive_that_cannot_be_written_to_leaves_all_in_the_log_and_is_told(home: &dyn Home) {
        let (_root, path) = folder();
        let (clock, told, broken) = (MovedClock::default(), Heard::new(), Arc::new(AtomicBool::new(true)));
        let archive = Breaking { archive: ArchiveFolder::open(&path).expect("an archive opens"), broken: broken.clone() };
        let (store, tell) = (home.open(), told.clone());
        let bus = lean(store.clone())
            .clock(clock.clone())
            .archive(archive)
            .observer(move |notice: &Notice<'_>| if let Notice::ArchiveFailed { .. } = notice { tell.note(notice.to_string()) })
            .start()
            .await
            .expect("the bus starts");
        place(&bus, 1..4).await;
        bus.tidy().await.expect_err("the disk is full");
        until(|| clock.sleepers() > 0).await;
        clock.advance(MINUTE);
        until(|| told.len() == 1).await;
        assert_eq!((in_log(&*store).await, bus.counts().archive_failures), (vec![1, 2, 3], 1));
        assert!(told.all()[0].contains("no room"), "{}", told.all()[0]);
        broken.store(false, Ordering::SeqCst);
        until(|| clock.sleepers() > 0).await;
        clock.advance(MINUTE);
        within(async { while !in_log(&*store).await.is_empty() { tokio::task::yield_now().await } }).await;
        stop(bus).await;
        assert_eq!(archived(&path), [1, 2, 3]);
    }

    async fn a_store_that_is_behind_its_archive_is_refused_with_what_to_do(home: &dyn Home) {
        let (_root, path) = folder();
        let archive = ArchiveFolder::open(&path).expect("an archive opens");
        archive.append(START..Position(9), true, &[]).expect("is written");
        match lean(home.open()).archive(archive).start().await.map(drop) {
            Err(error @ StartError::ArchiveAhead { archive: 9, store: 1 }) => {
                assert!(error.to_string().contains("archive of its own"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// An archive that has no room as long as it is broken.
struct Breaking {
    archive: ArchiveFolder,
    broken: Arc<AtomicBool>,
}

impl Archive for Breaking {
    fn extent(&self) -> Option<Range<Position>> {
        self.archive.extent()
    }

    fn append(&self, range: Range<Position>, is_whole: bool, events: &[LogEvent]) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::backend("write a segment of the archive", "no room"));
        }
        self.archive.append(range, is_whole, events)
    }

    fn read(&self, from: Position, max_events: usize, max_bytes: usize) -> Result<Vec<LogEvent>, StoreError> {
        self.archive.read(from, max_events, max_bytes)
    }

    fn erase(&self, event: Uuid) -> Result<bool, StoreError> {
        self.archive.erase(event)
    }
}

#[tokio::test]
async fn a_flipped_bit_is_named_and_never_served() {
    let (_root, path) = folder();
    let (bus, _store) = archiving(&crate::stores::Memory::new(), &path).await;
    place(&bus, 1..4).await;
    bus.tidy().await.expect("tidies");
    let segment = segments(&path).pop().expect("a segment");
    let mut bytes = fs::read(&segment).expect("reads");
    let last = bytes.len() - 9;
    bytes[last] ^= 4;
    fs::write(&segment, bytes).expect("writes");
    let wrong = ArchiveFolder::look(&path).expect("is there").verify().expect("reads");
    assert!(matches!(&wrong[..], [StoreError::Damaged { what, .. }] if what.contains("00000001-")), "{wrong:?}");
    let mut stream = bus.stream_from::<Placed>(START).expect("it is stored");
    let refused = within(stream.next()).await.expect("the bus runs").expect_err("not served");
    assert!(matches!(refused, StreamError::Store(StoreError::Damaged { .. })), "{refused}");
    // What follows is not written into it, and is read.
    place(&bus, 4..6).await;
    bus.tidy().await.expect("tidies");
    assert_eq!(segments(&path).len(), 2);
    let mut stream = bus.stream_from::<Placed>(Position(4)).expect("it is stored");
    assert_eq!(read(&mut stream, 2).await, [4, 5]);
    stop(bus).await;
}

#[tokio::test]
async fn what_a_crash_leaves_beside_the_segments_is_passed_over_and_goes() {
    let (_root, path) = folder();
    let home = crate::stores::Memory::new();
    let (bus, _store) = archiving(&home, &path).await;
    place(&bus, 1..4).await;
    bus.tidy().await.expect("tidies");
    let small = segments(&path).pop().expect("a segment");
    let (small_bytes, new) = (fs::read(&small).expect("reads"), path.join("aftercommit.archive.new"));
    place(&bus, 4..6).await;
    bus.tidy().await.expect("tidies");
    stop(bus).await;
    fs::write(&small, small_bytes).expect("writes");
    fs::write(&new, b"half a segment").expect("writes");
    assert_eq!(archived(&path), [1, 2, 3, 4, 5], "each once");
    let (bus, _store) = archiving(&home, &path).await;
    assert!(!new.exists() && !small.exists());
    stop(bus).await;
    assert_eq!(archived(&path), [1, 2, 3, 4, 5]);
    fs::write(path.join("notes.txt"), b"of somebody else").expect("writes");
    assert!(
        matches!(ArchiveFolder::open(&path), Err(StoreError::NotAStore { .. })),
        "what is not ours is left as it is"
    );
}
