//! A disk that refuses or hangs: a folder that may not be written, no room, an engine that does not come back. What was
//! acknowledged is there, it is told what was refused, and once the cause is gone everything goes on.
//!
//! Root is bound by permissions as anybody else here: the tests give away what lifts it above them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aftercommit::adapters::memory::MemoryEngine;
use aftercommit::error::StoreError;
use aftercommit::store::embedded::{Batch, EmbeddedStore, Engine, Journaled, Limits};
use aftercommit::store::{CommitRequest, Durability, Store};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::crash::{Child, child, unit, units_found};
use crate::faults::Faulty;
use crate::place::*;

on_every_disk! {
    a_folder_that_may_not_be_written_is_refused_and_left_as_it_was
    a_single_file_that_may_not_be_written_is_refused_or_harmless
    permissions_lost_while_it_runs_are_told_by_the_next_opening_and_nothing_is_lost
    without_room_a_store_is_not_opened_and_loses_nothing
    without_room_no_store_is_made_and_with_room_it_is
}

/// Runs `test` on a thread, and threads that it starts, which permissions bind.
fn bound_by_permissions<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut own = capabilities(None).expect("tells");
            let above = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            own.effective.remove(above);
            set_capabilities(None, own).expect("gives away");
            test()
        });
        thread.join().expect("no panic")
    })
}

/// Runs `test` as above, with what waits.
fn waiting<R: Send>(test: impl AsyncFnOnce() -> R + Send) -> R {
    bound_by_permissions(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test())
    })
}

/// Every file and folder below `path`, and itself.
fn all_in(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("reads") {
            found.extend(all_in(&entry.expect("reads").path()));
        }
    }
    found
}

fn mode(path: &Path, folder: u32, file: u32) {
    let mode = if path.is_dir() { folder } else { file };
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("changes the mode");
}

fn forbid(path: &Path) {
    mode(path, 0o555, 0o444);
}

fn allow(path: &Path) {
    mode(path, 0o755, 0o644);
}

fn contents(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    all_in(path)
        .into_iter()
        .map(|path| (path.clone(), path.is_file().then(|| fs::read(&path).expect("reads"))))
        .collect()
}

/// Whether it is told that permission is lacking, and for what.
fn is_forbidden(error: &StoreError) -> bool {
    let StoreError::Backend { action, cause } = error else { return false };
    let mut causes =
        std::iter::successors(Some(&**cause as &(dyn std::error::Error + 'static)), |error| error.source());
    !action.is_empty()
        && causes.any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == ErrorKind::PermissionDenied)
                || cause.to_string().contains("Permission denied")
        })
}

/// A store of twenty units, closed, whose engine has let go of everything.
async fn closed_store<D: Disk>(path: &Path) {
    let store = D::at(path).expect("opens");
    for number in 0..20 {
        unit(&*store, number).await.expect("commits");
    }
    store.close().await.expect("closes");
    drop(store);
    D::at(path).expect("opens").close().await.expect("closes");
}

/// Opened as usual it holds twenty units or more, and goes on.
async fn goes_on<D: Disk>(path: &Path, at_least: u64) {
    let store = D::at(path).expect("opens again");
    let found = units_found(&*store).await;
    assert!(found >= at_least, "{found} of {at_least}");
    unit(&*store, found).await.expect("commits");
    store.close().await.expect("closes");
}

async fn a_folder_that_may_not_be_written_is_refused_and_left_as_it_was<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("shop");
    waiting(async || {
        // Nothing is made where nothing may be.
        forbid(root.path());
        let refused = D::within(Duration::ZERO, &path).map(drop).expect_err("nothing can be made here");
        assert!(is_forbidden(&refused), "{refused:?}");
        allow(root.path());

        closed_store::<D>(&path).await;
        all_in(&path).iter().for_each(|one| forbid(one));
        let before = contents(&path);
        let refused = D::within(Duration::ZERO, &path).map(drop).expect_err("nothing can be written here");
        assert!(is_forbidden(&refused), "{refused:?}");
        assert!(contents(&path) == before, "it was touched");
        all_in(&path).iter().for_each(|one| allow(one));
        goes_on::<D>(&path, 20).await;
    });
}

async fn a_single_file_that_may_not_be_written_is_refused_or_harmless<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("shop");
    waiting(async || {
        closed_store::<D>(&path).await;
        let mut refusals = 0;
        for one in all_in(&path) {
            if !one.exists() {
                continue;
            }
            forbid(&one);
            match D::within(Duration::from_secs(60), &path) {
                Ok(store) => {
                    let found = units_found(&*store).await;
                    unit(&*store, found).await.expect("commits");
                    store.close().await.expect("closes");
                }
                Err(refused) => {
                    refusals += 1;
                    assert!(is_forbidden(&refused), "{one:?}: {refused:?}");
                }
            }
            if one.exists() {
                allow(&one);
            }
            goes_on::<D>(&path, 20).await;
        }
        assert!(refusals >= 3, "its lock file, its folder and its data are needed");
    });
}

async fn permissions_lost_while_it_runs_are_told_by_the_next_opening_and_nothing_is_lost<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("shop");
    waiting(async || {
        let store = D::at(&path).expect("opens");
        for number in 0..300 {
            if number == 100 {
                all_in(&path).iter().for_each(|one| forbid(one));
            }
            // What is open stays open.
            unit(&*store, number).await.expect("commits");
        }
        store.close().await.expect("closes");
        drop(store);
        let refused = D::within(Duration::ZERO, &path).map(drop).expect_err("nothing can be written here");
        assert!(is_forbidden(&refused), "{refused:?}");
        all_in(&path).iter().for_each(|one| allow(one));
        goes_on::<D>(&path, 300).await;
    });
}

/// How much room for any one file is tried, in the shell's blocks of 512 or 1,024 bytes.
const ROOMS: [u32; 5] = [0, 1, 64, 2_000, 4_000];

async fn without_room_a_store_is_not_opened_and_loses_nothing<D: Disk>() {
    for killed in [false, true] {
        let root = tempfile::tempdir().expect("a folder");
        let mut acknowledged = 0;
        if killed {
            let mut running = child::<D>(Child::Commit, root.path());
            assert_eq!(running.line(), "open");
            while acknowledged < 150 {
                acknowledged = running.line().parse::<u64>().expect("a number") + 1;
            }
            running.kill();
        } else {
            closed_store::<D>(root.path()).await;
            acknowledged = 20;
        }
        for room in ROOMS {
            let said = child::<D>(Child::Open { room }, root.path()).line();
            assert!(told_of_no_room(&said) || (room > 2_000 && said == "open"), "{room} blocks: {said}");
        }
        goes_on::<D>(root.path(), acknowledged).await;
    }
}

async fn without_room_no_store_is_made_and_with_room_it_is<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    for room in &ROOMS[..4] {
        let said = child::<D>(Child::Open { room: *room }, root.path()).line();
        assert!(told_of_no_room(&said), "{room} blocks: {said}");
    }
    goes_on::<D>(root.path(), 0).await;
}

/// Whether a child said what it could not do, and why.
fn told_of_no_room(said: &str) -> bool {
    said.starts_with("cannot ") && said.contains("File too large")
}

#[tokio::test]
async fn a_disk_that_hangs_makes_commits_wait_and_readers_go_on() {
    let engine = Faulty::new(None);
    let mut limits = Limits::default();
    limits.queue_units = 4;
    let store = EmbeddedStore::threaded(engine.clone(), limits).expect("opens");
    put(&store, b"before", b"1").await;
    engine.gate.shut();
    let mut commits = Vec::new();
    for number in 0..20u8 {
        let mut unit = begin(&store).await;
        unit.rows().expect("rows").put(&ROWS, vec![number], vec![number]).expect("puts");
        let mut commit = unit.commit(CommitRequest { durability: Durability::Sync, ..CommitRequest::default() });
        assert!(futures::poll!(&mut commit).is_pending());
        commits.push(commit);
    }
    engine.gate.wait_for_somebody();
    for commit in &mut commits {
        assert!(futures::poll!(commit).is_pending(), "nothing is acknowledged before it is on the disk");
    }
    assert_eq!(get(&store, b"before"), Some(b"1".to_vec()));
    assert_eq!(get(&store, &[0]), None, "nor is it read");
    assert!(store.poisoned().is_none());
    engine.gate.open();
    assert!(futures::future::join_all(commits).await.iter().all(Result::is_ok));
    for number in 0..20u8 {
        assert_eq!(get(&store, &[number]), Some(vec![number]));
    }
}

#[test]
fn an_engine_that_hangs_behind_the_journal_holds_nobody_up_until_as_much_again_has_gathered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let made = MemoryEngine::default();
    EmbeddedStore::create(&made).expect("creates");
    Journaled::create(&made, &path).expect("creates");
    let engine = Faulty::over(&made, None);
    let mut limits = Limits::default();
    limits.group_bytes = 8 * 1024;
    let journaled = Journaled::open(engine.clone(), &path, limits).expect("opens");
    // Each counts as 1 KiB: the fifth has the four before it handed to an engine that has nothing to do.
    let write = |number: u8| {
        journaled.apply(Batch::from([(vec![b'r', number], Some(vec![number; 100]))])).expect("applies");
        journaled.sync(Durability::Sync).expect("syncs");
    };
    let reads = |number: u8| assert_eq!(journaled.get(&[b'r', number]).expect("reads"), Some(vec![number; 100]));
    engine.gate.shut();
    (0..5).for_each(write);
    engine.gate.wait_for_somebody();
    (5..12).for_each(write);
    (0..12).for_each(reads);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| write(12));
        engine.gate.open();
        next.join().expect("it goes on once the engine has come back");
    });
    (0..13).for_each(reads);
}

#[test]
fn whoever_is_above_permissions_is_bound_by_them_here() {
    let folder = tempfile::tempdir().expect("a folder");
    bound_by_permissions(|| {
        forbid(folder.path());
        let told = fs::write(folder.path().join("file"), "text").expect_err("it may not be written");
        assert_eq!(told.kind(), ErrorKind::PermissionDenied);
        allow(folder.path());
    });
}
