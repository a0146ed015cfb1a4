//! How many publications are in which state.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use super::query::Query;
use super::stage::Status;
use super::view::View;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::{Paused, Position};

/// How many publications are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Nobody has been called with them.
    pub waiting: u64,
    /// Somebody is being called with them.
    pub running: u64,
    /// Handled, and not settled yet.
    pub handled: u64,
    /// Failed, and to be called again.
    pub redelivering: u64,
    /// Parked.
    pub dead: u64,
    /// Given up for good, as far as it is kept.
    pub given_up: u64,
    /// Settled, as far as the log still holds the event; `None` if they were not counted.
    pub done: Option<u64>,
}

impl Counts {
    /// Those of which something is still to come without anybody's help: all but dead, given up and done.
    pub fn owed(&self) -> u64 {
        self.waiting + self.running + self.handled + self.redelivering
    }

    fn add(&mut self, status: Status) {
        let count = match status {
            Status::Waiting => &mut self.waiting,
            Status::Running => &mut self.running,
            Status::Handled => &mut self.handled,
            Status::Redelivering => &mut self.redelivering,
            Status::Dead => &mut self.dead,
            Status::GivenUp => &mut self.given_up,
            Status::Done => self.done.get_or_insert(0),
        };
        *count += 1;
    }

    fn add_all(&mut self, other: &Counts) {
        self.waiting += other.waiting;
        self.running += other.running;
        self.handled += other.handled;
        self.redelivering += other.redelivering;
        self.dead += other.dead;
        self.given_up += other.given_up;
        self.done = self.done.zip(other.done).map(|(one, other)| one + other);
    }
}

/// What a durable listener is owed, and how far it is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerCounts {
    /// Its id.
    pub listener: String,
    /// Its publications.
    pub counts: Counts,
    /// How many log positions lie between the first it has not settled and the end of the log; some may hold nothing it is owed.
    pub behind: u64,
    /// When the oldest event was published that it is owed, dead ones not counted.
    pub oldest: Option<Timestamp>,
    /// How long ago that was.
    pub oldest_age: Option<Duration>,
    /// Whether a bus delivers to it.
    pub is_worked_for: bool,
    /// Whether that bus calls it for now: not if it was paused or stopped.
    pub is_halted: bool,
    /// Why no bus calls it, if it was paused across restarts.
    pub paused: Option<Paused>,
}

/// All durable listeners that the store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// Each of them, by id.
    pub listeners: Vec<ListenerCounts>,
    /// All of them together.
    pub total: Counts,
    /// The position after the last event of the log.
    pub log_end: Position,
    /// How many events were published for later and are not due: nobody is owed them yet.
    pub later: u64,
    /// When the first of them is due.
    pub next_due: Option<Timestamp>,
}

impl View {
    /// How many publications are open, by listener: reads the log from the lowest low-water mark on, once for all of them, what is
    /// parked and given up, and what was published for later.
    ///
    /// # Errors
    /// The store's.
    pub async fn counts(&self) -> Result<Overview, StoreError> {
        let open = Status::ALL.into_iter().filter(|status| *status != Status::Done);
        self.counted(Query::new().statuses(open), None).await
    }

    /// As [`counts`](Self::counts), with those that are done: reads all that the log holds.
    ///
    /// # Errors
    /// The store's.
    pub async fn counts_with_done(&self) -> Result<Overview, StoreError> {
        self.counted(Query::new(), Some(0)).await
    }

    async fn counted(&self, query: Query, done: Option<u64>) -> Result<Overview, StoreError> {
        let none = Counts { done, ..Counts::default() };
        let mut found: HashMap<String, (Counts, Option<Timestamp>)> = HashMap::new();
        let tracks = self.walk(&query, None, |track, _, header, stage| {
            if !found.contains_key(&track.listener) {
                found.insert(track.listener.clone(), (none, None));
            }
            if let Some((counts, oldest)) = found.get_mut(&track.listener) {
                let status = stage.status();
                counts.add(status);
                if !matches!(status, Status::Dead | Status::GivenUp | Status::Done) {
                    let time = header.metadata.time;
                    *oldest = Some(oldest.map_or(time, |oldest| oldest.min(time)));
                }
            }
            ControlFlow::Continue(())
        });
        let tracks = tracks.await?;
        let log_end = self.store.delivered_up_to().borrow().next();
        let mut total = none;
        let mut listeners = Vec::with_capacity(tracks.len());
        for track in tracks {
            let (counts, oldest) = found.remove(&track.listener).unwrap_or((none, None));
            total.add_all(&counts);
            listeners.push(ListenerCounts {
                counts,
                behind: log_end.0.saturating_sub(track.cursor.low()),
                oldest,
                oldest_age: oldest.map(|oldest| self.now.since(oldest)),
                is_worked_for: track.is_worked_for,
                is_halted: track.is_halted,
                paused: track.record.and_then(|record| record.paused),
                listener: track.listener,
            });
        }
        let (mut later, mut next_due) = (0, None);
        self.each_later(|header| {
            later += 1;
            // Of such an event the time is when it is due.
            next_due = next_due.or(Some(header.metadata.time));
            ControlFlow::Continue(())
        })
        .await?;
        Ok(Overview { listeners, total, log_end, later, next_due })
    }
}
