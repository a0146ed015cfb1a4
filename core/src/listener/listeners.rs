//! The listeners of one event type: in the order in which they are called, by phase, and how a publish runs through them.

use std::any::Any;
use std::sync::Arc;

use super::declare::ErasedListener;
use super::deliver::Deliver;
use super::descriptor::{Descriptor, Mode};
use super::invoke::{Bare, BareList, Body, Kept, Listener};
use super::versions::{Short, Table};
use crate::event::Event;
use crate::transaction::{Enlisted, Order, Phase};

/// The listeners of one event type, by phase, each in the order in which they are called.
pub(crate) struct Listeners<E> {
    /// The immediate listeners as bare functions, if the event has no others and none of these asks for more.
    pub(crate) bare: Option<BareList<E>>,
    /// Whether one of the bare functions can fail.
    pub(crate) can_fail: bool,
    pub(crate) immediate: Vec<Arc<Listener<E>>>,
    pub(crate) before_commit: Vec<Arc<Listener<E>>>,
    pub(crate) after_commit: Vec<Arc<Listener<E>>>,
    pub(crate) after_rollback: Vec<Arc<Listener<E>>>,
    pub(crate) after_completion: Vec<Arc<Listener<E>>>,
    pub(crate) durable: Vec<Arc<Listener<E>>>,
    /// What a publish enlists: for each phase, the runs of listeners of the same order that are called alike.
    pub(crate) enlisted: Box<[Enlisted]>,
}

impl<E: Event> Listeners<E> {
    /// The table of `all`, sorted by order and id; `bare` are their functions if these are all there is to call.
    /// `subscribers` stands for those who read the events as a stream.
    fn of(all: &[Arc<Listener<E>>], bare: Option<BareList<E>>, subscribers: Option<&Arc<Listener<E>>>) -> Self {
        let in_phase = |phase| {
            all.iter()
                .filter(|one| one.descriptor.durable.is_none() && one.descriptor.phase == phase)
                .cloned()
                .collect()
        };
        let immediate: Vec<Arc<Listener<E>>> = in_phase(Phase::Immediate);
        let mut listeners = Self {
            can_fail: bare.as_ref().is_none_or(|functions| functions.iter().any(|function| function.can_fail())),
            bare,
            before_commit: in_phase(Phase::BeforeCommit),
            after_commit: in_phase(Phase::AfterCommit),
            after_rollback: in_phase(Phase::AfterRollback),
            after_completion: in_phase(Phase::AfterCompletion),
            durable: all.iter().filter(|one| one.descriptor.durable.is_some()).cloned().collect(),
            immediate,
            enlisted: Box::default(),
        };
        let phases = [Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion];
        let mut enlisted: Vec<Enlisted> =
            phases.into_iter().flat_map(|phase| runs(phase, listeners.in_phase(phase))).collect();
        if let Some(subscribers) = subscribers {
            let first = listeners.after_commit.len() as u32;
            listeners.after_commit.push(subscribers.clone());
            let (phase, order) = (Phase::AfterCommit, Order::FIRST);
            enlisted.push(Enlisted { phase, order, first, end: first + 1, elsewhere: false });
        }
        listeners.enlisted = enlisted.into();
        listeners
    }

    #[inline]
    pub(crate) fn in_phase(&self, phase: Phase) -> &[Arc<Listener<E>>] {
        match phase {
            Phase::Immediate => &self.immediate,
            Phase::BeforeCommit => &self.before_commit,
            Phase::AfterCommit => &self.after_commit,
            Phase::AfterRollback => &self.after_rollback,
            Phase::AfterCompletion => &self.after_completion,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Those bound to a phase of a unit of work, in order.
    pub(crate) fn phased(&self) -> impl Iterator<Item = &Arc<Listener<E>>> {
        self.before_commit.iter().chain(&self.after_commit).chain(&self.after_rollback).chain(&self.after_completion)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Listener<E>>> {
        self.immediate.iter().chain(self.phased()).chain(&self.durable)
    }
}

/// The listeners of a phase, by runs of the same order that are called alike.
fn runs<E>(phase: Phase, listeners: &[Arc<Listener<E>>]) -> Vec<Enlisted> {
    let alike = |one: &Arc<Listener<E>>| (Order::from(one.descriptor.order), one.descriptor.mode != Mode::InPlace);
    let mut from = 0;
    listeners
        .chunk_by(|a, b| alike(a) == alike(b))
        .map(|run| {
            let (order, elsewhere) = alike(&run[0]);
            let first = from;
            from += run.len() as u32;
            Enlisted { phase, order, first, end: from, elsewhere }
        })
        .collect()
}

/// Explicit orders ascending, then those without one; equals by id, so that every start has the same order.
pub(super) fn position(descriptor: &Descriptor) -> (i64, &str) {
    (descriptor.order.map_or(i64::MAX, i64::from), descriptor.id.as_str())
}

/// Builds the table of one event type.
pub(crate) trait ErasedBuilder: Send + Sync {
    fn add(&mut self, listener: Box<dyn ErasedListener>);
    /// The table, ready to be published to; and its durable listeners, ready to be delivered to.
    fn build(&mut self) -> Built;
    /// Takes the listener out; answers whether it was there.
    fn remove(&mut self, id: &str) -> bool;
    /// Whether tables are built with the subscribers from now on. The first one given is kept and stands for all later ones.
    fn subscribe(&mut self, subscribers: Box<dyn ErasedListener>);
    fn unsubscribe(&mut self);
}

pub(crate) struct Built {
    pub(super) table: Table,
    /// The [`Short`] of the table; anything else if it has none.
    pub(super) short: Box<dyn Any + Send + Sync>,
    pub(crate) durable: Vec<Arc<dyn Deliver>>,
}

pub(crate) struct Builder<E> {
    /// Added since the last build, and still owned alone.
    fresh: Vec<Listener<E>>,
    listeners: Vec<Arc<Listener<E>>>,
    /// Passes the events on to those who read them as a stream.
    subscribers: Option<Arc<Listener<E>>>,
    is_subscribed: bool,
}

impl<E> Default for Builder<E> {
    fn default() -> Self {
        Self { fresh: Vec::new(), listeners: Vec::new(), subscribers: None, is_subscribed: false }
    }
}

impl<E: Event> Builder<E> {
    /// Whether a publish may run through the functions alone.
    fn is_bare(&self) -> bool {
        let immediate = |one: &Listener<E>| one.is_bare() && one.descriptor.is_immediate();
        let logged = E::STORED.is_some_and(|stored| stored.logged);
        !logged
            && !self.is_subscribed
            && self.fresh.iter().all(immediate)
            && self.listeners.iter().all(|one| immediate(one))
    }

    /// Moves the functions of fresh listeners that are bare into a list that owns them.
    fn keep(&mut self) -> BareList<E> {
        self.fresh.sort_by(|a, b| position(&a.descriptor).cmp(&position(&b.descriptor)));
        let mut functions: Vec<Box<dyn Bare<E>>> = Vec::new();
        let mut places: Vec<Option<usize>> = Vec::new();
        let empty: BareList<E> = Arc::from([]);
        for one in &mut self.fresh {
            // The place in an empty list is never called: it is given its real one below.
            match std::mem::replace(&mut one.body, Body::Kept(Kept::new(empty.clone(), 0))) {
                Body::Bare(function) => {
                    places.push(Some(functions.len()));
                    functions.push(function);
                }
                other => {
                    one.body = other;
                    places.push(None);
                }
            }
        }
        let list: BareList<E> = Arc::from(functions);
        for (one, place) in self.fresh.iter_mut().zip(places) {
            if let Some(at) = place {
                one.body = Body::Kept(Kept::new(list.clone(), at));
            }
        }
        list
    }
}

impl<E: Event> ErasedBuilder for Builder<E> {
    fn add(&mut self, listener: Box<dyn ErasedListener>) {
        // The caller groups by event type, so that the downcast holds.
        if let Ok(listener) = listener.into_any().downcast::<Listener<E>>() {
            self.fresh.push(*listener);
        }
    }

    fn build(&mut self) -> Built {
        let (is_bare, is_first) = (self.is_bare(), self.listeners.is_empty());
        let kept = self.keep();
        self.listeners.extend(self.fresh.drain(..).map(Arc::new));
        self.listeners.sort_by(|a, b| position(&a.descriptor).cmp(&position(&b.descriptor)));
        let bare = match (is_bare, is_first) {
            _ if self.listeners.is_empty() => None,
            (false, _) => None,
            (true, true) => Some(kept),
            (true, false) => self.listeners.iter().map(|one| one.bare()).collect::<Option<Vec<_>>>().map(Arc::from),
        };
        let subscribers = self.subscribers.as_ref().filter(|_| self.is_subscribed);
        let listeners = Arc::new(Listeners::of(&self.listeners, bare, subscribers));
        let short: Box<dyn Any + Send + Sync> = match listeners.bare.clone() {
            Some(functions) => {
                Box::new(Short { functions, can_fail: listeners.can_fail, listeners: listeners.clone() })
            }
            None => Box::new(()),
        };
        let durable = listeners.durable.iter().map(|one| one.clone() as Arc<dyn Deliver>).collect();
        Built { table: Box::new(listeners), short, durable }
    }

    fn remove(&mut self, id: &str) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|one| one.descriptor.id != id);
        self.listeners.len() < before
    }

    fn subscribe(&mut self, subscribers: Box<dyn ErasedListener>) {
        self.is_subscribed = true;
        if self.subscribers.is_none()
            && let Ok(subscribers) = subscribers.into_any().downcast::<Listener<E>>()
        {
            self.subscribers = Some(Arc::new(*subscribers));
        }
    }

    fn unsubscribe(&mut self) {
        self.is_subscribed = false;
    }
}
