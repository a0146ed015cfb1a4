//! A tap on an engine: whatever is applied goes on, batch by batch and in order, to whoever copies or follows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::super::engine::{Batch, Engine};
use crate::error::StoreError;
use crate::store::{Direction, Durability, Row};

/// How far one who follows may be behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lag {
    /// How many bytes may wait, before whoever commits waits.
    pub(super) bytes: usize,
    /// How long whoever commits waits, before one who makes no room is left behind.
    pub(super) patience: Duration,
}

impl Default for Lag {
    fn default() -> Self {
        Self { bytes: 16 << 20, patience: Duration::from_secs(5) }
    }
}

/// What was applied and not yet followed.
pub(super) struct Tap {
    lag: Lag,
    line: Mutex<Line>,
    /// Rung when there is more, or nothing comes any more.
    more: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct Line {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// How many batches ever came.
    came: u64,
    end: Option<End>,
}

enum End {
    /// Nothing comes any more.
    Closed,
    /// Something is missing.
    Broken(StoreError),
}

impl Tap {
    pub(super) fn new(lag: Lag) -> Arc<Self> {
        Arc::new(Self { lag, line: Mutex::default(), more: Condvar::new(), room: Condvar::new() })
    }

    /// Waits for room within a bound, and leaves behind who makes none.
    fn push(&self, batch: Batch) {
        let mut line = self.line.lock();
        while line.end.is_none() && line.bytes >= self.lag.bytes {
            let waited = self.room.wait_for(&mut line, self.lag.patience);
            if waited.timed_out() && line.bytes >= self.lag.bytes {
                line.break_off(StoreError::FellBehind);
            }
        }
        if line.end.is_none() {
            line.bytes += weight(&batch);
            line.came += 1;
            line.batches.push_back(batch);
        }
        self.more.notify_all();
    }

    /// How many batches ever came.
    pub(super) fn came(&self) -> u64 {
        self.line.lock().came
    }

    /// The next batches as one, of about `most` bytes and none after the `upto`-th; `None` if there is none now.
    pub(super) fn take(&self, most: usize, upto: u64) -> Result<Option<Batch>, StoreError> {
        self.line.lock().take(most, upto, &self.room)
    }

    /// Waits until there is more, at most `wait`; without one, for ever. Answers `false` if nothing comes any more.
    pub(super) fn ready(&self, wait: Option<Duration>) -> bool {
        let mut line = self.line.lock();
        while line.batches.is_empty() && line.end.is_none() {
            match wait {
                Some(wait) if self.more.wait_for(&mut line, wait).timed_out() => return true,
                Some(_) => {}
                None => self.more.wait(&mut line),
            }
        }
        !line.batches.is_empty()
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        let mut line = self.line.lock();
        if line.end.is_none() {
            line.end = Some(End::Closed);
        }
        self.more.notify_all();
        self.room.notify_all();
    }

    /// Nobody follows any more.
    pub(super) fn fail(&self, error: StoreError) {
        self.line.lock().break_off(error);
        self.more.notify_all();
        self.room.notify_all();
    }
}

impl Line {
    fn take(&mut self, most: usize, upto: u64, room: &Condvar) -> Result<Option<Batch>, StoreError> {
        if let Some(End::Broken(error)) = &self.end {
            return Err(error.clone());
        }
        let mut all: Option<Batch> = None;
        let mut bytes = 0;
        while bytes < most && self.came - (self.batches.len() as u64) < upto {
            let Some(batch) = self.batches.pop_front() else { break };
            bytes += weight(&batch);
            all = Some(match all {
                None => batch,
                // Later values win.
                Some(mut earlier) => {
                    earlier.extend(batch);
                    earlier
                }
            });
        }
        self.bytes -= bytes;
        room.notify_all();
        Ok(all)
    }

    fn break_off(&mut self, error: StoreError) {
        if !matches!(self.end, Some(End::Broken(_))) {
            self.end = Some(End::Broken(error));
        }
        self.batches.clear();
        self.bytes = 0;
    }
}

fn weight(batch: &Batch) -> usize {
    batch.iter().map(|(key, value)| 64 + key.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

/// An engine with a tap.
pub(super) struct Tapped {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) tap: Arc<Tap>,
}

impl Drop for Tapped {
    fn drop(&mut self) {
        self.tap.close();
    }
}

impl Engine for Tapped {
    fn kind(&self) -> &'static str {
        self.engine.kind()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.engine.scan(range, direction, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let copy = batch.clone();
        self.engine.apply(batch)?;
        // Only now: what was taken from the tap is seen by every later read.
        self.tap.push(copy);
        Ok(())
    }

    fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        self.engine.sync(durability)
    }

    fn size(&self) -> Option<u64> {
        self.engine.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: u8, value: u8) -> Batch {
        Batch::from([(vec![key], Some(vec![value]))])
    }

    #[test]
    fn batches_come_in_order_and_only_as_far_as_asked() {
        let tap = Tap::new(Lag::default());
        for (key, value) in [(1, 1), (1, 2), (2, 3)] {
            tap.push(batch(key, value));
        }
        assert_eq!(tap.take(usize::MAX, 2).expect("whole"), Some(batch(1, 2)));
        assert_eq!(tap.take(usize::MAX, 2).expect("whole"), None);
        tap.close();
        tap.push(batch(9, 9));
        assert!(tap.ready(None));
        assert_eq!(tap.take(usize::MAX, u64::MAX).expect("whole"), Some(batch(2, 3)));
        assert!(!tap.ready(None));
    }

    #[test]
    fn who_was_left_behind_is_told_and_holds_nobody_up() {
        let tap = Tap::new(Lag::default());
        tap.push(batch(1, 1));
        tap.fail(StoreError::FellBehind);
        tap.push(batch(2, 2));
        assert!(matches!(tap.take(usize::MAX, u64::MAX), Err(StoreError::FellBehind)));
        assert_eq!(tap.line.lock().bytes, 0);
    }
}
