//! The thread that commits, and the bounded queue in front of it.
//!
//! It takes one unit and whatever else waits, up to a group's limits. While a group is synced, by a thread beside it, the units of
//! the next one are taken in as they come. A unit that is alone is synced here: handing it over would take longer than it saves.
//! A future that waits for room hands its unit over even when it is dropped: from its first poll on it decides nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Limits;
use super::commit::{Answer, Applied, CommitCore, Open, Request, Task};
use super::shared::Shared;
use super::syncer::Syncer;
use crate::error::StoreError;
use crate::store::{CommitError, Durability};

/// The units that wait to be committed.
pub(super) struct Queue {
    line: Mutex<Line>,
    bell: Condvar,
    room: Arc<Semaphore>,
    limits: Limits,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    /// What became of the sync that was handed over.
    synced: Option<Result<(), StoreError>>,
    /// The committer waits for a sync, and need not be woken for a few units.
    is_patient: bool,
    /// Nothing more is taken in.
    ended: bool,
}

#[expect(clippy::large_enum_variant, reason = "nearly all of them are commits")]
enum Job {
    Commit { request: Request, bytes: usize, reply: oneshot::Sender<Answer>, _room: Option<OwnedSemaphorePermit> },
    Forget { listener: String, reply: oneshot::Sender<Result<(), StoreError>> },
    Close { is_clean: bool, reply: oneshot::Sender<Result<(), StoreError>> },
    Turn(Task),
}

/// What the committer does next.
enum Next {
    /// Nothing came for so long that what is not synced must be.
    Lingered,
    /// A sync that was handed over is done, or failed; these units came meanwhile.
    Synced(Result<(), StoreError>, Vec<Waiting>),
    Units(Vec<Waiting>),
    Job(Job),
    /// Nothing waits, or nothing came for long.
    Idle,
    Ended,
}

/// A unit that waits to be committed, with about how many bytes it writes.
struct Waiting {
    request: Request,
    bytes: usize,
    reply: oneshot::Sender<Answer>,
}

/// A unit that was polled for commit: it is queued at the latest when this is dropped.
struct HandOver {
    queue: Arc<Queue>,
    unit: Option<(Request, oneshot::Sender<Answer>)>,
}

impl HandOver {
    /// Puts the unit in the line, and answers whether it was taken in.
    fn queue(&mut self, room: Option<OwnedSemaphorePermit>) -> bool {
        self.unit.take().is_some_and(|(request, reply)| {
            let bytes = request.weight(&self.queue.limits);
            self.queue.send(Job::Commit { request, bytes, reply, _room: room })
        })
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        self.queue(None);
    }
}

impl Queue {
    fn new(limits: &Limits) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(limits.queue_units.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Self { line: Mutex::default(), bell: Condvar::new(), room, limits: *limits })
    }

    /// Commits a unit.
    pub(super) async fn commit(self: Arc<Self>, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        let room = self.room.clone();
        let mut hand_over = HandOver { queue: self, unit: Some((request, reply)) };
        let room = room.acquire_owned().await.ok();
        if !hand_over.queue(room) {
            return Err(StoreError::Closed.into());
        }
        answer.await.unwrap_or_else(|gone| {
            Err(CommitError::InDoubt(StoreError::backend(
                "learn from the committing thread what became of a unit",
                gone,
            )))
        })
    }

    /// Forgets a durable listener.
    pub(super) async fn forget(&self, listener: &str) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Forget { listener: listener.to_owned(), reply });
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs `task` between two groups, after what is queued.
    pub(super) fn turn(&self, task: Task) {
        self.send(Job::Turn(task));
    }

    /// Commits what is queued and closes the store, marked as closed in good order if `is_clean`.
    pub(super) async fn close(&self, is_clean: bool) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Close { is_clean, reply });
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes nothing more in; what is queued is still committed.
    pub(super) fn end(&self) {
        self.line.lock().ended = true;
        self.bell.notify_one();
    }

    /// Puts a job in the line, or drops it with its reply if nothing more is taken in; closing is the last.
    fn send(&self, job: Job) -> bool {
        let mut line = self.line.lock();
        if line.ended {
            return false;
        }
        line.ended = matches!(job, Job::Close { .. });
        line.jobs.push_back(job);
        if !line.is_patient || line.jobs.len() >= ENOUGH {
            self.bell.notify_one();
        }
        true
    }

    /// Tells the committer what became of the sync that it handed over.
    pub(super) fn synced(&self, synced: Result<(), StoreError>) {
        self.line.lock().synced = Some(synced);
        self.bell.notify_one();
    }

    /// What comes next, of units only what goes into a group of which so much was taken.
    fn next(&self, taken: Taken, wait: Wait) -> Next {
        let limits = &self.limits;
        let mut line = self.line.lock();
        loop {
            if let Some(synced) = line.synced.take() {
                return Next::Synced(synced, line.take(taken, limits));
            }
            if line.jobs.len() >= ENOUGH || !matches!(wait, Wait::Synced) {
                let units = line.take(taken, limits);
                if !units.is_empty() {
                    return Next::Units(units);
                }
            }
            match wait {
                // Whatever else there is to do waits for it.
                Wait::Synced => {
                    line.is_patient = true;
                    self.bell.wait(&mut line);
                    line.is_patient = false;
                }
                _ if !line.jobs.is_empty() => return line.jobs.pop_front().map_or(Next::Idle, Next::Job),
                _ if line.ended => return Next::Ended,
                Wait::No => return Next::Idle,
                Wait::Unsynced if self.bell.wait_for(&mut line, LINGER).timed_out() => return Next::Lingered,
                Wait::Unsynced => {}
                Wait::Aging if self.bell.wait_for(&mut line, limits.aging).timed_out() => return Next::Idle,
                Wait::Aging => {}
                Wait::Long => self.bell.wait(&mut line),
            }
        }
    }
}

impl Line {
    /// The units in front that still go into a group of which so much was taken.
    fn take(&mut self, Taken { units, mut bytes }: Taken, limits: &Limits) -> Vec<Waiting> {
        // The rest of the group's bytes is left for the committer's own removals, so that they never starve.
        let most = limits.group_bytes / 4 * 3;
        let mut taken = Vec::new();
        while units + taken.len() < limits.group_units.max(1) {
            match self.jobs.front() {
                Some(Job::Commit { bytes: more, .. }) if units + taken.len() == 0 || bytes + more <= most => {
                    bytes += more
                }
                _ => break,
            }
            if let Some(Job::Commit { request, bytes, reply, _room }) = self.jobs.pop_front() {
                taken.push(Waiting { request, bytes, reply });
            }
        }
        taken
    }
}

/// How much of a group was taken.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    units: usize,
    bytes: usize,
}

/// How many units wait until the committer is woken to take them in while another group is synced.
const ENOUGH: usize = 16;

/// How long what was applied may stay without a sync while nothing else comes.
const LINGER: Duration = Duration::from_millis(500);

/// What to wait for.
enum Wait {
    /// Nothing.
    No,
    /// A sync that was handed over, or units meanwhile.
    Synced,
    /// Something to do, as long as what is not synced may stay so.
    Unsynced,
    /// Something to do, until it is time to look again what has become of age.
    Aging,
    Long,
}

/// Refuses whatever still comes once the committer is gone, however it went.
struct Gone {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.poison(StoreError::backend("go on: the committing thread panicked", "a bug in the store"));
        }
        let mut line = self.queue.line.lock();
        line.ended = true;
        line.jobs.clear();
    }
}

/// Starts the threads.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn start(core: CommitCore, shared: Arc<Shared>) -> Result<Arc<Queue>, StoreError> {
    let queue = Queue::new(&shared.limits);
    let syncer = Syncer::start(queue.clone())?;
    let gone = Gone { queue: queue.clone(), shared };
    let committer = Committer { core, syncer, open: None, syncing: None, was_alone: true, more: false };
    std::thread::Builder::new()
        .name("aftercommit-committer".to_owned())
        .spawn(move || committer.run(&gone))
        .map_err(|cause| StoreError::backend("start the committing thread", cause))?;
    Ok(queue)
}

/// What the committing thread works with.
struct Committer {
    core: CommitCore,
    syncer: Syncer,
    /// The group that gathers.
    open: Option<Gathering>,
    /// The group whose sync was handed over.
    syncing: Option<(Applied, Vec<oneshot::Sender<Answer>>)>,
    /// Whether the last group was a single unit.
    was_alone: bool,
    /// Whether there may be more to remove.
    more: bool,
}

/// A group that gathers, with those who wait for its answers.
struct Gathering {
    group: Open,
    taken: Taken,
    replies: Vec<oneshot::Sender<Answer>>,
}

impl Committer {
    fn run(mut self, Gone { queue, shared }: &Gone) {
        loop {
            let taken = self.open.as_ref().map_or_else(Taken::default, |open| open.taken);
            match queue.next(taken, self.wait()) {
                Next::Idle => self.more = self.core.prune(),
                // A failure stops the store, which the next who comes is told.
                Next::Lingered => drop(self.core.sync_all()),
                Next::Units(units) => {
                    self.take_in(units);
                    if self.syncing.is_none() {
                        self.close_group();
                    }
                }
                Next::Synced(synced, units) => {
                    self.answer(synced);
                    self.take_in(units);
                    self.close_group();
                }
                Next::Job(Job::Forget { listener, reply }) => {
                    let _ = reply.send(self.core.forget(&listener));
                    self.more = true;
                }
                Next::Job(Job::Turn(task)) => {
                    task(&mut self.core);
                    self.more = true;
                }
                Next::Job(Job::Close { is_clean, reply }) => {
                    let closed = self.core.mark(is_clean);
                    shared.give_up();
                    let _ = reply.send(closed);
                    return;
                }
                Next::Job(Job::Commit { reply, .. }) => {
                    let _ = reply.send(Err(CommitError::from(StoreError::Closed)));
                }
                Next::Ended => {
                    // Dropped without a close: what was answered as buffered still gets its sync; a failure has no one to be told to.
                    let _ = self.core.sync_all();
                    shared.give_up();
                    return;
                }
            }
        }
    }

    fn wait(&self) -> Wait {
        match self.more {
            _ if self.syncing.is_some() => Wait::Synced,
            true => Wait::No,
            false if !self.core.is_synced() => Wait::Unsynced,
            false if self.core.awaits_age() => Wait::Aging,
            false => Wait::Long,
        }
    }

    fn take_in(&mut self, units: Vec<Waiting>) {
        if units.is_empty() {
            return;
        }
        let core = &mut self.core;
        let open = self.open.get_or_insert_with(|| Gathering {
            group: core.open(),
            taken: Taken::default(),
            replies: Vec::new(),
        });
        for Waiting { request, bytes, reply } in units {
            core.take_in(&mut open.group, request);
            open.taken.units += 1;
            open.taken.bytes += bytes;
            open.replies.push(reply);
        }
    }

    /// Hands the group that gathers to the engine, and has what it owes synced.
    fn close_group(&mut self) {
        let Some(Gathering { group, taken, replies }) = self.open.take() else { return };
        let applied = self.core.apply(group);
        let was_alone = std::mem::replace(&mut self.was_alone, taken.units == 1);
        self.more = true;
        let owed = applied.owed;
        self.syncing = Some((applied, replies));
        let handed = match owed {
            None => Err(Ok(())),
            Some(Durability::Sync) if !(was_alone && self.was_alone) => {
                let syncing = self.core.hand_over(Durability::Sync);
                syncing.and_then(|syncing| self.syncer.hand(syncing)).map_err(Err)
            }
            Some(durability) => Err(self.core.sync(durability)),
        };
        if let Err(synced) = handed {
            self.answer(synced);
        }
    }

    /// Answers the group whose sync is done, or failed.
    fn answer(&mut self, synced: Result<(), StoreError>) {
        if let Some((applied, replies)) = self.syncing.take() {
            let answers = self.core.answers(applied, synced);
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Who dropped the future does not want to know.
                let _ = reply.send(answer);
            }
        }
    }
}
