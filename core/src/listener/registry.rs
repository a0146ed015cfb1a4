//! Who listens to an event type: frozen at start, replaced as a whole when a listener comes or goes.
//!
//! A publish finds its listeners by the slot of its type. How tables are replaced under it: [`versions`](super::versions).

use std::any::TypeId;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::declare::ErasedListener;
use super::deliver::Deliver;
use super::descriptor::Descriptor;
use super::listeners::{ErasedBuilder, Listeners, position};
use super::versions::{Short, Slot, Versions};
use crate::error::StartError;
use crate::event::Event;

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
    use crate::transaction::Phase;

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
