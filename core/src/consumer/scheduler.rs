//! What a store keeps until a time: scheduled events enter the log when they are due, and ids are forgotten once they are free.
//!
//! An event leaves the schedule and enters the log in one commit, so that it is in one of them at every moment, and in the log once.
//! Nobody is called here: from then on it is owed like any other. Many that are due at once take several commits, in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;

use super::Ground;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::Envelope;
use crate::listener::exponential;
use crate::observe::Notice;
use crate::store::{CommitError, CommitRequest, Due, Scheduled, Unit, Upcoming};

/// How many events, and about how many bytes of them, enter the log in one commit.
const EVENTS: usize = 64;
const BYTES: usize = 128 << 10;
/// How many ids are forgotten in one commit.
const IDS: usize = 64;
/// How long is slept at most, because a machine's clock may be set; and how long free ids gather before they are forgotten.
const MINUTE: Duration = Duration::from_secs(60);
/// Under which name the observer is told of it.
pub(super) const NAME: &str = "scheduled events";

/// Is told of events that have entered the log.
pub(crate) trait Entered: Send + Sync + 'static {
    /// They are committed, in this order.
    fn entered(&self, events: &[Envelope]);
}

/// How the scheduler stands, for those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When free ids were last looked for.
    swept: AtomicU64,
    /// Until when it rests after a storage error; 0 if it does not.
    rests_until: AtomicU64,
    ended: AtomicBool,
}

impl Standing {
    /// Whether nothing that is due is left to do; with `or_waiting`, a rest after a storage error does not count.
    pub(super) fn is_idle(&self, upcoming: Upcoming, now: Timestamp, or_waiting: bool) -> bool {
        let rests = || or_waiting && self.rests_until.load(Ordering::SeqCst) > now.0;
        self.has_ended() || rests() || self.next(upcoming).is_none_or(|next| next > now)
    }

    /// When something is to be done next.
    fn next(&self, upcoming: Upcoming) -> Option<Timestamp> {
        upcoming.due.into_iter().chain(self.next_sweep(upcoming)).min()
    }

    /// Free ids gather, so that there is not a commit for each.
    fn next_sweep(&self, upcoming: Upcoming) -> Option<Timestamp> {
        let not_before = match self.swept.load(Ordering::SeqCst) {
            0 => Timestamp(0),
            swept => Timestamp(swept).saturating_add(MINUTE),
        };
        upcoming.expires.map(|expires| expires.max(not_before))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// Moves what is due, one commit after the other.
pub(super) struct Scheduler {
    ground: Arc<Ground>,
    standing: Arc<Standing>,
    entered: Arc<dyn Entered>,
    /// How many events are tried to move at once: fewer after the store refused so many.
    events: usize,
    /// How often in a row the store failed.
    failures: u32,
}

impl Scheduler {
    pub(super) fn new(ground: Arc<Ground>, standing: Arc<Standing>, entered: Arc<dyn Entered>) -> Self {
        Self { ground, standing, entered, events: EVENTS, failures: 0 }
    }

    /// Works until the bus stops, or the store fails for good.
    pub(super) async fn run(mut self) {
        let mut upcoming = self.ground.store.upcoming();
        let mut stop = self.ground.stop.clone();
        while !stop.is_stopping() {
            // Read before it is looked at what is due, so that a ring meanwhile is not missed.
            let next = *upcoming.borrow_and_update();
            let now = self.ground.clock.now();
            let done = match self.step(next, now).await {
                Ok(done) => {
                    self.failures = 0;
                    done
                }
                Err(cause) => {
                    if self.is_final(&cause) {
                        self.ground.watch.tell(&Notice::WorkerStopped { listener: NAME, cause: &cause });
                        return;
                    }
                    self.rest(&cause).await;
                    true
                }
            };
            // Told before it goes on, so that who waits for what is due looks again.
            self.ground.activity.touch();
            if done {
                continue;
            }
            let wake = self.standing.next(next).map(|next| next.min(now.saturating_add(MINUTE)));
            tokio::select! {
                biased;
                () = stop.stopped() => {}
                rung = upcoming.changed() => if rung.is_err() { return },
                () = self.sleep_until(wake) => {}
            }
        }
    }

    /// Sleeps until `wake`, or for ever.
    async fn sleep_until(&self, wake: Option<Timestamp>) {
        match wake {
            Some(wake) => self.ground.clock.sleep_until(wake).await,
            None => std::future::pending().await,
        }
    }

    /// Does some of what is due at `now`; answers whether there may be more.
    async fn step(&mut self, next: Upcoming, now: Timestamp) -> Result<bool, StoreError> {
        if next.due.is_some_and(|due| due <= now) {
            return self.move_due(now).await.map(|()| true);
        }
        if self.standing.next_sweep(next).is_some_and(|sweep| sweep <= now) {
            return self.forget_expired(now).await.map(|()| true);
        }
        Ok(false)
    }

    /// Lets the first that are due enter the log.
    async fn move_due(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let page = self.ground.store.scheduled(Due::default(), self.events, BYTES).await?;
        let due: Vec<Envelope> =
            page.into_iter().take_while(|one| one.due.time <= now).map(|Scheduled { envelope, .. }| envelope).collect();
        let mut unit = self.ground.store.begin().await?;
        for envelope in &due {
            if !unit.unschedule(envelope.header.metadata.id).await? {
                // Cancelled since it was read: what is due is read again.
                return Ok(());
            }
        }
        let told = due.clone();
        match self.commit(unit, due).await? {
            Came::Committed => {
                self.events = EVENTS;
                self.entered.entered(&told);
            }
            Came::Conflict => {}
            Came::TooLarge => self.events = (self.events / 2).max(1),
        }
        Ok(())
    }

    /// Forgets some of the ids that are free again.
    async fn forget_expired(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let mut unit = self.ground.store.begin().await?;
        let forgotten = unit.forget_expired(now, IDS.min(self.events)).await?;
        match self.commit(unit, Vec::new()).await? {
            // Only once all are gone is it waited for more to gather.
            Came::Committed if forgotten < IDS.min(self.events) => {
                self.events = EVENTS;
                self.standing.swept.store(now.0.max(1), Ordering::SeqCst);
            }
            Came::Committed | Came::Conflict => {}
            Came::TooLarge => self.events = (self.events / 2).max(1),
        }
        Ok(())
    }

    async fn commit(&self, unit: Box<dyn Unit>, events: Vec<Envelope>) -> Result<Came, StoreError> {
        let is_single = self.events == 1;
        let request = CommitRequest { durability: self.ground.durability, events, ..CommitRequest::default() };
        match unit.commit(request).boxed().await {
            Ok(_) => Ok(Came::Committed),
            Err(CommitError::Refused(error)) if error.is_conflict() => Ok(Came::Conflict),
            Err(CommitError::Refused(crate::Error::Unit(crate::error::UnitError::TooManyWrites { .. })))
                if !is_single =>
            {
                Ok(Came::TooLarge)
            }
            Err(CommitError::Refused(crate::Error::Store(cause)) | CommitError::InDoubt(cause)) => Err(cause),
            Err(CommitError::Refused(error)) => {
                Err(StoreError::backend("let events that are due enter the log", error))
            }
        }
    }

    fn is_final(&self, cause: &StoreError) -> bool {
        matches!(cause, StoreError::Poisoned { .. } | StoreError::Closed | StoreError::Damaged { .. })
            || self.ground.store.poisoned().is_some()
    }

    /// Waits after a storage error, longer each time.
    async fn rest(&mut self, cause: &StoreError) {
        self.failures = self.failures.saturating_add(1);
        let wait = exponential(Duration::from_millis(100)).after(self.failures);
        let due = self.ground.clock.now().saturating_add(wait);
        self.ground.watch.tell(&Notice::WorkerFailed { listener: NAME, cause, due });
        let mut stop = self.ground.stop.clone();
        let slept = self.ground.clock.sleep_until(due);
        self.standing.rests_until.store(due.0, Ordering::SeqCst);
        self.ground.activity.touch();
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = slept => {}
        }
        self.standing.rests_until.store(0, Ordering::SeqCst);
    }
}

/// What a commit came to.
enum Came {
    Committed,
    /// Something of it was cancelled or used anew meanwhile.
    Conflict,
    /// The store takes less at once.
    TooLarge,
}
