//! Where a store's data lies, so that it can be opened again and again; and short forms the tests are written in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::adapters::memory::MemoryStore;
use aftercommit::adapters::redb::RedbStore;
use aftercommit::adapters::sled::SledStore;
use aftercommit::clock::Timestamp;
use aftercommit::error::{Error, StoreError, UnitError};
use aftercommit::event::{Envelope, EventHeader, Metadata};
use aftercommit::store::embedded::EmbeddedStore;
use aftercommit::store::{
    CommitError, CommitRequest, CursorChange, Due, Durability, LogEvent, Position, Receipt, Remembered, Retention,
    Settlement, Store, TableSpec, Unit,
};
use aftercommit::testing::MovedClock;
use parking_lot::Mutex;
use uuid::Uuid;

/// Where a store's data lies.
pub(crate) trait Place {
    /// How many bytes one unit may write.
    const UNIT_BYTES: usize = 1024 * 1024;

    fn new() -> Self;
    /// Opens the data; what was opened before must be dropped.
    fn open(&self) -> Arc<dyn Store> {
        self.try_open().expect("opens")
    }
    fn try_open(&self) -> Result<Arc<dyn Store>, StoreError>;
}

pub(crate) struct InMemory(Mutex<Option<MemoryStore>>);

impl Place for InMemory {
    fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn try_open(&self) -> Result<Arc<dyn Store>, StoreError> {
        let mut held = self.0.lock();
        let store = match &*held {
            None => MemoryStore::new(),
            Some(before) => before.reopen()?,
        };
        *held = Some(store.clone());
        Ok(Arc::new(store))
    }
}

/// A store that lies in a folder.
pub(crate) trait Disk: Place {
    /// The engine's name.
    const ENGINE: &'static str;
    /// What the engine's files are called in the folder `store`.
    const FILES: &'static str;

    /// Opens the store in `path`, waiting so long for whoever holds it.
    fn within(wait: Duration, path: &Path) -> Result<Arc<dyn Store>, StoreError>;

    /// Opens the store in `path`, with time enough for who lets it go.
    fn at(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Self::within(Duration::from_secs(60), path)
    }

    /// As [`at`](Self::at), with every check that is asked for.
    fn checked(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Self::at(path)
    }
}

pub(crate) struct OnSled(tempfile::TempDir);

impl Place for OnSled {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn try_open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Self::at(self.0.path())
    }
}

impl Disk for OnSled {
    const ENGINE: &'static str = "sled";
    const FILES: &'static str = "sled";

    fn within(wait: Duration, path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(SledStore::options().cache_bytes(16 << 20).wait(wait).open(path)?))
    }
}

pub(crate) struct OnRedb(tempfile::TempDir);

impl Place for OnRedb {
    const UNIT_BYTES: usize = 16 * 1024 * 1024;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn try_open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Self::at(self.0.path())
    }
}

impl Disk for OnRedb {
    const ENGINE: &'static str = "redb";
    const FILES: &'static str = "data.redb";

    fn within(wait: Duration, path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(RedbStore::options().cache_bytes(16 << 20).wait(wait).open(path)?))
    }

    fn checked(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(RedbStore::options().cache_bytes(16 << 20).wait(Duration::from_secs(60)).check(true).open(path)?))
    }
}

/// Writes each promise, a generic function of this name, as a test on every store.
macro_rules! on_every_store {
    ($($promise:ident)*) => {
        on_place! { memory InMemory $($promise)* }
        on_every_disk! { $($promise)* }
    };
}

/// Writes each promise as a test on every store that lies in a folder.
macro_rules! on_every_disk {
    ($($promise:ident)*) => {
        on_place! { sled OnSled $($promise)* }
        on_place! { redb OnRedb $($promise)* }
    };
}

/// Writes each promise as a test on one store.
macro_rules! on_place {
    ($module:ident $place:ident $($promise:ident)*) => {
        mod $module {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise::<crate::place::$place>().await;
            })*
        }
    };
}

fn shape() -> String {
    "rows(bytes -> bytes)".to_owned()
}

pub(crate) const ROWS: TableSpec = TableSpec { name: "test.rows", shape, formerly: &[] };
pub(crate) const OTHER: TableSpec = TableSpec { name: "test.other", shape, formerly: &[] };

pub(crate) fn event(body: impl Into<Vec<u8>>) -> Envelope {
    let metadata = Metadata::new(Uuid::from_u128(7), Timestamp(1), None);
    Envelope { header: EventHeader::new(metadata, "test.happened", 1), body: body.into() }
}

/// An event published at `now`.
pub(crate) fn timed(mut event: Envelope, now: Timestamp) -> Envelope {
    event.header.metadata.time = now;
    event
}

pub(crate) fn logged(body: impl Into<Vec<u8>>) -> Envelope {
    let mut event = event(body);
    event.header.logged = true;
    event
}

/// The embedded store behind the port.
pub(crate) fn embedded(store: &dyn Store) -> &EmbeddedStore {
    store.as_embedded().expect("an embedded store")
}

/// Tells a store what to keep of what is done; without, it keeps everything.
pub(crate) async fn retain(store: &dyn Store, retention: Retention, clock: &MovedClock) {
    embedded(store).retain(retention, Arc::new(clock.clone())).await.expect("is open");
}

pub(crate) fn settle(listener: &str, change: CursorChange) -> Settlement {
    Settlement { listener: Arc::from(listener), change }
}

pub(crate) fn done(listener: &str, position: u64) -> Settlement {
    settle(listener, CursorChange::Done { position: Position(position), covers: position..position + 1 })
}

pub(crate) fn start(listener: &str, from: u64) -> Settlement {
    settle(listener, CursorChange::Start { from: Position(from), unasked_below: Position(0) })
}

pub(crate) async fn begin(store: &dyn Store) -> Box<dyn Unit> {
    store.begin().await.expect("begins")
}

pub(crate) async fn commit(unit: Box<dyn Unit>) -> Result<Receipt, CommitError> {
    unit.commit(CommitRequest::default()).await
}

pub(crate) async fn put(store: &dyn Store, key: &[u8], value: &[u8]) {
    let mut unit = begin(store).await;
    unit.rows().expect("rows").put(&ROWS, key.to_vec(), value.to_vec()).expect("puts");
    commit(unit).await.expect("commits");
}

pub(crate) fn get(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    store.reader().expect("reader").get(&ROWS, key).expect("reads")
}

pub(crate) fn cell(store: &dyn Store, key: &[u8]) -> Option<i64> {
    get(store, key).map(|bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

/// Commits `events` and `settlements` in a unit of their own.
pub(crate) async fn request(
    store: &dyn Store,
    events: Vec<Envelope>,
    settlements: Vec<Settlement>,
) -> Result<Receipt, CommitError> {
    let durability = Durability::Flush;
    begin(store).await.commit(CommitRequest { durability, events, settlements }).await
}

pub(crate) async fn publish(store: &dyn Store, events: Vec<Envelope>) -> Vec<u64> {
    let receipt = request(store, events, Vec::new()).await.expect("commits");
    receipt.positions.into_iter().map(|position| position.0).collect()
}

/// An event for `time`.
pub(crate) fn later(time: u64, body: impl Into<Vec<u8>>) -> Envelope {
    let mut envelope = event(body);
    let digest = u128::from(crc32fast::hash(&envelope.body));
    envelope.header.metadata.id = Uuid::from_u128(u128::from(time) << 64 | digest << 32 | envelope.body.len() as u128);
    envelope.header.metadata.time = Timestamp(time);
    envelope
}

/// An id that is remembered until a time.
pub(crate) fn remembered(scope: &str, id: &[u8], until: u64) -> Remembered {
    let (scope, id, event) = (scope.to_owned(), id.to_vec(), Some(Uuid::from_u128(7)));
    Remembered { scope, id, event, note: Vec::new(), until: Timestamp(until) }
}

/// Schedules `events` in a unit of their own.
pub(crate) async fn schedule(store: &dyn Store, events: Vec<Envelope>) {
    let mut unit = begin(store).await;
    events.into_iter().for_each(|event| unit.schedule(event));
    commit(unit).await.expect("commits");
}

/// Remembers an id in a unit of its own.
pub(crate) async fn remember(store: &dyn Store, one: Remembered) {
    let mut unit = begin(store).await;
    unit.remember(one).await.expect("remembers");
    commit(unit).await.expect("commits");
}

/// The scheduled events, by due time and body.
pub(crate) async fn scheduled(store: &dyn Store) -> Vec<(u64, Vec<u8>)> {
    let all = store.scheduled(Due::default(), usize::MAX, usize::MAX).await.expect("reads");
    all.into_iter().map(|one| (one.due.time.0, one.envelope.body)).collect()
}

pub(crate) async fn log(store: &dyn Store) -> Vec<LogEvent> {
    store.read_log(Position(0), usize::MAX, usize::MAX).await.expect("reads")
}

pub(crate) async fn positions(store: &dyn Store) -> Vec<u64> {
    log(store).await.into_iter().map(|event| event.position.0).collect()
}

pub(crate) fn is_conflict(outcome: &Result<Receipt, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Refused(error)) if error.is_conflict())
}

pub(crate) fn is_below_floor(outcome: &Result<Receipt, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Refused(Error::Unit(UnitError::BelowFloor { .. }))))
}

pub(crate) fn is_settled(outcome: &Result<Receipt, CommitError>, at: u64) -> bool {
    matches!(outcome,
        Err(CommitError::Refused(Error::Unit(UnitError::AlreadySettled { position, .. }))) if *position == at)
}

pub(crate) fn is_closed<T>(outcome: Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Closed))
}
