//! What is going on right now, and when it stops.
//!
//! Units of work, spawned listeners and durable listeners' workers report here; `idle` and `shutdown` wait here.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Counts what runs, by name, and wakes those who wait for it to end.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    running: Mutex<Running>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Running {
    count: usize,
    /// How many were ever begun.
    begun: u64,
    named: HashMap<Arc<str>, usize>,
}

/// One thing that runs; ends when dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
    name: Option<Arc<str>>,
}

impl Running {
    fn begin(&mut self) {
        self.count += 1;
        self.begun += 1;
    }
}

impl Activity {
    /// A unit of work begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.running.lock().begin();
        Busy { activity: self.clone(), name: None }
    }

    /// Something begins that is worth naming if it is abandoned.
    pub(crate) fn begin_named(self: &Arc<Self>, name: Arc<str>) -> Busy {
        let mut running = self.running.lock();
        running.begin();
        *running.named.entry(name.clone()).or_default() += 1;
        drop(running);
        Busy { activity: self.clone(), name: Some(name) }
    }

    /// Whether `holds`, and nothing ran while it was looked at: what it looks at may change with all that runs.
    pub(crate) fn is_quiet_and(&self, holds: impl FnOnce() -> bool) -> bool {
        let quiet_since = |running: &Running| (running.count == 0).then_some(running.begun);
        let Some(before) = quiet_since(&self.running.lock()) else { return false };
        holds() && quiet_since(&self.running.lock()) == Some(before)
    }

    /// What runs, by name and number; units of work stand under `unit of work`.
    pub(crate) fn list(&self) -> Vec<(String, usize)> {
        let running = self.running.lock();
        let named: usize = running.named.values().sum();
        let mut list: Vec<_> = running.named.iter().map(|(name, count)| (name.to_string(), *count)).collect();
        list.sort();
        if running.count > named {
            list.push(("unit of work".to_owned(), running.count - named));
        }
        list
    }

    /// Something changed that a waiter may wait for. That nothing runs any more is told by itself.
    pub(crate) fn touch(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until `holds`, asking again at each change, and each time that nothing runs any more.
    pub(crate) async fn until(&self, mut holds: impl FnMut() -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    /// Runs `future` as one thing going on.
    pub(crate) fn track<F: Future>(
        self: &Arc<Self>,
        name: Arc<str>,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let busy = self.begin_named(name);
        async move {
            let output = future.await;
            drop(busy);
            output
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut running = self.activity.running.lock();
        running.count -= 1;
        if let Some(name) = &self.name
            && let Some(count) = running.named.get_mut(name)
        {
            *count -= 1;
            if *count == 0 {
                running.named.remove(name);
            }
        }
        let is_last = running.count == 0;
        drop(running);
        // Who waits does so until nothing runs.
        if is_last {
            self.activity.touch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_while_somebody_looks_is_not_overlooked() {
        let activity = Arc::new(Activity::default());
        assert!(activity.is_quiet_and(|| true));
        assert!(!activity.is_quiet_and(|| false));
        assert!(!activity.is_quiet_and(|| {
            drop(activity.begin());
            true
        }));
        let busy = activity.begin_named(Arc::from("a"));
        assert!(!activity.is_quiet_and(|| true));
        drop(busy);
        assert!(activity.is_quiet_and(|| true));
    }
}
