//! The thread that commits, and the bounded queue in front of it.
//!
//! It takes one unit and whatever else waits, up to a group's limits; while a group is synced the next one gathers.
//! A future that waits for room hands its unit over even when it is dropped: from its first poll on it decides nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Limits;
use super::commit::{Answer, CommitCore, Request, Task};
use super::shared::Shared;
use crate::error::StoreError;
use crate::store::CommitError;

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
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Next {
    /// Nothing came for so long that what is not synced must be.
    Lingered,
    Group(Vec<(Request, oneshot::Sender<Answer>)>),
    Job(Job),
    /// Nothing waits, or nothing came for long.
    Idle,
    Ended,
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
        self.bell.notify_one();
        true
    }

    fn next(&self, wait: Wait) -> Next {
        let limits = &self.limits;
        let mut line = self.line.lock();
        while line.jobs.is_empty() {
            match wait {
                _ if line.ended => return Next::Ended,
                Wait::No => return Next::Idle,
                Wait::Unsynced if self.bell.wait_for(&mut line, LINGER).timed_out() => return Next::Lingered,
                Wait::Unsynced => {}
                Wait::Aging if self.bell.wait_for(&mut line, limits.aging).timed_out() => return Next::Idle,
                Wait::Aging => {}
                Wait::Long => self.bell.wait(&mut line),
            }
        }
        // The rest of the group's bytes is left for the committer's own removals, so that they never starve.
        let most = limits.group_bytes / 4 * 3;
        let (mut group, mut total) = (Vec::new(), 0);
        while group.len() < limits.group_units.max(1) {
            match line.jobs.front() {
                Some(Job::Commit { bytes, .. }) if group.is_empty() || total + bytes <= most => {}
                _ => break,
            }
            if let Some(Job::Commit { request, bytes, reply, _room }) = line.jobs.pop_front() {
                total += bytes;
                group.push((request, reply));
            }
        }
        if group.is_empty() { line.jobs.pop_front().map_or(Next::Idle, Next::Job) } else { Next::Group(group) }
    }
}

/// How long what was applied may stay without a sync while nothing else comes.
const LINGER: Duration = Duration::from_millis(500);

/// How long to wait for a job.
enum Wait {
    No,
    /// As long as what is not synced may stay so.
    Unsynced,
    /// Until it is time to look again what has become of age.
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

/// Starts the thread.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn start(core: CommitCore, shared: Arc<Shared>) -> Result<Arc<Queue>, StoreError> {
    let queue = Queue::new(&shared.limits);
    let gone = Gone { queue: queue.clone(), shared };
    std::thread::Builder::new()
        .name("aftercommit-committer".to_owned())
        .spawn(move || run(core, &gone))
        .map_err(|cause| StoreError::backend("start the committing thread", cause))?;
    Ok(queue)
}

fn run(mut core: CommitCore, Gone { queue, shared }: &Gone) {
    let mut more = false;
    loop {
        let wait = match more {
            true => Wait::No,
            false if !core.is_synced() => Wait::Unsynced,
            false if core.awaits_age() => Wait::Aging,
            false => Wait::Long,
        };
        match queue.next(wait) {
            Next::Idle => more = core.prune(),
            // A failure stops the store, which the next who comes is told.
            Next::Lingered => drop(core.sync_all()),
            Next::Group(group) => {
                let (requests, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
                let answers = core.commit(requests);
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // Who dropped the future does not want to know.
                    let _ = reply.send(answer);
                }
                more = true;
            }
            Next::Job(Job::Forget { listener, reply }) => {
                let _ = reply.send(core.forget(&listener));
                more = true;
            }
            Next::Job(Job::Turn(task)) => {
                task(&mut core);
                more = true;
            }
            Next::Job(Job::Close { is_clean, reply }) => {
                let closed = core.mark(is_clean);
                shared.give_up();
                let _ = reply.send(closed);
                return;
            }
            Next::Job(Job::Commit { reply, .. }) => {
                let _ = reply.send(Err(CommitError::from(StoreError::Closed)));
            }
            Next::Ended => {
                // Dropped without a close: what was answered as buffered still gets its sync; a failure has no one to be told to.
                let _ = core.sync_all();
                shared.give_up();
                return;
            }
        }
    }
}
