//! Looking through publications: the log beside what is kept for each listener, merged in the order of the log.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::desk::Underway;
use super::query::Query;
use super::scan::{Entry, Kept, Log, Which};
use super::stage::{Publication, Stage, Status};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::event::EventHeader;
use crate::store::{Cursor, Due, ListenerRecord, Position, Redelivery, Store};

/// How many events that were published for later, and about how many bytes of them, are read at once.
const LATER: usize = 256;
const LATER_BYTES: usize = 256 << 10;

/// Looks at the publications of a store.
///
/// What one look answers was true of each publication at some moment during it; those that move meanwhile are told once.
/// Memory: a page of the log, a page of what is parked and given up for each listener, and what waits to be called again, which a
/// listener's look-ahead bounds. Without a bus nobody runs: what a crash cut off is waiting.
#[derive(Clone)]
pub struct View {
    pub(super) store: Arc<dyn Store>,
    pub(super) now: Timestamp,
    desks: HashMap<String, OnDesk>,
}

/// What a bus says of a listener it delivers to.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnDesk {
    pub(crate) underway: HashMap<Position, Underway>,
    pub(crate) is_halted: bool,
}

/// A page of publications.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// By position, then by listener: the oldest first.
    pub publications: Vec<Publication>,
    /// Where the next page goes on; `None` if there is nothing behind this one.
    pub next: Option<Mark>,
}

/// The last publication of a page: what comes next is behind it. Reads and is written as `position:listener`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Its position.
    pub position: Position,
    /// Its listener.
    pub listener: String,
}

impl Display for Mark {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.position.0, self.listener)
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.split_once(':').and_then(|(position, listener)| {
            Some(Self { position: Position(position.parse().ok()?), listener: listener.to_owned() })
        });
        split.ok_or_else(|| format!("`{text}` is no `position:listener`"))
    }
}

/// One listener during a look.
pub(super) struct Track {
    pub(super) listener: String,
    pub(super) record: Option<ListenerRecord>,
    pub(super) cursor: Cursor,
    pub(super) is_worked_for: bool,
    pub(super) is_halted: bool,
    underway: HashMap<Position, Underway>,
    redeliveries: HashMap<Position, Redelivery>,
}

impl Track {
    /// Whether it is owed the event, settled or not.
    fn is_owed(&self, position: Position, header: &EventHeader) -> bool {
        let takes = self.cursor.takes();
        let is_taken = takes.names().contains(&header.name) || takes.took(&header.name, position);
        // It may be that nobody noted what it takes.
        if !is_taken && !takes.names().is_empty() {
            return false;
        }
        let (formerly, from) = self.record.as_ref().map_or((&[][..], Position(0)), |one| (&one.formerly, one.from));
        position >= from && !header.not_owed.iter().any(|id| *id == self.listener || formerly.contains(id))
    }

    fn stage(&self, position: Position, kept: Option<Stage>) -> Stage {
        let underway = self.underway.get(&position);
        match (kept, underway) {
            (Some(Stage::Dead { .. }), Some(underway)) if underway.is_replayed => running(underway),
            (Some(kept), _) => kept,
            (None, _) if self.cursor.is_done(position.0) => Stage::Done,
            (None, Some(underway)) => running(underway),
            (None, None) => match self.redeliveries.get(&position) {
                Some(one) => Stage::Redelivering {
                    attempts: one.attempts,
                    due: one.due,
                    error: one.error.clone(),
                    failed_at: one.failed_at,
                    first_failed_at: one.first_failed_at,
                },
                None => Stage::Waiting,
            },
        }
    }
}

fn running(underway: &Underway) -> Stage {
    match *underway {
        Underway { since, is_handled: true, .. } => Stage::Handled { since },
        Underway { attempt, since, is_replayed, .. } => Stage::Running { attempt, since, replayed: is_replayed },
    }
}

impl View {
    /// Looks at `store`, of which no bus says what runs.
    pub fn new(store: Arc<dyn Store>, now: Timestamp) -> Self {
        Self { store, now, desks: HashMap::new() }
    }

    /// Looks at it beside what a bus says.
    pub(crate) fn with_desks(mut self, desks: HashMap<String, OnDesk>) -> Self {
        self.desks = desks;
        self
    }

    /// At most `limit` publications that `query` wants, behind `after`, the oldest first: in the order of the log, then by listener.
    ///
    /// Dead and given-up ones are found without the log; what is running or waits to be called again, by position. Waiting ones are
    /// looked for from the lowest low-water mark on, those that are done from the beginning of the log.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(&self, query: &Query, after: Option<&Mark>, limit: NonZeroUsize) -> Result<Page, StoreError> {
        let mut publications: Vec<Publication> = Vec::new();
        let mut next = None;
        self.walk(query, after, |track, position, header, stage| {
            if publications.len() == limit.get() {
                next =
                    publications.last().map(|last| Mark { position: last.position, listener: last.listener.clone() });
                return ControlFlow::Break(());
            }
            let (listener, header) = (track.listener.clone(), header.clone());
            publications.push(Publication { position, listener, header, stage });
            ControlFlow::Continue(())
        })
        .await?;
        Ok(Page { publications, next })
    }

    /// Where the event with this id stands, if the store knows anything of it; also one that was erased.
    /// Looks through the log, as it knows events by position only.
    ///
    /// # Errors
    /// The store's.
    pub async fn locate(&self, event: Uuid) -> Result<Option<Position>, StoreError> {
        if let Some(embedded) = self.store.as_embedded() {
            return embedded.find_event(event);
        }
        let store = &*self.store;
        let mut log = Log::range(Position(1), *store.delivered_up_to().borrow());
        while let Some(position) = log.first(store).await? {
            if log.take(position).is_some_and(|found| found.envelope.header.metadata.id == event) {
                return Ok(Some(position));
            }
        }
        for (listener, _) in store.cursors().await? {
            for which in [Which::Parked, Which::GivenUp] {
                let mut kept = Kept::new(which, Some(Position(0)));
                while let Some(position) = kept.first(store, &listener).await? {
                    if kept.take(position).is_some_and(|entry| entry.header.metadata.id == event) {
                        return Ok(Some(position));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Calls `visit` with every event that was published for later and is not due, by due time, until it breaks off.
    pub(super) async fn each_later(
        &self,
        mut visit: impl FnMut(&EventHeader) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut from = Due::default();
        loop {
            let page = self.store.scheduled(from, LATER, LATER_BYTES).await?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.due.next();
            if page.iter().any(|one| visit(&one.envelope.header).is_break()) {
                return Ok(());
            }
        }
    }

    /// Calls `visit` with every publication that `query` wants behind `after`, in order, until it breaks off.
    pub(super) async fn walk(
        &self,
        query: &Query,
        after: Option<&Mark>,
        mut visit: impl FnMut(&Track, Position, &EventHeader, Stage) -> ControlFlow<()>,
    ) -> Result<Vec<Track>, StoreError> {
        let store = &*self.store;
        let tracks = self.tracks(query).await?;
        let only = match (query.one_position(), query.one_event()) {
            (Some(position), _) => Some(position),
            (None, None) => None,
            (None, Some(id)) => match self.locate(id).await? {
                Some(position) => Some(position),
                None => return Ok(tracks),
            },
        };
        let from = only.into_iter().chain(after.map(|mark| mark.position)).max().unwrap_or_default();
        let mut log = self.log(query, &tracks, from, only);
        // What is parked or given up is told from what is done by meeting it.
        let is_met = |status: Status| query.wants(status) || query.wants(Status::Done) || query.wants(Status::Running);
        let kept = |which, status| Kept::new(which, is_met(status).then_some(from));
        let mut beside: Vec<(Kept, Kept)> =
            tracks.iter().map(|_| (kept(Which::Parked, Status::Dead), kept(Which::GivenUp, Status::GivenUp))).collect();
        loop {
            let mut next = log.first(store).await?;
            for (track, (parked, given_up)) in tracks.iter().zip(&mut beside) {
                let firsts =
                    [parked.first(store, &track.listener).await?, given_up.first(store, &track.listener).await?];
                next = next.into_iter().chain(firsts.into_iter().flatten()).min();
            }
            let Some(position) = next.filter(|next| only.is_none_or(|only| *next <= only)) else { return Ok(tracks) };
            let event = log.take(position);
            for (track, (parked, given_up)) in tracks.iter().zip(&mut beside) {
                let entry = [parked.take(position), given_up.take(position)].into_iter().flatten().next();
                if after.is_some_and(|mark| (position, &track.listener) <= (mark.position, &mark.listener)) {
                    continue;
                }
                let (header, kept) = match (&entry, &event) {
                    (Some(Entry { header, stage, .. }), _) => (header, Some(stage.clone())),
                    (None, Some(event)) if track.is_owed(position, &event.envelope.header) => {
                        (&event.envelope.header, None)
                    }
                    (None, _) => continue,
                };
                let stage = track.stage(position, kept);
                if query.wants(stage.status())
                    && query.wants_event(header)
                    && visit(track, position, header, stage).is_break()
                {
                    return Ok(tracks);
                }
            }
        }
    }

    /// The events that have to be looked at.
    fn log(&self, query: &Query, tracks: &[Track], from: Position, only: Option<Position>) -> Log {
        if let Some(position) = only {
            return Log::only(vec![position]);
        }
        let wants = |statuses: &[Status]| statuses.iter().any(|status| query.wants(*status));
        let end = *self.store.delivered_up_to().borrow();
        if wants(&[Status::Done]) {
            return Log::range(from, end);
        }
        if wants(&[Status::Waiting]) {
            let lowest = tracks.iter().map(|track| track.cursor.low()).min().unwrap_or(u64::MAX);
            return Log::range(from.max(Position(lowest)), end);
        }
        if wants(&[Status::Running, Status::Handled, Status::Redelivering]) {
            let known = tracks.iter().flat_map(|track| track.underway.keys().chain(track.redeliveries.keys()));
            return Log::only(known.copied().filter(|position| *position >= from).collect());
        }
        Log::Nothing
    }

    /// The listeners that `query` wants, by id.
    ///
    /// First what is in somebody's hands, then what waits to be called again, then what is settled: so what moves on meanwhile is
    /// told as what it was or as what it became, never as something that it was not.
    async fn tracks(&self, query: &Query) -> Result<Vec<Track>, StoreError> {
        let store = &*self.store;
        let mut tracks = Vec::new();
        for (listener, _) in store.cursors().await? {
            if query.wants_listener(&listener) {
                let redeliveries = store.redeliveries(&listener).await?;
                let redeliveries = redeliveries.into_iter().map(|one| (one.position, one)).collect();
                let desk = self.desks.get(&listener);
                let OnDesk { underway, is_halted } = desk.cloned().unwrap_or_default();
                let (record, cursor, is_worked_for) = (None, Cursor::default(), desk.is_some());
                tracks.push(Track { listener, record, cursor, is_worked_for, is_halted, underway, redeliveries });
            }
        }
        let mut records: HashMap<String, ListenerRecord> = store.listener_records().await?.into_iter().collect();
        let mut cursors: HashMap<String, Cursor> = store.cursors().await?.into_iter().collect();
        // Forgotten meanwhile.
        tracks.retain(|track| cursors.contains_key(&track.listener));
        for track in &mut tracks {
            track.record = records.remove(&track.listener);
            track.cursor = cursors.remove(&track.listener).unwrap_or_default();
        }
        tracks.sort_by(|left, right| left.listener.cmp(&right.listener));
        Ok(tracks)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.debug_struct("View").field("store", &self.store.kind()).field("now", &self.now).finish_non_exhaustive()
    }
}
