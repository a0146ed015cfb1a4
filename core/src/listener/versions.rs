//! The tables of one event type: built at start, replaced as a whole when a listener comes or goes.
//!
//! Replaced tables live as long as the bus, so that a publish under way is never disturbed. What is in a table, and when it is
//! replaced, is decided by others.

use std::any::Any;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::declare::ErasedListener;
use super::deliver::Deliver;
use super::invoke::BareList;
use super::listeners::{ErasedBuilder, Listeners};
use crate::event::Event;

/// What a publish runs through where bare functions are all there is to call.
pub(crate) struct Short<E> {
    pub(crate) functions: BareList<E>,
    /// Whether one of them can fail.
    pub(crate) can_fail: bool,
    /// Whose functions they are.
    pub(crate) listeners: Arc<Listeners<E>>,
}

/// What a publish of one event type finds at its slot, with one acquire load and one checked downcast.
pub(super) struct Slot {
    /// The [`Short`] of the first table; anything else if it has none.
    short: Box<dyn Any + Send + Sync>,
    /// Why a publish must look closer than at `short`, by bits; 0 if it need not.
    closed: AtomicU8,
    versions: Option<Box<Versions>>,
}

/// For good, as looking closer finds everything.
const FOR_GOOD: u8 = 1;
/// As long as somebody reads the events as a stream.
const SUBSCRIBED: u8 = 2;

impl Slot {
    pub(super) fn vacant() -> Self {
        Self { short: Box::new(()), closed: AtomicU8::new(0), versions: None }
    }

    pub(super) fn new(builder: Box<dyn ErasedBuilder>) -> (Self, Vec<Arc<dyn Deliver>>) {
        let (versions, short, durable) = Versions::new(builder);
        (Self { short, closed: AtomicU8::new(0), versions: Some(Box::new(versions)) }, durable)
    }

    #[inline]
    pub(super) fn short<E: Event>(&self) -> Option<&Short<E>> {
        if self.closed.load(Ordering::Acquire) != 0 {
            return None;
        }
        self.short.downcast_ref()
    }

    pub(super) fn close(&self) {
        self.closed.fetch_or(FOR_GOOD, Ordering::Release);
    }

    pub(super) fn get<E: Event>(&self) -> Option<&Arc<Listeners<E>>> {
        self.versions.as_ref()?.get()
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.versions.is_none()
    }

    /// Changes the table; `None` if `change` says there is nothing to change.
    pub(super) fn replace(&self, change: impl FnOnce(&mut dyn ErasedBuilder) -> bool) -> Option<Vec<Arc<dyn Deliver>>> {
        let durable = self.versions.as_ref()?.replace(change)?;
        self.close();
        Some(durable)
    }

    /// The events go to `subscribers` too, until [`unsubscribe`](Self::unsubscribe). Nothing happens to a vacant slot.
    pub(super) fn subscribe(&self, subscribers: Box<dyn ErasedListener>) {
        if let Some(versions) = &self.versions {
            versions.subscribe(subscribers);
            self.closed.fetch_or(SUBSCRIBED, Ordering::Release);
        }
    }

    pub(super) fn unsubscribe(&self) {
        if let Some(versions) = &self.versions {
            versions.unsubscribe();
            self.closed.fetch_and(!SUBSCRIBED, Ordering::Release);
        }
    }
}

/// The listeners of one event type, as an `Arc<Listeners<E>>`.
pub(super) type Table = Box<dyn Any + Send + Sync>;

/// Block `n` holds the versions from `2^n` on, as many.
type Later = [OnceLock<Box<[OnceLock<Table>]>>; 32];

/// The tables of one event type, newest last; none is dropped before the registry.
pub(super) struct Versions {
    current: AtomicUsize,
    first: Table,
    later: OnceLock<Box<Later>>,
    change: Mutex<Change>,
}

/// What the next table is made of.
struct Change {
    builder: Box<dyn ErasedBuilder>,
    newest: usize,
    is_subscribed: bool,
    /// The tables of these very listeners without and with subscribers, so that those may come and go without end.
    twins: [Option<usize>; 2],
}

impl Versions {
    /// The first table; what stands in [`Slot::short`] for it; and its durable listeners.
    pub(super) fn new(
        mut builder: Box<dyn ErasedBuilder>,
    ) -> (Self, Box<dyn Any + Send + Sync>, Vec<Arc<dyn Deliver>>) {
        let built = builder.build();
        let versions = Self {
            current: AtomicUsize::new(0),
            first: built.table,
            later: OnceLock::new(),
            change: Mutex::new(Change { builder, newest: 0, is_subscribed: false, twins: [Some(0), None] }),
        };
        (versions, built.short, built.durable)
    }

    pub(super) fn get<E: Event>(&self) -> Option<&Arc<Listeners<E>>> {
        let table = match self.current.load(Ordering::Acquire) {
            0 => &self.first,
            version => self.later(version)?,
        };
        table.downcast_ref()
    }

    fn later(&self, version: usize) -> Option<&Table> {
        let block = version.ilog2() as usize;
        self.later.get()?[block].get()?[version - (1 << block)].get()
    }

    /// Changes the table; `None` if `change` says there is nothing to change.
    pub(super) fn replace(&self, change: impl FnOnce(&mut dyn ErasedBuilder) -> bool) -> Option<Vec<Arc<dyn Deliver>>> {
        let mut next = self.change.lock();
        if !change(&mut *next.builder) {
            return None;
        }
        next.twins = [None, None];
        Some(self.build(&mut next))
    }

    /// The events go to `subscribers` too.
    pub(super) fn subscribe(&self, subscribers: Box<dyn ErasedListener>) {
        let mut next = self.change.lock();
        next.builder.subscribe(subscribers);
        self.set_subscribed(&mut next, true);
    }

    pub(super) fn unsubscribe(&self) {
        let mut next = self.change.lock();
        next.builder.unsubscribe();
        self.set_subscribed(&mut next, false);
    }

    /// Goes back to the table that was built for it before, if nothing else has changed since.
    fn set_subscribed(&self, next: &mut Change, is_subscribed: bool) {
        next.is_subscribed = is_subscribed;
        match next.twins[usize::from(is_subscribed)] {
            Some(version) => self.current.store(version, Ordering::Release),
            None => drop(self.build(next)),
        }
    }

    fn build(&self, next: &mut Change) -> Vec<Arc<dyn Deliver>> {
        let built = next.builder.build();
        next.newest += 1;
        let version = next.newest;
        next.twins[usize::from(next.is_subscribed)] = Some(version);
        let block = version.ilog2() as usize;
        let later = self.later.get_or_init(|| Box::new([const { OnceLock::new() }; 32]));
        let slots = later[block].get_or_init(|| (0..1usize << block).map(|_| OnceLock::new()).collect());
        slots[version - (1 << block)].get_or_init(|| built.table);
        self.current.store(version, Ordering::Release);
        built.durable
    }

    /// How many tables were built after the first.
    #[cfg(test)]
    pub(super) fn newest(&self) -> usize {
        self.change.lock().newest
    }
}
