//! Tells of what takes too long, while it still runs.
//!
//! It watches only what was said to have a time. A task of its own sleeps up to the next time that passes, and ends once nothing
//! is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Notice, Watch};
use crate::clock::{Clock, Timestamp};

/// Watches what is under way.
pub(crate) struct Watchdog {
    clock: Arc<dyn Clock>,
    watch: Arc<Watch>,
    runtime: Handle,
    under_way: Mutex<UnderWay>,
    sooner: Arc<Notify>,
}

#[derive(Default)]
struct UnderWay {
    all: HashMap<u64, Started>,
    next: u64,
    /// When the task looks again; `None` if there is no task.
    looks_at: Option<Timestamp>,
}

/// What is watched.
#[derive(Clone)]
pub(crate) struct Subject {
    /// A listener's id, or what stands for a unit of work.
    pub(crate) who: Arc<str>,
    /// What it was called with.
    pub(crate) event: Option<(&'static str, Uuid)>,
}

struct Started {
    subject: Subject,
    since: Timestamp,
    slow_after: Duration,
    /// When it is told next, unless it has come back.
    tell_at: Timestamp,
}

impl Started {
    /// The time to tell it again: the first doubling of its time that has not passed.
    fn tell_later(&mut self, now: Timestamp) {
        while self.tell_at <= now {
            let told_after = self.tell_at.since(self.since).max(Duration::from_millis(1));
            self.tell_at = self.tell_at.saturating_add(told_after);
        }
    }
}

/// Something that is watched until this is dropped.
pub(crate) struct Watched {
    watchdog: Arc<Watchdog>,
    number: u64,
}

impl Watchdog {
    pub(crate) fn new(clock: Arc<dyn Clock>, watch: Arc<Watch>, runtime: Handle) -> Self {
        Self { clock, watch, runtime, under_way: Mutex::default(), sooner: Arc::default() }
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// `subject` begins, and is slow once `slow_after` has passed.
    pub(crate) fn begin(self: &Arc<Self>, subject: Subject, slow_after: Duration) -> Watched {
        let since = self.clock.now();
        let tell_at = since.saturating_add(slow_after.max(Duration::from_millis(1)));
        let mut under_way = self.under_way.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way.all.insert(number, Started { subject, since, slow_after, tell_at });
        let before = under_way.looks_at;
        if before.is_none_or(|looks_at| tell_at < looks_at) {
            under_way.looks_at = Some(tell_at);
        }
        drop(under_way);
        match before {
            None => drop(self.runtime.spawn(guard(Arc::downgrade(self), self.clock.clone(), self.sooner.clone()))),
            Some(looks_at) if tell_at < looks_at => self.sooner.notify_one(),
            Some(_) => {}
        }
        Watched { watchdog: self.clone(), number }
    }

    /// Tells what is slow; answers when to look again.
    fn look(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let mut slow: BTreeMap<Arc<str>, (Subject, Timestamp, bool, usize)> = BTreeMap::new();
        let mut under_way = self.under_way.lock();
        for started in under_way.all.values_mut() {
            let is_due = started.tell_at <= now;
            started.tell_later(now);
            if now.since(started.since) < started.slow_after {
                continue;
            }
            let first = || (started.subject.clone(), started.since, is_due, 0);
            let (subject, since, due, count) = slow.entry(started.subject.who.clone()).or_insert_with(first);
            if started.since < *since {
                (*subject, *since, *due) = (started.subject.clone(), started.since, is_due);
            }
            *count += 1;
        }
        under_way.looks_at = under_way.all.values().map(|started| started.tell_at).min();
        let looks_at = under_way.looks_at;
        drop(under_way);
        for (subject, since, is_due, running) in slow.into_values() {
            if is_due {
                self.tell(&subject, now.since(since), running);
            }
        }
        looks_at
    }

    fn tell(&self, Subject { who, event }: &Subject, took: Duration, running: usize) {
        self.watch.tell(&Notice::Slow { who, event: *event, took, running });
    }
}

/// Looks whenever a time has passed, for as long as something is under way.
async fn guard(watchdog: Weak<Watchdog>, clock: Arc<dyn Clock>, sooner: Arc<Notify>) {
    loop {
        let Some(looks_at) = watchdog.upgrade().and_then(|watchdog| watchdog.under_way.lock().looks_at) else { return };
        if looks_at > clock.now() {
            tokio::select! {
                () = clock.sleep_until(looks_at) => {}
                () = sooner.notified() => continue,
            }
        }
        let Some(watchdog) = watchdog.upgrade() else { return };
        if watchdog.look().is_none() {
            return;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(started) = self.watchdog.under_way.lock().all.remove(&self.number) else { return };
        let took = self.watchdog.clock.now().since(started.since);
        if took >= started.slow_after {
            self.watchdog.tell(&started.subject, took, 0);
        }
    }
}
