//! Durable listeners: how what is owed is delivered.
//!
//! One [`worker`] per durable listener walks the log behind its cursor. Events of one sequence, which is their key unless said
//! otherwise, are delivered in commit order, one at a time; different sequences in parallel, in turn, so that none starves.
//! A failed delivery waits for its time without holding other sequences; out of attempts its event parks, and what follows of
//! its sequence parks behind it. Deliveries are settled by the commit of the listener's own work, or by commits of the worker.
//!
//! What is called stands behind [`Handler`]: this module knows no listener and no bus. What is owed was decided at publish.

mod ack;
mod dead_letter;
mod introduce;
mod lane;
mod lanes;
mod record;
mod run;
mod scheduler;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Gate, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::activity::Activity;
use crate::clock::{Chance, Clock};
use crate::error::{BoxError, Error, StoreError};
use crate::event::Envelope;
use crate::listener::{Decision, Durable, ErrorRules, GivenUp, StartAt, StopSignal};
use crate::observe::Watch;
use crate::publication::OnDesk;
use crate::store::{CursorChange, Durability, Position, Store, Suspect};
pub use dead_letter::{ParkedCounts, Replay};
pub(crate) use run::Run;
pub(crate) use scheduler::Entered;
use scheduler::Scheduler;
use worker::{Command, Hold, Progress, Worker};

/// One call to be made.
pub(crate) struct Due {
    pub(crate) envelope: Arc<Envelope>,
    /// Which call this is; 1 for the first.
    pub(crate) attempt: u32,
    pub(crate) position: Position,
    /// What is settled with it.
    pub(crate) covers: Range<u64>,
    /// It was parked.
    pub(crate) is_replayed: bool,
    /// The listener's condition was not asked at publish.
    pub(crate) unasked: bool,
    /// It is out of attempts: what is called is the fallback.
    pub(crate) given_up: Option<GivenUp>,
}

impl Due {
    /// What the commit of the work says to the store.
    pub(crate) fn settles(&self) -> CursorChange {
        match self.is_replayed {
            true => CursorChange::Resolved { position: self.position },
            false => CursorChange::Done { position: self.position, covers: self.covers.clone() },
        }
    }
}

/// What a call came to, for one of the deliveries it was made with.
pub(crate) enum Verdict {
    /// Done, and committed.
    Settled,
    /// Done outside the store; the worker settles it.
    Handled,
    /// The listener is not owed it.
    Declined,
    /// The listener said so by value.
    Decided(Decision),
    /// To be called again, or given up.
    Failed(BoxError),
    /// As `Failed`, together with those that follow and are `FailedWithIt`: which of them is to blame is not known.
    FailedTogether(BoxError),
    /// As the one before.
    FailedWithIt,
    /// The stored event cannot be decoded: given up at once.
    Undecodable(BoxError),
    /// One before it in the batch came first.
    NotCalled,
    /// The bus is shutting down; nothing was found out about the event.
    Stopping,
    /// The store failed; the worker begins anew.
    Broken(StoreError),
}

impl Verdict {
    /// Whether nothing more is to be called for it.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Verdict::Settled | Verdict::Handled | Verdict::Declined)
    }
}

/// What is called with deliveries. Calls for different sequences may run at once.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Calls it: with several at once if it takes batches, else with one after the other, as far as `run` goes.
    /// Answers verdicts in their order; those that are missing at the end were not called.
    /// Tells `run` when each begins and is done.
    /// With [`Verdict::Settled`] what `due.settles()` says is committed.
    fn call(self: Arc<Self>, due: Vec<Due>, run: Run) -> BoxFuture<'static, Vec<Verdict>>;
}

/// What all workers of a bus share.
pub(crate) struct Ground {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<Chance>,
    /// Rules for the errors of all listeners.
    pub(crate) errors: ErrorRules,
    pub(crate) watch: Arc<Watch>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) stop: StopSignal,
    pub(crate) durability: Durability,
    /// How often in a row the process may end during one delivery before it parks; 0 for without end.
    pub(crate) crash_limit: u32,
    /// What was marked when the process last ended; empty after a clean stop.
    pub(crate) suspects: Vec<Suspect>,
    /// Whether the process ended without a clean stop.
    pub(crate) unclean: bool,
    /// One suspect at a time, over all listeners.
    pub(crate) one_suspect: Gate<()>,
}

/// A durable listener to be worked for.
pub(crate) struct Job {
    pub(crate) listener: Arc<str>,
    pub(crate) formerly: Vec<String>,
    /// The names its event was ever stored under.
    pub(crate) events: Vec<&'static str>,
    pub(crate) durable: Durable,
    /// Whether several deliveries may share one commit.
    pub(crate) shares_commits: bool,
    pub(crate) handler: Arc<dyn Handler>,
}

/// The workers of a bus.
pub(crate) struct Workers {
    ground: Arc<Ground>,
    runtime: tokio::runtime::Handle,
    running: Mutex<BTreeMap<Arc<str>, Running>>,
    /// Workers that were stopped and may still have calls running, so that a listener never has two.
    ending: Mutex<HashMap<Arc<str>, Stopped>>,
    scheduler: Mutex<Option<Scheduling>>,
}

struct Running {
    /// The names its event was ever stored under.
    events: Vec<&'static str>,
    task: JoinHandle<()>,
    commands: mpsc::UnboundedSender<Command>,
    progress: Arc<Progress>,
}

/// A worker whose listener's cursor stands in the store, and which calls nobody yet.
pub(crate) struct Ready {
    listener: Arc<str>,
    events: Vec<&'static str>,
    worker: Worker,
    commands: mpsc::UnboundedSender<Command>,
    progress: Arc<Progress>,
}

/// The scheduler of a bus.
struct Scheduling {
    task: JoinHandle<()>,
    standing: Arc<scheduler::Standing>,
}

/// A worker that calls no more than it has begun.
struct Stopped {
    task: JoinHandle<()>,
    progress: Arc<Progress>,
}

/// Says that a worker has ended, however it ended; whoever waits for it must not wait for what it will never do.
struct Ended {
    progress: Arc<Progress>,
    activity: Arc<Activity>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.progress.end();
        self.activity.touch();
    }
}

/// As [`Ended`], of the scheduler.
struct SchedulerEnded {
    standing: Arc<scheduler::Standing>,
    activity: Arc<Activity>,
}

impl Drop for SchedulerEnded {
    fn drop(&mut self) {
        self.standing.end();
        self.activity.touch();
    }
}

impl Workers {
    pub(crate) fn new(ground: Arc<Ground>, runtime: tokio::runtime::Handle) -> Self {
        Self { ground, runtime, running: Mutex::default(), ending: Mutex::default(), scheduler: Mutex::default() }
    }

    /// Lets scheduled events enter the log when they are due, and says so to `entered`.
    pub(crate) fn schedule(&self, entered: Arc<dyn Entered>) {
        let standing = Arc::new(scheduler::Standing::default());
        let scheduler = Scheduler::new(self.ground.clone(), standing.clone(), entered);
        let ended = SchedulerEnded { standing: standing.clone(), activity: self.ground.activity.clone() };
        let task = self.runtime.spawn(async move {
            let _ended = ended;
            scheduler.run().await;
        });
        *self.scheduler.lock() = Some(Scheduling { task, standing });
    }

    /// Gives `listener` a cursor before the first event is owed to it, so that nothing it is owed is pruned. What it takes is said when it
    /// is taken up.
    pub(crate) async fn introduce(
        &self,
        listener: &Arc<str>,
        formerly: &[String],
        start: StartAt,
    ) -> Result<(), StoreError> {
        introduce::introduce(&self.ground, listener, formerly, &[], start).await.map(drop)
    }

    /// Finds out what `job`'s listener is owed. Answers once its cursor stands in the store, so that nothing it is owed is pruned;
    /// with several listeners this comes for all of them before [`start`](Self::start), because each may publish to the others.
    pub(crate) async fn take_up(&self, job: Job) -> Result<Ready, StoreError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let progress = Arc::new(Progress::default());
        let (listener, events) = (job.listener.clone(), job.events.clone());
        let ending = self.ending.lock().remove(&listener);
        if let Some(ending) = ending {
            // It was not aborted, and contains panics, so that it ends of its own accord.
            let _ = ending.task.await;
        }
        let worker = Worker::take_up(self.ground.clone(), job, inbox, progress.clone()).await?;
        Ok(Ready { listener, events, worker, commands, progress })
    }

    /// Begins to call.
    pub(crate) fn start(&self, ready: Ready) {
        let Ready { listener, events, worker, commands, progress } = ready;
        let ended = Ended { progress: progress.clone(), activity: self.ground.activity.clone() };
        let task = self.runtime.spawn(async move {
            let _ended = ended;
            worker.run().await;
        });
        self.running.lock().insert(listener, Running { events, task, commands, progress });
    }

    /// Whether a listener is worked for whose event was ever stored under `name`.
    pub(crate) fn hears(&self, name: &str) -> bool {
        self.running.lock().values().any(|running| running.events.contains(&name))
    }

    /// Stops calling a listener after the calls that run; what it is owed stays owed. Answers whether it was worked for.
    pub(crate) fn stop(&self, listener: &str) -> bool {
        let stopped = self.running.lock().remove_entry(listener);
        match stopped {
            // Its worker ends when its inbox has no sender any more.
            Some((listener, running)) => {
                self.ending.lock().insert(listener, Stopped { task: running.task, progress: running.progress });
                true
            }
            None => false,
        }
    }

    /// Has dead letters called again; the answer comes once the worker knows of it. `None` if the listener is not worked for.
    pub(crate) fn replay(&self, listener: &str, replay: Replay) -> Option<oneshot::Receiver<Result<usize, Error>>> {
        self.ask(listener, |answer| Command::Replay(replay, answer))
    }

    /// Removes a dead letter for good; as [`replay`](Self::replay).
    pub(crate) fn discard(
        &self,
        listener: &str,
        position: Position,
        reason: &str,
    ) -> Option<oneshot::Receiver<Result<bool, Error>>> {
        self.ask(listener, |answer| Command::Discard(position, reason.to_owned(), answer))
    }

    /// How much is parked; as [`replay`](Self::replay).
    pub(crate) fn count_parked(&self, listener: &str) -> Option<oneshot::Receiver<ParkedCounts>> {
        self.ask(listener, Command::Count)
    }

    /// Calls the listener no more until it is resumed; answers whether it is worked for.
    pub(crate) fn pause(&self, listener: &str) -> bool {
        self.command(listener, Command::Pause(None))
    }

    /// As [`pause`](Self::pause), also at the next starts, until it is resumed; as [`replay`](Self::replay).
    pub(crate) fn pause_for_good(
        &self,
        listener: &str,
        reason: &str,
    ) -> Option<oneshot::Receiver<Result<(), StoreError>>> {
        self.ask(listener, |answer| Command::Pause(Some((reason.to_owned(), answer))))
    }

    /// What is being called right now, by listener.
    pub(crate) fn desks(&self) -> HashMap<String, OnDesk> {
        let on_desk = |progress: &Progress| OnDesk {
            underway: progress.desk().underway(),
            is_halted: progress.desk().is_halted(),
        };
        let running = self.running.lock();
        let live = running.iter().filter(|(_, running)| !running.progress.has_ended());
        live.map(|(listener, running)| (listener.to_string(), on_desk(&running.progress))).collect()
    }

    /// The listeners that are worked for, by id.
    pub(crate) fn listeners(&self) -> Vec<Arc<str>> {
        let mut listeners: Vec<_> = self.running.lock().keys().cloned().collect();
        listeners.sort();
        listeners
    }

    /// Calls the listener again after it was paused or stopped; answers whether it is worked for.
    pub(crate) fn resume(&self, listener: &str) -> bool {
        self.command(listener, Command::Resume)
    }

    /// Lets nobody be called while the store's knowledge of the listener is changed: from when the first half says so until the
    /// second is dropped. `None` if the listener is not worked for.
    pub(crate) fn hold(&self, listener: &str) -> Option<(oneshot::Receiver<()>, oneshot::Sender<()>)> {
        let (ready, is_ready) = oneshot::channel();
        let (done, release) = oneshot::channel();
        self.command(listener, Command::Hold(Hold { ready, release })).then_some((is_ready, done))
    }

    /// The change that puts a listener's cursor where `start` says.
    pub(crate) async fn reset_to(&self, start: StartAt) -> Result<CursorChange, StoreError> {
        let (from, unasked_below) = introduce::place(&*self.ground.store, start).await?;
        Ok(CursorChange::Reset { from, unasked_below })
    }

    fn ask<T>(
        &self,
        listener: &str,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Option<oneshot::Receiver<T>> {
        let (answer, answered) = oneshot::channel();
        self.command(listener, command(answer)).then_some(answered)
    }

    fn command(&self, listener: &str, command: Command) -> bool {
        let running = self.running.lock();
        let sent = running.get(listener).is_some_and(|running| {
            running.progress.announce();
            running.commands.send(command).is_ok()
        });
        drop(running);
        self.ground.activity.touch();
        sent
    }

    /// Tells every worker that the event at `position` is erased.
    pub(crate) fn erased(&self, position: Position) {
        for running in self.running.lock().values() {
            running.progress.announce();
            // A worker that has ended holds nothing any more.
            let _ = running.commands.send(Command::Erased(position));
        }
        self.ground.activity.touch();
    }

    /// Whether every worker has looked at the whole log and settled, redelivered or parked what it found;
    /// with `or_waiting`, deliveries whose time has not come do not count.
    pub(crate) fn is_idle(&self, or_waiting: bool) -> bool {
        // Looked at first: what it lets into the log is seen in the log.
        if !self.is_schedule_idle(or_waiting) {
            return false;
        }
        let end = *self.ground.store.delivered_up_to().borrow();
        let waiting_past = or_waiting.then(|| self.ground.clock.now());
        self.running.lock().values().all(|running| running.progress.is_idle(end, waiting_past))
    }

    /// Whether nothing that is due is left in the schedule.
    fn is_schedule_idle(&self, or_waiting: bool) -> bool {
        let upcoming = *self.ground.store.upcoming().borrow();
        let now = self.ground.clock.now();
        self.scheduler.lock().as_ref().is_none_or(|one| one.standing.is_idle(upcoming, now, or_waiting))
    }

    /// The first position that each listener has not settled, by listener.
    pub(crate) fn low_water_marks(&self) -> Vec<(Arc<str>, Position)> {
        let running = self.running.lock();
        let mut marks: Vec<_> =
            running.iter().map(|(listener, running)| (listener.clone(), running.progress.low())).collect();
        marks.sort();
        marks
    }

    /// Whether every worker has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.running.lock().values().all(|running| running.progress.has_ended())
            && self.ending.lock().values().all(|stopped| stopped.progress.has_ended())
            && self.scheduler.lock().as_ref().is_none_or(|one| one.standing.has_ended())
    }

    /// Cuts off the workers that still run; answers their listeners.
    pub(crate) fn abort(&self) -> Vec<Arc<str>> {
        let mut cut: Vec<Arc<str>> = Vec::new();
        let running = std::mem::take(&mut *self.running.lock());
        let running = running
            .into_iter()
            .map(|(listener, Running { task, progress, .. })| (listener, Stopped { task, progress }))
            .collect::<Vec<_>>();
        for (listener, stopped) in running.into_iter().chain(self.ending.lock().drain()) {
            if !stopped.progress.has_ended() {
                stopped.task.abort();
                cut.push(listener);
            }
        }
        if let Some(scheduler) = self.scheduler.lock().take()
            && !scheduler.standing.has_ended()
        {
            scheduler.task.abort();
            cut.push(Arc::from(scheduler::NAME));
        }
        cut.sort();
        cut
    }
}
