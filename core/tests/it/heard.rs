//! What listeners heard, in the order they heard it, and waiting for it without sleeping.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

/// A record that listeners write and a test reads. Clones share one record.
#[derive(Clone, Debug)]
pub(crate) struct Heard(watch::Sender<Vec<String>>);

impl Heard {
    /// An empty record.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    /// Writes one line.
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.send_modify(|lines| lines.push(line.into()));
    }

    /// Every line so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Every line so far, which are then forgotten.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut taken = Vec::new();
        self.0.send_modify(|lines| taken = std::mem::take(lines));
        taken
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Waits until there are `count` lines.
    pub(crate) async fn until(&self, count: usize) {
        let mut changes = self.0.subscribe();
        let lines = within(changes.wait_for(|lines| lines.len() >= count)).await;
        drop(lines.expect("the record is still held"));
    }
}

/// Fails a test that would wait for ever.
pub(crate) async fn within<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it came to nothing within a minute")
}

/// Waits until `holds`, letting everybody else run.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
