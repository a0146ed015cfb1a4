//! What becomes of an event once nobody is owed it, and who else keeps a part of the log.
//!
//! A [`Retention`] says how long, and in how much room, events stay that everybody is done with. It is data: the store carries it
//! out, by the clock it is given. A [`LogHold`] keeps whatever stands at its position and behind, whatever the retention says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::Position;
use crate::clock::Timestamp;

/// How long events stay in the log once nobody is owed them.
///
/// What some durable listener is owed, waits to be called with again, or a [`LogHold`] keeps is never touched, however old it is;
/// a parked event is a copy, and stays with its listener. The log gives up whole packs of events, from its beginning on: an event
/// stays a little longer than is said here, until all that share its pack may go.
///
/// Replays ([`StartAt::Beginning`](crate::listener::StartAt), [`Bus::reset`](crate::Bus::reset)) and streams
/// ([`Bus::stream_from`](crate::Bus::stream_from)) reach back as far as this does.
///
/// # Default
/// 7 days from when an event was published, in any amount; those declared `logged` for ever.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::store::Retention;
///
/// let month = Retention::keep_for(Duration::from_secs(30 * 86_400)).at_most(10 << 30);
/// let lean = Retention::delete_when_done().logged_for(Duration::from_secs(365 * 86_400));
/// assert_ne!(month, lean);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// For ever if it is not said.
    done: Option<Duration>,
    logged: Option<Duration>,
    most_bytes: Option<u64>,
}

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Default for Retention {
    fn default() -> Self {
        Self::keep_for(WEEK)
    }
}

impl Retention {
    /// Keeps events so long from when they were published. One that is done later than that goes once it is done.
    pub fn keep_for(time: Duration) -> Self {
        Self { done: Some(time), logged: None, most_bytes: None }
    }

    /// Removes events as soon as nobody is owed them: the smallest log. Nothing but `logged` events can be replayed.
    pub fn delete_when_done() -> Self {
        Self::keep_for(Duration::ZERO)
    }

    /// Keeps every event for ever, unless [`at_most`](Self::at_most) says otherwise.
    pub fn keep_forever() -> Self {
        Self { done: None, logged: None, most_bytes: None }
    }

    /// Removes the oldest events that are done, also before their time, while the log is larger than `bytes`.
    ///
    /// Counted is what events take in the log, without what the engine adds to that, and without packs that are older and stay
    /// because they hold `logged` events.
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.most_bytes = Some(bytes);
        self
    }

    /// Keeps events declared `logged` so long, and not for ever; at least as long as the others around them, and whatever size is said.
    pub fn logged_for(mut self, time: Duration) -> Self {
        self.logged = Some(time);
        self
    }

    /// How long events stay that are not `logged`; `None` for ever.
    pub fn time(&self) -> Option<Duration> {
        self.done
    }

    /// How long `logged` events stay; `None` for ever.
    pub fn logged_time(&self) -> Option<Duration> {
        self.logged
    }

    /// How many bytes the log may take; `None` for any number.
    pub fn most_bytes(&self) -> Option<u64> {
        self.most_bytes
    }
}

/// When what was published at `newest` has been kept for `time`. Who is seen before it was published, because a clock was set back or
/// ran ahead, counts from `now`.
pub(super) fn due(newest: Timestamp, now: Timestamp, time: Duration) -> Timestamp {
    newest.min(now).saturating_add(time)
}

/// Keeps the log from being removed from a position on, as long as this lives.
#[derive(Debug)]
pub struct LogHold {
    holds: Arc<Holds>,
    id: u64,
}

impl LogHold {
    /// The first position that it keeps.
    pub fn position(&self) -> Position {
        self.holds.0.lock().by_id.get(&self.id).copied().unwrap_or_default()
    }

    /// Lets go of everything below `position`. A hold never goes back.
    pub fn move_to(&self, position: Position) {
        if let Some(held) = self.holds.0.lock().by_id.get_mut(&self.id) {
            *held = position.max(*held);
        }
    }
}

impl Drop for LogHold {
    fn drop(&mut self) {
        self.holds.0.lock().by_id.remove(&self.id);
    }
}

/// Everybody who holds a part of the log.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Held>);

/// The holds while nobody takes, moves or drops one.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_id: BTreeMap<u64, Position>,
    next: u64,
}

impl Holds {
    /// A hold from `from` on. What was removed before is gone.
    pub(super) fn hold(self: &Arc<Self>, from: Position) -> LogHold {
        let mut held = self.0.lock();
        let id = held.next;
        held.next += 1;
        held.by_id.insert(id, from);
        LogHold { holds: self.clone(), id }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock()
    }
}

impl Held {
    /// The first position that somebody holds.
    pub(super) fn low(&self) -> Option<Position> {
        self.by_id.values().min().copied()
    }

    /// As [`low`](Self::low), of all but one of them.
    pub(super) fn low_without(&self, hold: &LogHold) -> Option<Position> {
        self.by_id.iter().filter(|(id, _)| **id != hold.id).map(|(_, position)| *position).min()
    }
}
