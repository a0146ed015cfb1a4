//! Lockers that others keep: what the port asks of each, a keeper whose leases end, and one that two processes of this machine share.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aftercommit::bus::Fences;
use aftercommit::clock::{Clock, Timestamp};
use aftercommit::error::LockError;
use aftercommit::lock::{Fence, KeyedLock, Lease, Locker};
use aftercommit::prelude::*;
use aftercommit::testing::MovedClock;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::scene::bus_on;

const MINUTE: Duration = Duration::from_secs(60);

/// The scope of a lock, and its key.
type Key = (String, Vec<u8>);

/// A lock service as one would find it on a network: it lends for a time, by its own clock.
#[derive(Clone)]
struct Keeper {
    clock: MovedClock,
    lent: Arc<Mutex<HashMap<Key, Lent>>>,
}

/// The latest lease of a key.
struct Lent {
    fence: u64,
    until: Timestamp,
}

struct KeptLease {
    keeper: Keeper,
    key: (String, Vec<u8>),
    fence: u64,
}

impl Keeper {
    fn new(clock: &MovedClock) -> Self {
        Self { clock: clock.clone(), lent: Arc::default() }
    }

    fn try_lend(&self, key: &(String, Vec<u8>), time: Duration) -> Option<u64> {
        let (now, mut lent) = (self.clock.now(), self.lent.lock());
        let latest = lent.entry(key.clone()).or_insert(Lent { fence: 0, until: Timestamp(0) });
        if latest.until > now {
            return None;
        }
        *latest = Lent { fence: latest.fence + 1, until: now.saturating_add(time) };
        Some(latest.fence)
    }
}

impl KeptLease {
    /// Until when it may be held from now on; `false` if it had ended.
    fn extend(&self, time: Duration) -> bool {
        let (now, mut lent) = (self.keeper.clock.now(), self.keeper.lent.lock());
        match lent.get_mut(&self.key).filter(|latest| latest.fence == self.fence && latest.until > now) {
            Some(latest) => {
                latest.until = now.saturating_add(time);
                true
            }
            None => false,
        }
    }
}

impl Locker for Keeper {
    fn lease<'a>(
        &'a self,
        scope: &'a str,
        key: &'a [u8],
        wait: Duration,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Lease>, LockError>> {
        async move {
            let (key, over) = ((scope.to_owned(), key.to_vec()), self.clock.now().saturating_add(wait));
            loop {
                if let Some(fence) = self.try_lend(&key, lease) {
                    return Ok(Box::new(KeptLease { keeper: self.clone(), key, fence }) as Box<dyn Lease>);
                }
                if self.clock.now() >= over {
                    return Err(LockError::Timeout { key: scope.to_owned(), waited: wait, held_by: Vec::new() });
                }
                yield_now().await;
            }
        }
        .boxed()
    }
}

impl Lease for KeptLease {
    fn fence(&self) -> Fence {
        Fence(self.fence)
    }

    fn renew(&mut self, lease: Duration) -> BoxFuture<'_, Result<bool, LockError>> {
        let renewed = self.extend(lease);
        Box::pin(std::future::ready(Ok(renewed)))
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), LockError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for KeptLease {
    fn drop(&mut self) {
        self.extend(Duration::ZERO);
    }
}

/// Locks of files, which the operating system keeps for all processes of a machine, and gives back when one of them ends.
struct FileLocker(PathBuf);

struct FileLease(File, u64);

impl FileLocker {
    fn open(&self, scope: &str, key: &[u8]) -> Result<File, LockError> {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = self.0.join(format!("{scope}.{name}.lock"));
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(file);
        opened.map_err(|error| LockError::Keeper(error.into()))
    }

    /// The next fence, which is on the disk before anybody has it.
    fn next_fence(file: &mut File) -> std::io::Result<u64> {
        let mut last = String::new();
        file.read_to_string(&mut last)?;
        let next = last.parse::<u64>().unwrap_or_default() + 1;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(next.to_string().as_bytes())?;
        file.sync_data()?;
        Ok(next)
    }
}

impl Locker for FileLocker {
    fn lease<'a>(
        &'a self,
        scope: &'a str,
        key: &'a [u8],
        wait: Duration,
        _lease: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Lease>, LockError>> {
        async move {
            let mut file = self.open(scope, key)?;
            let begun = std::time::Instant::now();
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::WouldBlock) if begun.elapsed() < wait => yield_now().await,
                    Err(TryLockError::WouldBlock) => {
                        return Err(LockError::Timeout { key: scope.to_owned(), waited: wait, held_by: Vec::new() });
                    }
                    Err(TryLockError::Error(error)) => return Err(LockError::Keeper(error.into())),
                }
            }
            let fence = Self::next_fence(&mut file).map_err(|error| LockError::Keeper(error.into()))?;
            Ok(Box::new(FileLease(file, fence)) as Box<dyn Lease>)
        }
        .boxed()
    }
}

impl Lease for FileLease {
    fn fence(&self) -> Fence {
        Fence(self.1)
    }

    fn renew(&mut self, _lease: Duration) -> BoxFuture<'_, Result<bool, LockError>> {
        // It ends with its process, and not before.
        Box::pin(std::future::ready(Ok(true)))
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), LockError>> {
        let released = self.0.unlock().map_err(|error| LockError::Keeper(error.into()));
        Box::pin(std::future::ready(released))
    }
}

/// What the port asks of every adapter.
async fn keeps_its_obligations(locker: &dyn Locker) {
    let lease = async |key: &[u8]| locker.lease("test", key, Duration::ZERO, MINUTE).await;
    let first = lease(b"a").await.expect("it is free");
    assert!(matches!(lease(b"a").await, Err(LockError::Timeout { .. })), "one holder at a time");
    let other = lease(b"b").await.expect("another key is free");
    let elsewhere = locker.lease("other", b"a", Duration::ZERO, MINUTE).await.expect("another scope is free");
    let mut fence = first.fence();
    first.release().await.expect("given back");
    drop((other, elsewhere));
    for _ in 0..3 {
        let mut next = lease(b"a").await.expect("it is free again");
        assert!(next.fence() > fence, "{:?} after {fence:?}", next.fence());
        assert!(next.renew(MINUTE).await.expect("the keeper answers"));
        fence = next.fence();
        // Dropped without a word, it is given back.
    }
    let abandoned = locker.lease("test", b"a", MINUTE, MINUTE);
    drop(abandoned);
    lease(b"a").await.expect("who went away while it asked left no lock behind").release().await.expect("given back");
}

#[tokio::test]
async fn adapters_of_the_port_keep_its_obligations() {
    keeps_its_obligations(&Keeper::new(&MovedClock::default())).await;
    let folder = tempfile::tempdir().expect("a folder");
    keeps_its_obligations(&FileLocker(folder.path().to_owned())).await;
}

const SHELF: Table<u32, i64> = Table::new("lockers.shelf");
const FENCES: Fences<u32> = Fences::new("lockers.fences");

async fn take(bus: &Bus, lease: &dyn Lease) -> Result<(), Error> {
    let unit = bus.transaction(async |tx| {
        FENCES.pass(tx, &7, lease.fence())?;
        let left = SHELF.get(tx, &7)?.unwrap_or_default();
        SHELF.put(tx, &7, &(left - 1))
    });
    unit.await.map(drop)
}

crate::on_embedded_stores! {
    /// It stood still while its lease ended and another had it: it knows nothing of that, and is refused by the store.
    async fn who_works_on_after_its_lease_has_ended_writes_nothing(home: &dyn Home) {
        let (clock, bus) = (MovedClock::default(), bus_on(home).start().await.expect("a bus"));
        bus.transaction(async |tx| SHELF.put(tx, &7, &100)).await.expect("committed");
        let keeper = Keeper::new(&clock);
        let lease = async || keeper.lease("shop", &[7], Duration::ZERO, MINUTE).await.expect("it is free");
        let mut late = lease().await;
        take(&bus, &*late).await.expect("it holds the lease");
        clock.advance(MINUTE);
        take(&bus, &*late).await.expect("its lease has ended, but nobody else had it");
        let next = lease().await;
        take(&bus, &*next).await.expect("it holds the lease");
        assert!(!late.renew(MINUTE).await.expect("the keeper answers"));
        let refused = take(&bus, &*late).await;
        assert!(matches!(refused, Err(Error::Lock(LockError::Fenced { .. }))), "{refused:?}");
        drop(late);
        assert!(keeper.lease("shop", &[7], Duration::ZERO, MINUTE).await.is_err(), "what it gives back is not the other's");
        take(&bus, &*next).await.expect("it holds the lease still");
        assert_eq!(SHELF.get(&mut bus.reader().expect("tables"), &7).expect("a read"), Some(96), "four of five");
        bus.shutdown(MINUTE).await.expect("stops");
    }
}

/// How a process of its own sells: the folder, its number, and by whose locks.
const ROLE: &str = "AFTERCOMMIT_SELLER";
const STOCK: &str = "stock";

fn stock(folder: &Path) -> u32 {
    let text = std::fs::read_to_string(folder.join(STOCK)).expect("the stock");
    text.parse().expect("a number")
}

fn set_stock(folder: &Path, units: u32) {
    std::fs::write(folder.join(STOCK), units.to_string()).expect("the stock is written");
}

/// What the two processes run; nothing where the test is run like any other.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [folder, number, whose] = role.split('|').collect::<Vec<_>>()[..] else { panic!("{role}") };
    let folder = Path::new(folder);
    match whose {
        "local" => sell_the_last(folder, number).await,
        _ => sell_all(folder).await,
    }
}

/// Sells the last unit under a local lock, once the other process has looked too.
async fn sell_the_last(folder: &Path, number: &str) {
    let locks: KeyedLock<u32> = KeyedLock::new();
    let _held = locks.lock(7).await;
    let left = stock(folder);
    std::fs::write(folder.join(format!("looked-{number}")), "").expect("a mark");
    while !(folder.join("looked-1").exists() && folder.join("looked-2").exists()) {
        yield_now().await;
    }
    if left > 0 {
        set_stock(folder, left - 1);
        println!("\nsold");
    }
}

/// Sells what there is, each unit under the lock that all processes ask for.
async fn sell_all(folder: &Path) {
    let locker = FileLocker(folder.to_owned());
    loop {
        let lease = locker.lease("shop", &[7], MINUTE, MINUTE).await.expect("it is given back soon");
        let left = stock(folder);
        if left == 0 {
            return;
        }
        set_stock(folder, left - 1);
        println!("\nsold\nfence {}", lease.fence().0);
    }
}

fn process(folder: &Path, number: u32, whose: &str) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "locks::lockers::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{}|{number}|{whose}", folder.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process")
}

/// Lets two processes sell so many units from one file; answers what each of them printed.
fn two_processes(units: u32, whose: &str) -> (u32, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    set_stock(folder.path(), units);
    let processes = [1, 2].map(|number| process(folder.path(), number, whose));
    let printed = processes.map(|process| {
        let ended = process.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", ended.status);
        String::from_utf8(ended.stdout).expect("text")
    });
    (stock(folder.path()), printed.iter().flat_map(|text| text.lines()).map(str::to_owned).collect())
}

fn sold(printed: &[String]) -> usize {
    printed.iter().filter(|line| *line == "sold").count()
}

#[test]
fn two_processes_oversell_under_local_locks() {
    let (left, printed) = two_processes(1, "local");
    assert_eq!((left, sold(&printed)), (0, 2), "both sold the last unit, each under `the` lock of it");
}

#[test]
fn two_processes_sell_exactly_what_there_is_under_a_lock_that_both_ask_for() {
    let (left, printed) = two_processes(100, "shared");
    assert_eq!((left, sold(&printed)), (0, 100));
    let mut fences: Vec<u64> = printed.iter().filter_map(|line| line.strip_prefix("fence ")?.parse().ok()).collect();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 100, "each lease had a fence of its own");
}
