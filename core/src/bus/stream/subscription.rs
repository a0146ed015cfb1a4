//! Events in memory, as they are committed.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::Stream;
use parking_lot::Mutex;

use super::mailbox::{Lagged, Left, Mailbox};
use crate::bus::{Bus, Core};
use crate::event::{Envelope, Event};
use crate::listener::{self, WithoutTx};

/// How many events wait for a subscriber, unless it says otherwise.
const CAPACITY: usize = 1024;

impl Bus {
    /// Reads the events of type `E` as a stream, from now on, in memory: after a restart there is nothing to read again.
    /// For a stream that can be resumed see [`stream_from`](Self::stream_from).
    ///
    /// An event published in a unit of work is heard once its commit stands, before the unit's locks are released, so that
    /// events published under the same lock are heard in the order of their commits; other units that end at the same moment are heard
    /// in either order. One that is rolled back, or in doubt, is not heard. An event published without a unit of work is heard at once.
    ///
    /// Who publishes never waits: at most 1,024 events wait for a subscriber, or as many as [`capacity`](Subscription::capacity)
    /// says; beyond, the oldest gives way, and [`Lagged`] tells how many were missed.
    /// The event is cloned once for all subscribers of its type. Without subscribers it costs nothing.
    ///
    /// ```
    /// use aftercommit::prelude::*;
    ///
    /// #[derive(Event, Clone, Debug, PartialEq)]
    /// struct PageChanged { page: u32 }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::builder().start().await?;
    /// let mut changes = bus.subscribe::<PageChanged>();
    /// bus.transaction(async |tx| tx.publish(PageChanged { page: 7 })).await?;
    /// match changes.next().await {
    ///     Some(Ok(event)) => assert_eq!(*event, PageChanged { page: 7 }),
    ///     Some(Err(lagged)) => println!("{lagged}: read the pages again"),
    ///     None => println!("the bus has stopped"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe<E: Event + Clone>(&self) -> Subscription<E> {
        let mailbox = Arc::new(Mailbox::new(CAPACITY));
        let subscription = Subscription { mailbox, leave: leave::<E>, core: Arc::downgrade(&self.core) };
        if self.core.is_stopping() || !self.core.subscribers.join(&self.core, &subscription.mailbox) {
            subscription.mailbox.end().wake();
        }
        subscription
    }
}

/// The events of type `E` as they are committed; made by [`Bus::subscribe`]. Ends when the bus stops, after what waits was read.
///
/// Does not keep the bus running. Once it is dropped, publishing costs what it cost before.
///
/// # Cancel safety
/// An event leaves the stream with the item: dropping the future of [`next`](Self::next), or of any combinator that holds no items
/// of its own, loses nothing.
#[must_use = "events that nobody reads are kept until there are too many"]
pub struct Subscription<E> {
    mailbox: Arc<Mailbox<E>>,
    /// Given by `subscribe`, the one place that asks for an [`Event`].
    leave: fn(&Arc<Core>, &Arc<Mailbox<E>>),
    core: Weak<Core>,
}

impl<E> Subscription<E> {
    /// How many events may wait to be read, at least 1; 1,024 unless said here.
    pub fn capacity(self, events: usize) -> Self {
        self.mailbox.set_capacity(events.max(1));
        self
    }

    /// Of the events of one key that wait to be read, keeps only the newest, in the place of the first: for who shows a state and
    /// need not see each step to it. Events without a key count as one key. What is replaced is not told as missed.
    ///
    /// The capacity bounds how many keys wait.
    pub fn latest(self) -> Self {
        self.mailbox.keep_latest();
        self
    }

    /// The next event; `None` once the bus has stopped. The same as `StreamExt::next`.
    ///
    /// # Errors
    /// [`Lagged`] if events were missed before the next one; the stream goes on.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<E>, Lagged>> {
        std::future::poll_fn(|context| self.mailbox.poll_next(context)).await
    }
}

impl<E> Stream for Subscription<E> {
    type Item = Result<Arc<E>, Lagged>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.mailbox.poll_next(context)
    }
}

impl<E> Drop for Subscription<E> {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            (self.leave)(&core, &self.mailbox);
        }
    }
}

impl<E> fmt::Debug for Subscription<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Subscription").field("event", &std::any::type_name::<E>()).finish_non_exhaustive()
    }
}

fn leave<E: Event>(core: &Arc<Core>, mailbox: &Arc<Mailbox<E>>) {
    core.subscribers.leave(core, mailbox);
}

/// The subscribers of a bus, by event type.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<Halls>);

#[derive(Default)]
struct Halls {
    by_event: BTreeMap<TypeId, Arc<dyn ErasedHall>>,
    ended: bool,
}

/// The subscribers of one event type. Kept once made, as the table of listeners that names it is kept too.
struct Hall<E>(Mutex<Vec<Arc<Mailbox<E>>>>);

trait ErasedHall: Send + Sync {
    fn end(&self);
    /// Gives a scheduled event that has entered the log to the subscribers of its type; answers whether this is its type and it has some.
    fn entered(&self, envelope: &Envelope) -> bool;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<E: Event + Clone> ErasedHall for Hall<E> {
    fn end(&self) {
        let left: Vec<Left<E>> = self.0.lock().iter().map(|mailbox| mailbox.end()).collect();
        left.into_iter().for_each(Left::wake);
    }

    fn entered(&self, envelope: &Envelope) -> bool {
        let Some(stored) = E::STORED.filter(|stored| stored.is_stored_as(&envelope.header.name)) else { return false };
        let is_heard = !self.0.lock().is_empty();
        if is_heard && let Ok(event) = stored.open(envelope) {
            self.pass(&event);
        }
        is_heard
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<E: Event + Clone> Hall<E> {
    /// Gives `event` to all subscribers, which all see the same order.
    fn pass(&self, event: &E) {
        let event = Arc::new(event.clone());
        let wants_key = self.0.lock().iter().any(|mailbox| mailbox.wants_key());
        let key: Option<Arc<[u8]>> = wants_key.then(|| {
            let mut key = Vec::new();
            event.key(&mut key);
            Arc::from(key)
        });
        let left: Vec<Left<E>> = self.0.lock().iter().map(|mailbox| mailbox.put(&event, key.as_ref())).collect();
        left.into_iter().for_each(Left::wake);
    }
}

impl Subscribers {
    /// Answers `false` if the bus has stopped.
    fn join<E: Event + Clone>(&self, core: &Core, mailbox: &Arc<Mailbox<E>>) -> bool {
        let mut halls = self.0.lock();
        if halls.ended {
            return false;
        }
        let hall = match halls.by_event.entry(TypeId::of::<E>()) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => entry.insert(Arc::new(Hall::<E>(Mutex::default()))).clone(),
        };
        // The map is by type, so that the downcast holds.
        let Ok(hall) = hall.into_any().downcast::<Hall<E>>() else { return false };
        let mut mailboxes = hall.0.lock();
        mailboxes.push(mailbox.clone());
        let is_first = mailboxes.len() == 1;
        drop(mailboxes);
        if is_first {
            let pass = move |event: &E| hall.pass(event);
            let subscribers = listener::on::<E>("subscribers").without_tx(WithoutTx::Run).call(pass);
            core.registry.subscribe(subscribers.0);
        }
        true
    }

    fn leave<E: Event>(&self, core: &Core, mailbox: &Arc<Mailbox<E>>) {
        let halls = self.0.lock();
        let Some(hall) = halls.by_event.get(&TypeId::of::<E>()) else { return };
        let Ok(hall) = hall.clone().into_any().downcast::<Hall<E>>() else { return };
        let mut mailboxes = hall.0.lock();
        let before = mailboxes.len();
        mailboxes.retain(|one| !Arc::ptr_eq(one, mailbox));
        let is_last = mailboxes.is_empty() && before > 0;
        drop(mailboxes);
        if is_last {
            core.registry.unsubscribe::<E>();
        }
    }

    /// A scheduled event has entered the log; answers whether somebody hears it.
    pub(crate) fn entered(&self, envelope: &Envelope) -> bool {
        let halls: Vec<_> = self.0.lock().by_event.values().cloned().collect();
        halls.iter().filter(|hall| hall.entered(envelope)).count() > 0
    }

    /// Ends all streams; what waits in them can still be read.
    pub(crate) fn end(&self) {
        let mut halls = self.0.lock();
        halls.ended = true;
        let ending: Vec<_> = halls.by_event.values().cloned().collect();
        drop(halls);
        ending.iter().for_each(|hall| hall.end());
    }
}
