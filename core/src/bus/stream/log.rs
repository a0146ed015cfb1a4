//! Events of the log as a stream, from a position on and then live.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use tokio::sync::watch;

use crate::bus::{Bus, Core};
use crate::error::{BoxError, StoreError};
use crate::event::{Metadata, StoredEvent};
use crate::listener::StopSignal;
use crate::store::{LogEvent, LogHold, Position};

/// How many events, and about how many bytes of them, are read at once.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 256 << 10;

/// An event of the log, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry<E> {
    /// Its place. A stream from the place after it, [`Position::next`], goes on without a gap.
    pub position: Position,
    /// Its identity, time and descent.
    pub metadata: Metadata,
    /// The event.
    pub event: E,
}

/// What a stream of the log has to say that is no event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The event is in no log: it is neither declared `logged` nor has it a durable listener.
    #[error("`{event}` is not stored: declare it `#[event(logged)]`, or give it a durable listener")]
    NotStored {
        /// The event's name.
        event: &'static str,
    },
    /// Not every stored version of the event leads to the present one.
    #[error("event `{event}` cannot be read in all its versions: {reason}")]
    Versions {
        /// The event's name.
        event: &'static str,
        /// What is missing or too much, and what to do.
        reason: String,
    },
    /// Events may have stood here that are gone: they were pruned before they were read. The stream goes on behind them.
    #[error("events between log positions {} and {} may have been pruned before they were read", from.0, to.0)]
    Gap {
        /// The first position that may be missing.
        from: Position,
        /// The first that is not.
        to: Position,
    },
    /// The event cannot be decoded by this program; the cause is a [`DecodeError`](crate::error::DecodeError). The stream goes on behind it.
    #[error("the event at log position {} cannot be decoded", position.0)]
    Undecodable {
        /// Its place.
        position: Position,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// The store failed; the stream ends.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Bus {
    /// Reads the events of type `E` from the log as a stream: those from `from` on that it holds, then each one that is committed,
    /// in the order of the log. `Position(1)` is the beginning; [`log_end`](Self::log_end) is where the next one will be.
    ///
    /// To go on after an entry, also after a restart, start from `entry.position.next()`, or from [`LogStream::position`], which also
    /// knows of events of other types that were passed by. Nothing is left out and nothing comes twice.
    ///
    /// A stream reaches back as far as the log's [`Retention`](crate::store::Retention) does. Where something may have been removed
    /// that was not read yet, it says [`StreamError::Gap`]; see [`holding`](LogStream::holding).
    /// An event that met the condition of none of its durable listeners is not stored unless it is logged.
    ///
    /// Events come once they are as durable as their commit says. Whoever publishes does not wait for whoever reads.
    ///
    /// # Errors
    /// [`StreamError::NotStored`] if events of this type are not stored; [`StreamError::Versions`] if not all their versions can be read.
    ///
    /// ```
    /// use aftercommit::prelude::*;
    /// use aftercommit::store::Position;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Event, Debug, PartialEq, Serialize, Deserialize)]
    /// #[event(name = "site.page-changed", logged)]
    /// struct PageChanged { page: u32 }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::builder().start().await?;
    /// bus.transaction(async |tx| {
    ///     tx.publish(PageChanged { page: 7 })?;
    ///     tx.publish(PageChanged { page: 8 })
    /// })
    /// .await?;
    ///
    /// let mut changes = bus.stream_from::<PageChanged>(Position(1))?;
    /// let Some(Ok(first)) = changes.next().await else { return Err("no entry".into()) };
    /// assert_eq!(first.event, PageChanged { page: 7 });
    ///
    /// let mut rest = bus.stream_from::<PageChanged>(first.position.next())?; // another day
    /// let Some(Ok(second)) = rest.next().await else { return Err("no entry".into()) };
    /// assert_eq!(second.event, PageChanged { page: 8 });
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream_from<E: StoredEvent>(&self, from: Position) -> Result<LogStream<E>, StreamError> {
        if let Some(Err(reason)) = E::STORED.map(|stored| stored.check()) {
            return Err(StreamError::Versions { event: E::name(), reason });
        }
        let logged = E::STORED.is_some_and(|stored| stored.logged);
        let has_durable = || self.core.registry.get::<E>().is_some_and(|found| !found.durable.is_empty());
        if !logged && !has_durable() {
            return Err(StreamError::NotStored { event: E::name() });
        }
        let source = Source {
            core: Arc::downgrade(&self.core),
            end: self.core.store.delivered_up_to(),
            stop: self.core.stopper.signal(),
            logged,
        };
        let next = from.max(Position(1));
        let (waiting, reading, hold) = (VecDeque::new(), None, None);
        Ok(LogStream { source, waiting, next, read_to: next, reading, hold, ended: false })
    }

    /// The position after the last event of the log that can be read.
    ///
    /// To show a state and then what changes it: ask for this first, read the state, and stream from here. What was committed in
    /// between is in both.
    pub fn log_end(&self) -> Position {
        self.core.store.delivered_up_to().borrow().next()
    }
}

/// The events of type `E` in the log, from a position on and then live; made by [`Bus::stream_from`]. Ends when the bus stops.
///
/// Does not keep the bus running, nor its store open. Dropped, it leaves nothing behind.
///
/// # Cancel safety
/// An entry leaves the stream with the item: dropping the future of [`next`](Self::next), or of any combinator that holds no items
/// of its own, loses nothing.
#[must_use = "a stream reads nothing until it is polled"]
pub struct LogStream<E> {
    source: Source,
    /// Read, and not yet asked for.
    waiting: VecDeque<Result<LogEntry<E>, StreamError>>,
    /// Where the next item is looked for.
    next: Position,
    /// Everything below was read.
    read_to: Position,
    reading: Option<BoxFuture<'static, Page>>,
    hold: Option<LogHold>,
    ended: bool,
}

impl<E: StoredEvent> LogStream<E> {
    /// Where another stream goes on without a gap: behind the last item, and behind events of other types that were passed by since.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Keeps in the log what this stream has not read yet, whatever the retention says, as long as the stream lives: for a copy that
    /// must not miss anything. A stream that is no longer read makes the log grow.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] if the store manages its log by itself.
    pub fn holding(mut self) -> Result<Self, StreamError> {
        let Some(core) = self.source.core.upgrade() else { return Ok(self) };
        let unsupported = || StoreError::Unsupported { action: "hold the log", store: core.store.kind() };
        self.hold = Some(core.store.as_embedded().ok_or_else(unsupported)?.hold_log(self.next));
        Ok(self)
    }

    /// The next entry; `None` once the bus has stopped. The same as `StreamExt::next`.
    ///
    /// # Errors
    /// [`StreamError::Gap`] and [`StreamError::Undecodable`], after which the stream goes on; [`StreamError::Store`], after which it ends.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<LogEntry<E>, StreamError>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<LogEntry<E>, StreamError>>> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                self.next = match &item {
                    Ok(LogEntry { position, .. }) | Err(StreamError::Undecodable { position, .. }) => position.next(),
                    Err(StreamError::Gap { to, .. }) => *to,
                    Err(_) => self.next,
                };
                self.let_go();
                return Poll::Ready(Some(item));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            self.next = self.read_to;
            self.let_go();
            let reading = self.reading.get_or_insert_with(|| self.source.clone().read(self.read_to).boxed());
            let page = ready!(reading.as_mut().poll(context));
            self.reading = None;
            self.take_in(page);
        }
    }

    /// What was read need not be kept.
    fn let_go(&self) {
        if let Some(hold) = &self.hold {
            hold.move_to(self.next);
        }
    }

    fn take_in(&mut self, page: Page) {
        let Some(stored) = E::STORED else { return };
        match page {
            Page::Ended => self.ended = true,
            Page::Failed(cause) => {
                self.ended = true;
                self.waiting.push_back(Err(cause.into()));
            }
            Page::Read { events, to, pruned_to } => {
                let mut next = self.read_to;
                for LogEvent { position, envelope } in events {
                    self.miss(next, position, pruned_to);
                    next = position.next();
                    if stored.is_stored_as(&envelope.header.name) {
                        let metadata = envelope.header.metadata;
                        let opened = stored.open(&envelope);
                        let opened = opened.map(|event| LogEntry { position, metadata, event });
                        self.waiting.push_back(
                            opened.map_err(|cause| StreamError::Undecodable { position, cause: cause.into() }),
                        );
                    }
                }
                self.miss(next, to, pruned_to);
                self.read_to = to;
            }
        }
    }

    /// Nothing stands from `from` to `to`: a gap if it may have been pruned.
    fn miss(&mut self, from: Position, to: Position, pruned_to: Position) {
        let to = to.min(pruned_to);
        if from < to {
            self.waiting.push_back(Err(StreamError::Gap { from, to }));
        }
    }
}

impl<E: StoredEvent> Stream for LogStream<E> {
    type Item = Result<LogEntry<E>, StreamError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl<E> Unpin for LogStream<E> {}

impl<E> fmt::Debug for LogStream<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = std::any::type_name::<E>();
        out.debug_struct("LogStream").field("event", &event).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Where a stream reads. Weak, so that it keeps neither the bus nor its store.
#[derive(Clone)]
struct Source {
    core: Weak<Core>,
    end: watch::Receiver<Position>,
    stop: StopSignal,
    logged: bool,
}

/// A look at the log.
enum Page {
    /// Everything that stands below `to` from where it was asked for; holes below `pruned_to` may come from pruning.
    Read {
        events: Vec<LogEvent>,
        to: Position,
        pruned_to: Position,
    },
    Failed(StoreError),
    Ended,
}

impl Source {
    /// Reads from `from` on, once there is something.
    async fn read(mut self, from: Position) -> Page {
        loop {
            if self.stop.is_stopping() {
                return Page::Ended;
            }
            let end = *self.end.borrow_and_update();
            if from <= end {
                break self.look(from, end).await;
            }
            tokio::select! {
                biased;
                () = self.stop.stopped() => return Page::Ended,
                changed = self.end.changed() => if changed.is_err() { return Page::Ended },
            }
        }
    }

    async fn look(&self, from: Position, end: Position) -> Page {
        let Some(core) = self.core.upgrade() else { return Page::Ended };
        let events = match core.store.read_log(from, PAGE, PAGE_BYTES).await {
            Ok(events) => events,
            Err(StoreError::Closed) => return Page::Ended,
            Err(cause) => return Page::Failed(cause),
        };
        // Asked for afterwards, so that what was pruned before the look is known.
        let pruned_to = core.store.pruned_to(self.logged);
        let to = events.last().map_or(end, |last| last.position).next();
        drop(core);
        // A long log is read in pages, and others get their turn in between.
        tokio::task::yield_now().await;
        Page::Read { events, to, pruned_to }
    }
}
