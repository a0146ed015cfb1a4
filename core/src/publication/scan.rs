//! Reading in the order of the log: the log itself, and what is kept of one listener's deliveries beside it. A page at a time.

use std::collections::VecDeque;

use super::stage::Stage;
use crate::error::StoreError;
use crate::event::EventHeader;
use crate::store::{LogEvent, Position, Store};

/// How many events, and about how many bytes of them, are read at once.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 256 << 10;
/// How many parked or given-up deliveries of a listener are read at once. Parked ones come with their events.
const KEPT: usize = 16;

/// Which events of the log are looked at.
pub(super) enum Log {
    /// None.
    Nothing,
    /// All from `next` to `end`, both included.
    Range { next: Position, end: Position, page: VecDeque<LogEvent> },
    /// Those at these positions, ascending.
    Only { positions: VecDeque<Position>, first: Option<LogEvent> },
}

impl Log {
    pub(super) fn range(next: Position, end: Position) -> Self {
        Log::Range { next: next.max(Position(1)), end, page: VecDeque::new() }
    }

    pub(super) fn only(mut positions: Vec<Position>) -> Self {
        positions.sort_unstable();
        positions.dedup();
        Log::Only { positions: positions.into(), first: None }
    }

    /// The position of the next event.
    pub(super) async fn first(&mut self, store: &dyn Store) -> Result<Option<Position>, StoreError> {
        match self {
            Log::Nothing => Ok(None),
            Log::Range { next, end, page } => {
                if page.is_empty() && *next <= *end {
                    *page = store.read_log(*next, PAGE, PAGE_BYTES).await?.into();
                    *next = page.back().map_or(end.next(), |last| last.position.next());
                }
                Ok(page.front().map(|event| event.position).filter(|at| at <= end))
            }
            Log::Only { positions, first } => {
                while first.is_none()
                    && let Some(position) = positions.pop_front()
                {
                    // Pruned or erased: there is nothing to be told of it.
                    *first = store.read_event(position).await?;
                }
                Ok(first.as_ref().map(|event| event.position))
            }
        }
    }

    /// The next event, if it stands at `position`.
    pub(super) fn take(&mut self, position: Position) -> Option<LogEvent> {
        let is_it = |event: &LogEvent| event.position == position;
        match self {
            Log::Nothing => None,
            Log::Range { page, .. } => page.front().is_some_and(is_it).then(|| page.pop_front()).flatten(),
            Log::Only { first, .. } => first.take_if(|event| is_it(event)),
        }
    }
}

/// What is kept of a delivery beside the log.
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) header: EventHeader,
    pub(super) stage: Stage,
}

/// What is kept of one listener's deliveries.
pub(super) struct Kept {
    which: Which,
    /// Where the next page begins; `None` if there is none.
    next: Option<Position>,
    page: VecDeque<Entry>,
}

#[derive(Clone, Copy)]
pub(super) enum Which {
    Parked,
    GivenUp,
}

impl Kept {
    /// From `from` on; nothing if it is not wanted.
    pub(super) fn new(which: Which, from: Option<Position>) -> Self {
        Self { which, next: from, page: VecDeque::new() }
    }

    /// The position of the next one.
    pub(super) async fn first(&mut self, store: &dyn Store, listener: &str) -> Result<Option<Position>, StoreError> {
        if self.page.is_empty()
            && let Some(from) = self.next
        {
            self.page = self.read(store, listener, from).await?.into();
            self.next = self.page.back().filter(|_| self.page.len() == KEPT).map(|last| last.position.next());
        }
        Ok(self.page.front().map(|entry| entry.position))
    }

    async fn read(&self, store: &dyn Store, listener: &str, from: Position) -> Result<Vec<Entry>, StoreError> {
        Ok(match self.which {
            Which::Parked => {
                let parked = store.parked_from(listener, from, KEPT).await?.into_iter();
                let entry = |one: crate::store::Parked| Entry {
                    position: one.position,
                    header: one.envelope.header,
                    stage: Stage::Dead {
                        attempts: one.attempts,
                        cause: one.cause,
                        parked_at: one.parked_at,
                        asked: one.asked,
                    },
                };
                parked.map(entry).collect()
            }
            Which::GivenUp => {
                let given_up = store.given_up_from(listener, from, KEPT).await?.into_iter();
                let entry = |one: crate::store::GivenUp| Entry {
                    position: one.position,
                    header: one.header,
                    stage: Stage::GivenUp { attempts: one.attempts, how: one.how, reason: one.reason, at: one.at },
                };
                given_up.map(entry).collect()
            }
        })
    }

    /// The next one, if it stands at `position`.
    pub(super) fn take(&mut self, position: Position) -> Option<Entry> {
        self.page.front().is_some_and(|entry| entry.position == position).then(|| self.page.pop_front()).flatten()
    }
}
