//! One event's whole story.

use std::ops::ControlFlow;

use uuid::Uuid;

use super::query::Query;
use super::scan::Log;
use super::stage::Publication;
use super::view::View;
use crate::error::StoreError;
use crate::event::EventHeader;
use crate::store::Position;

/// What a store knows of one event: when it was published and by what, whom it was owed to and what became of it, what it caused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Story {
    /// Its id.
    pub event: Uuid,
    /// Its place in the log; `None` as long as it is not due.
    pub position: Option<Position>,
    /// How much of it is left.
    pub held: Held,
    /// Name, version, key, time, correlation and causation, and the durable listeners whose condition it did not meet; `None` if
    /// it was erased.
    pub header: Option<EventHeader>,
    /// By listener: each that is, or was, owed it.
    pub publications: Vec<Publication>,
    /// The stored events whose causation it is, in the order of the log; then those that are not due yet, by due time.
    pub caused: Vec<Caused>,
    /// Whether it caused more than those.
    pub caused_more: bool,
}

impl Story {
    /// How many events that it caused are told one by one.
    pub const MOST_CAUSED: usize = 256;
}

/// How much of an event is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Held {
    /// The log holds it.
    InLog,
    /// It was pruned from the log: what is told comes from dead letters, and from what was given up. Of listeners that are done with
    /// it nothing is known any more.
    Aside,
    /// It was erased.
    Erased,
    /// It was published for later, and stands beside the log until it is due: nobody is owed it yet.
    Later,
}

impl std::fmt::Display for Held {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Held::InLog => "in the log",
            Held::Aside => "pruned from the log; only what was parked or given up is known",
            Held::Erased => "erased",
            Held::Later => "published for later, and not due yet",
        })
    }
}

/// An event that another caused: one that a listener of it published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caused {
    /// Its place in the log; `None` if it was published for later and is not due yet.
    pub position: Option<Position>,
    /// What is known of it without decoding it.
    pub header: EventHeader,
}

impl View {
    /// The story of the event with this id; `None` if the store knows nothing of it: it was never stored, or was pruned.
    /// Looks twice through the log and what was published for later: for its place, and for what it caused.
    ///
    /// # Errors
    /// The store's.
    pub async fn story(&self, event: Uuid) -> Result<Option<Story>, StoreError> {
        // First what is not due: it enters the log before it leaves there.
        if let Some(story) = self.story_of_later(event).await? {
            return Ok(Some(story));
        }
        let Some(position) = self.locate(event).await? else { return Ok(None) };
        let in_log = self.store.read_event(position).await?;
        let mut publications = Vec::new();
        self.walk(&Query::new().event(event).position(position), None, |track, position, header, stage| {
            let (listener, header) = (track.listener.clone(), header.clone());
            publications.push(Publication { position, listener, header, stage });
            ControlFlow::Continue(())
        })
        .await?;
        let (held, header) = match (in_log, publications.first()) {
            (Some(found), _) => (Held::InLog, Some(found.envelope.header.clone())),
            (None, Some(kept)) => (Held::Aside, Some(kept.header.clone())),
            (None, None) => (Held::Erased, None),
        };
        let (caused, caused_more) = self.caused(event, position).await?;
        Ok(Some(Story { event, position: Some(position), held, header, publications, caused, caused_more }))
    }

    /// The story of an event that was published for later, if it is one that is not due.
    async fn story_of_later(&self, event: Uuid) -> Result<Option<Story>, StoreError> {
        let mut header = None;
        self.each_later(|one| {
            if one.metadata.id != event {
                return ControlFlow::Continue(());
            }
            header = Some(one.clone());
            ControlFlow::Break(())
        })
        .await?;
        let (publications, caused) = (Vec::new(), Vec::new());
        Ok(header.map(|header| Story {
            event,
            position: None,
            held: Held::Later,
            header: Some(header),
            publications,
            caused,
            caused_more: false,
        }))
    }

    /// What the event at `position` caused, which stands behind it or is not due yet; and whether there is more.
    async fn caused(&self, event: Uuid, position: Position) -> Result<(Vec<Caused>, bool), StoreError> {
        let store = &*self.store;
        let is_caused = |header: &EventHeader| header.metadata.causation == Some(event);
        let mut later = Vec::new();
        self.each_later(|header| {
            if is_caused(header) {
                later.push(Caused { position: None, header: header.clone() });
            }
            if later.len() > Story::MOST_CAUSED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
        let mut log = Log::range(position.next(), *store.delivered_up_to().borrow());
        let mut caused: Vec<Caused> = Vec::new();
        while caused.len() <= Story::MOST_CAUSED
            && let Some(position) = log.first(store).await?
        {
            if let Some(found) = log.take(position).filter(|found| is_caused(&found.envelope.header)) {
                caused.push(Caused { position: Some(position), header: found.envelope.header.clone() });
            }
        }
        // What became due meanwhile was seen twice.
        later.retain(|one| caused.iter().all(|seen| seen.header.metadata.id != one.header.metadata.id));
        caused.extend(later);
        let is_more = caused.len() > Story::MOST_CAUSED;
        caused.truncate(Story::MOST_CAUSED);
        Ok((caused, is_more))
    }
}
