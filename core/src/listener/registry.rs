//! Who listens to an event type: frozen at start, replaced as a whole when a listener comes or goes.
//!
//! A publish finds its listeners by the slot of its type. How tables are replaced under it: [`versions`](super::versions).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::declare::ErasedListener;
use super::deliver::Deliver;
use super::descriptor::{Descriptor, Mode};
use super::invoke::{Bare, BareList, Body, Kept, Listener};
use super::versions::{Short, Slot, Table, Versions};
use crate::error::StartError;
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
fn position(descriptor: &Descriptor) -> (i64, &str) {
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

/// The listeners of a publish: borrowed from the frozen registry, or shared for types that have no slot in it.
pub(crate) enum Found<'a, E> {
    Frozen(&'a Arc<Listeners<E>>),
    Shared(Arc<Listeners<E>>),
}

impl<E> Deref for Found<'_, E> {
    type Target = Arc<Listeners<E>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Found::Frozen(listeners) => listeners,
            Found::Shared(listeners) => listeners,
        }
    }
}

/// All listeners of a bus.
pub(crate) struct Registry {
    by_slot: Box<[Slot]>,
    /// Generic events, and types that had no listener at start.
    by_type: RwLock<HashMap<TypeId, Arc<Versions>>>,
    has_more: AtomicBool,
    descriptors: Mutex<Vec<(TypeId, Descriptor)>>,
}

impl Registry {
    /// What there is to a publish outside a unit of work, if that is bare functions only.
    #[inline]
    pub(crate) fn short<E: Event>(&self) -> Option<&Short<E>> {
        self.by_slot.get(E::slot()?.given())?.short()
    }

    /// From now on every publish looks closer: the bus is shutting down, or somebody sees every event.
    pub(crate) fn close_short(&self) {
        self.by_slot.iter().for_each(Slot::close);
    }

    /// The listeners of `E`, if its type has a slot and had any at start.
    pub(crate) fn frozen<E: Event>(&self) -> Option<&Arc<Listeners<E>>> {
        self.by_slot.get(E::slot()?.given())?.get()
    }

    /// The listeners of `E`, if it ever had any.
    pub(crate) fn get<E: Event>(&self) -> Option<Found<'_, E>> {
        if let Some(listeners) = self.frozen() {
            return Some(Found::Frozen(listeners));
        }
        if !self.has_more.load(Ordering::Acquire) {
            return None;
        }
        let versions = self.by_type.read().get(&TypeId::of::<E>()).cloned()?;
        versions.get().cloned().map(Found::Shared)
    }

    /// The ids of the listeners of the event called `event` that belong to a phase, sorted.
    pub(crate) fn in_phases(&self, event: &str) -> Vec<String> {
        let descriptors = self.descriptors.lock();
        let phased = descriptors.iter().filter(|(_, one)| one.event == event && one.durable.is_none());
        let mut ids: Vec<String> = phased.map(|(_, one)| one.id.clone()).collect();
        ids.sort();
        ids
    }

    /// Every listener there is, sorted by event, phase, order and id.
    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        let mut all: Vec<Descriptor> =
            self.descriptors.lock().iter().map(|(_, descriptor)| descriptor.clone()).collect();
        all.sort_by(|a, b| {
            (a.event, a.durable.is_some(), a.phase, position(a)).cmp(&(
                b.event,
                b.durable.is_some(),
                b.phase,
                position(b),
            ))
        });
        all
    }

    /// Whether a listener could be added while the bus runs.
    pub(crate) fn check(&self, listener: &dyn ErasedListener) -> Result<(), StartError> {
        listener.check()?;
        let descriptors = self.descriptors.lock();
        check_duplicates(descriptors.iter().map(|(_, known)| known).chain([listener.descriptor()]))
    }

    /// Adds a listener while the bus runs; answers the durable listeners of its event.
    pub(crate) fn add(&self, listener: Box<dyn ErasedListener>) -> Result<Vec<Arc<dyn Deliver>>, StartError> {
        listener.check()?;
        let mut descriptors = self.descriptors.lock();
        check_duplicates(descriptors.iter().map(|(_, known)| known).chain([listener.descriptor()]))?;
        let event = listener.event_type();
        descriptors.push((event, listener.descriptor().clone()));
        if let Some(slot) = listener.slot().and_then(|slot| self.by_slot.get(slot))
            && !slot.is_vacant()
        {
            return Ok(slot
                .replace(|builder| {
                    builder.add(listener);
                    true
                })
                .unwrap_or_default());
        }
        let mut by_type = self.by_type.write();
        if let Some(versions) = by_type.get(&event) {
            return Ok(versions
                .replace(|builder| {
                    builder.add(listener);
                    true
                })
                .unwrap_or_default());
        }
        let mut builder = listener.builder();
        builder.add(listener);
        let (versions, _, durable) = Versions::new(builder);
        by_type.insert(event, Arc::new(versions));
        self.has_more.store(true, Ordering::Release);
        Ok(durable)
    }

    /// Has `subscribers` called with the events of its type by every publish that begins after this: at the commit, before
    /// the locks of the unit are released, and at once where there is no unit. It is no listener that is described or removed by id.
    pub(crate) fn subscribe(&self, subscribers: Box<dyn ErasedListener>) {
        if let Some(slot) = subscribers.slot().and_then(|slot| self.by_slot.get(slot))
            && !slot.is_vacant()
        {
            return slot.subscribe(subscribers);
        }
        let mut by_type = self.by_type.write();
        let versions =
            by_type.entry(subscribers.event_type()).or_insert_with(|| Arc::new(Versions::new(subscribers.builder()).0));
        versions.subscribe(subscribers);
        self.has_more.store(true, Ordering::Release);
    }

    /// Takes back what [`subscribe`](Self::subscribe) did; publishing the event costs what it cost before.
    pub(crate) fn unsubscribe<E: Event>(&self) {
        if let Some(slot) = E::slot().and_then(|slot| self.by_slot.get(slot.given()))
            && !slot.is_vacant()
        {
            slot.unsubscribe();
        } else if let Some(versions) = self.by_type.read().get(&TypeId::of::<E>()) {
            versions.unsubscribe();
        }
    }

    /// Takes a listener out; it is not called by a publish that begins after this. Answers whether it was there.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut descriptors = self.descriptors.lock();
        let Some(at) = descriptors.iter().position(|(_, descriptor)| descriptor.id == id) else {
            return false;
        };
        let (event, _) = descriptors.remove(at);
        let in_slot = self.by_slot.iter().any(|slot| slot.replace(|builder| builder.remove(id)).is_some());
        if !in_slot && let Some(versions) = self.by_type.read().get(&event) {
            versions.replace(|builder| builder.remove(id));
        }
        true
    }
}

/// Builds the registry of a bus, and its durable listeners.
pub(crate) fn wire(listeners: Vec<Box<dyn ErasedListener>>) -> Result<(Registry, Vec<Arc<dyn Deliver>>), StartError> {
    check_duplicates(listeners.iter().map(|one| one.descriptor()))?;
    let mut descriptors = Vec::with_capacity(listeners.len());
    let mut builders: HashMap<TypeId, (Option<usize>, Box<dyn ErasedBuilder>)> = HashMap::new();
    for listener in listeners {
        listener.check()?;
        descriptors.push((listener.event_type(), listener.descriptor().clone()));
        let (_, builder) =
            builders.entry(listener.event_type()).or_insert_with(|| (listener.slot(), listener.builder()));
        builder.add(listener);
    }
    let mut by_slot: Vec<Slot> = Vec::new();
    let mut by_type = HashMap::new();
    let mut durable: Vec<Arc<dyn Deliver>> = Vec::new();
    for (event, (slot, builder)) in builders {
        durable.extend(match slot {
            Some(slot) => {
                if by_slot.len() <= slot {
                    by_slot.resize_with(slot + 1, Slot::vacant);
                }
                let (filled, delivered) = Slot::new(builder);
                by_slot[slot] = filled;
                delivered
            }
            None => {
                let (versions, _, delivered) = Versions::new(builder);
                by_type.insert(event, Arc::new(versions));
                delivered
            }
        });
    }
    // Workers start in one order, whatever order the map has.
    durable.sort_by(|a, b| a.descriptor().id.cmp(&b.descriptor().id));
    let has_more = AtomicBool::new(!by_type.is_empty());
    let registry = Registry {
        by_slot: by_slot.into_boxed_slice(),
        by_type: RwLock::new(by_type),
        has_more,
        descriptors: Mutex::new(descriptors),
    };
    Ok((registry, durable))
}

fn check_duplicates<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Result<(), StartError> {
    let mut seen: HashMap<&str, &Descriptor> = HashMap::new();
    for descriptor in descriptors {
        for id in std::iter::once(&descriptor.id).chain(&descriptor.formerly) {
            if let Some(first) = seen.insert(id, descriptor) {
                return Err(StartError::DuplicateId {
                    id: id.clone(),
                    first: first.location.clone(),
                    second: descriptor.location.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener;

    struct Rang;

    impl Event for Rang {}

    struct Ticked;

    impl Event for Ticked {
        fn slot() -> Option<&'static crate::event::EventSlot> {
            static SLOT: crate::event::EventSlot = crate::event::EventSlot::new();
            Some(&SLOT)
        }
    }

    #[test]
    fn a_publish_goes_its_short_way_again_once_subscribers_have_gone_unless_it_is_closed_for_good() {
        let listener = listener::on::<Ticked>("a").phase(Phase::Immediate).call(|_| {});
        let (registry, _) = wire(vec![listener.0]).expect("one listener can be wired");
        let is_short = || registry.short::<Ticked>().is_some();
        let subscribers = || listener::on::<Ticked>("subscribers").call(|_| {}).0;
        for _ in 0..3 {
            assert_eq!(is_short(), cfg!(not(feature = "tracing")));
            registry.subscribe(subscribers());
            assert!(!is_short());
            registry.unsubscribe::<Ticked>();
        }
        registry.subscribe(subscribers());
        registry.close_short();
        registry.unsubscribe::<Ticked>();
        assert!(!is_short());
    }

    #[test]
    fn subscribers_that_come_and_go_build_two_tables_and_every_other_change_two_more() {
        let immediate = |id: &str| listener::on::<Rang>(id).phase(Phase::Immediate).call(|_| {}).0;
        let (registry, _) = wire(vec![immediate("a")]).expect("one listener can be wired");
        let newest = || registry.by_type.read()[&TypeId::of::<Rang>()].newest();
        let is_bare = || registry.get::<Rang>().is_some_and(|found| found.bare.is_some());
        for (listeners, tables) in [(1, 1), (2, 3)] {
            for _ in 0..3 {
                assert_eq!(is_bare(), cfg!(not(feature = "tracing")));
                registry.subscribe(listener::on::<Rang>("subscribers").call(|_| {}).0);
                let found = registry.get::<Rang>().expect("it has listeners");
                assert_eq!((found.immediate.len(), found.after_commit.len()), (listeners, 1));
                assert!(found.bare.is_none());
                registry.unsubscribe::<Rang>();
                assert_eq!(newest(), tables);
            }
            registry.add(immediate(&format!("b{listeners}"))).expect("another listener");
        }
    }
}
