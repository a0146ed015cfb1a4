//! Declaring a listener by hand; the macros write the same calls.

mod durable;
#[cfg(feature = "resilience")]
mod resilient;

use std::any::{Any, TypeId};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{IntoAnswer, SettlesDelivery};
use super::batch::Delivered;
use super::call::{Call, FromCall};
use super::descriptor::{Descriptor, Mode, WithoutTx};
use super::invoke::{Bare, Body, Condition, Fallback, Listener, LockOf, Observing};
use super::listeners::{Builder, ErasedBuilder};
use crate::error::{BoxError, StartError};
use crate::event::Event;
use crate::key::Key;
use crate::lock::AnyKey;
use crate::transaction::{CallFuture, Phase};

/// Begins the declaration of a listener of `E` with the given id, which must be unique on its bus.
///
/// After the commit, last in order, in place, unless said otherwise.
///
/// ```
/// use aftercommit::{Event, Phase, listener};
///
/// struct PageChanged { page: u32 }
/// impl Event for PageChanged {}
///
/// let registration = listener::on::<PageChanged>("site.drop-cached-page")
///     .phase(Phase::AfterCommit)
///     .order(10)
///     .when(|event| event.page > 0)
///     .call(|event| println!("dropping page {}", event.page));
/// ```
#[track_caller]
pub fn on<E: Event>(id: impl Into<String>) -> Declaration<E> {
    Declaration {
        descriptor: Descriptor {
            id: id.into(),
            formerly: Vec::new(),
            event: E::name(),
            event_type: std::any::type_name::<E>(),
            phase: Phase::AfterCommit,
            order: None,
            conditional: false,
            locks: false,
            without_tx: WithoutTx::Refuse,
            mode: Mode::InPlace,
            is_async: false,
            wants_tx: false,
            wants_delivery: false,
            wants_ack: false,
            takes_batch: false,
            decides: false,
            durable: None,
            slow_after: None,
            resilient: None,
            module: "",
            location: {
                let here = Location::caller();
                format!("{}:{}", here.file(), here.line())
            },
            needs: Vec::new(),
        },
        condition: None,
        lock: None,
        clone: None,
        fallback: None,
        #[cfg(feature = "resilience")]
        pipeline: None,
        #[cfg(feature = "resilience")]
        through: resilient::through,
        register: |listener| Registration(Box::new(listener)),
    }
}

/// A listener being declared; [`call`](Self::call), [`call_with`](Self::call_with) or [`call_async`](Self::call_async) ends it.
#[must_use = "a declaration ends with `call`, `call_with` or `call_async`"]
pub struct Declaration<E> {
    descriptor: Descriptor,
    condition: Option<Condition<E>>,
    lock: Option<LockOf<E>>,
    clone: Option<fn(&E) -> E>,
    fallback: Option<Fallback<E>>,
    #[cfg(feature = "resilience")]
    pipeline: Option<crate::resilience::Pipeline>,
    /// Given by [`on`], as `register` is.
    #[cfg(feature = "resilience")]
    through: fn(&crate::resilience::Pipeline, Body<E>) -> Body<E>,
    /// Given by [`on`], the one place that asks for an [`Event`]: a type that is none is then reported once.
    register: fn(Listener<E>) -> Registration,
}

impl<E: 'static> Declaration<E> {
    /// When it runs.
    pub fn phase(mut self, phase: Phase) -> Self {
        self.descriptor.phase = phase;
        self
    }

    /// Its place among the listeners and hooks of its phase: ascending; those without one come last.
    pub fn order(mut self, order: i32) -> Self {
        self.descriptor.order = Some(order);
        self
    }

    /// Called only for events that meet `condition`. Asked at the call; for a durable listener once, at publish.
    pub fn when(self, condition: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.when_with(move |event, _| condition(event))
    }

    /// As [`when`](Self::when), with a condition that looks at states or metadata too.
    pub fn when_with(mut self, condition: impl Fn(&E, &mut Call<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.descriptor.conditional = true;
        self.condition = Some(Arc::new(condition));
        self
    }

    /// Locks a key around each call, one of those that `tx.lock` takes: calls with the same key come one at a time, first come,
    /// first served, and not while a unit of work holds it. Waited for as long as the builder's `lock_wait` says; after that the
    /// call has failed.
    ///
    /// Before the commit the lock is the publisher's, and that of a durable listener with a `tx` its own unit's: held until that
    /// is durable. Otherwise it is held until the call has come back. Only where calls are awaited: not for immediate, spawned or
    /// blocking listeners, nor for batches.
    pub fn lock<K: Key + Debug>(mut self, key: impl Fn(&E) -> K + Send + Sync + 'static) -> Self {
        self.descriptor.locks = true;
        self.lock = Some(Box::new(move |event| AnyKey::of(&key(event))));
        self
    }

    /// What happens when its event is published without a unit of work; an error unless said here.
    pub fn without_tx(mut self, without_tx: WithoutTx) -> Self {
        self.descriptor.without_tx = without_tx;
        self
    }

    /// Sends an async listener to the background: nothing waits for it.
    pub fn spawn(mut self) -> Self {
        self.descriptor.mode = Mode::Spawned;
        self
    }

    /// Runs a sync listener on the blocking pool.
    pub fn blocking(mut self) -> Self {
        self.descriptor.mode = Mode::Blocking;
        self
    }

    /// Clones an event that is published by reference, for a listener that runs in the background.
    pub fn cloning(mut self) -> Self
    where
        E: Clone,
    {
        self.clone = Some(E::clone);
        self
    }

    /// Gives the call the unit of work: of the publisher before the commit, of its own for a durable listener.
    pub fn takes_tx(mut self) -> Self {
        self.descriptor.wants_tx = true;
        self
    }

    /// Gives the call a `Delivery`, with which a durable listener settles in a short unit of work of its own choosing.
    pub fn takes_delivery(mut self) -> Self {
        self.descriptor.wants_delivery = true;
        self
    }

    /// Declares a parameter that the call will [`take`](Call::take), so that a missing state is found at start.
    pub fn needs<P: FromCall>(mut self) -> Self {
        self.descriptor.needs.extend(P::need());
        self
    }

    /// The module it belongs to, for `.require_module(..)` and descriptions.
    pub fn module(mut self, module: &'static str) -> Self {
        self.descriptor.module = module;
        self
    }

    /// How long one call may take before the observer is told, while it still runs; nothing else happens to it.
    /// No limit by default, for a durable listener what the builder's `slow_after` says.
    pub fn slow_after(mut self, time: Duration) -> Self {
        self.descriptor.slow_after = Some(time);
        self
    }

    /// Ends the declaration with a function of the event alone.
    pub fn call<A, F>(mut self, function: F) -> Registration
    where
        A: IntoAnswer + 'static,
        F: Fn(&E) -> A + Send + Sync + 'static,
    {
        self.descriptor.decides = A::DECIDES;
        let body = if A::REPLIES {
            Body::Sync(Box::new(move |event: &E, _: &mut Call<'_>| function(event).into_answer()))
        } else {
            Body::Bare(Box::new(BareFn { function, answer: PhantomData }))
        };
        self.end(body)
    }

    /// Ends the declaration with a function of the event and its call.
    pub fn call_with<A, F>(mut self, function: F) -> Registration
    where
        A: IntoAnswer,
        F: Fn(&E, &mut Call<'_>) -> A + Send + Sync + 'static,
    {
        self.descriptor.decides = A::DECIDES;
        self.end(Body::Sync(Box::new(move |event: &E, call: &mut Call<'_>| function(event, call).into_answer())))
    }

    /// Ends the declaration with an asynchronous function of the event and its call:
    /// `.call_async(|event, mut call| CallFuture::from_or_box(async move { .. }))`.
    pub fn call_async<F>(mut self, function: F) -> Registration
    where
        F: for<'a> Fn(&'a E, Call<'a>) -> CallFuture<'a> + Send + Sync + 'static,
    {
        self.descriptor.is_async = true;
        self.end(Body::Async(Box::new(function)))
    }

    /// Ends the declaration of a listener of [batches](Self::batch) with a function of the events and their call.
    pub fn call_batch<A, F>(mut self, function: F) -> Registration
    where
        A: IntoAnswer,
        F: Fn(&[Delivered<E>], &mut Call<'_>) -> A + Send + Sync + 'static,
    {
        self.descriptor.takes_batch = true;
        self.descriptor.decides = A::DECIDES;
        self.end(Body::Batch(Box::new(move |events: &[Delivered<E>], call: &mut Call<'_>| {
            function(events, call).into_answer()
        })))
    }

    /// As [`call_batch`](Self::call_batch), with an asynchronous function.
    pub fn call_batch_async<F>(mut self, function: F) -> Registration
    where
        F: for<'a> Fn(&'a [Delivered<E>], Call<'a>) -> CallFuture<'a> + Send + Sync + 'static,
    {
        self.descriptor.takes_batch = true;
        self.descriptor.is_async = true;
        self.end(Body::BatchAsync(Box::new(function)))
    }

    fn end(self, body: Body<E>) -> Registration {
        #[cfg(feature = "resilience")]
        let body = match &self.pipeline {
            Some(pipeline) => (self.through)(pipeline, body),
            None => body,
        };
        (self.register)(Listener {
            descriptor: self.descriptor,
            body,
            condition: self.condition,
            lock: self.lock,
            clone: self.clone,
            fallback: self.fallback,
            #[cfg(feature = "resilience")]
            pipeline: self.pipeline,
            observed: None,
        })
    }
}

/// Requires that the answer of a listener with a `Delivery` says that it is settled.
pub fn must_settle<A: SettlesDelivery>(answer: A) -> A {
    answer
}

struct BareFn<F, A> {
    function: F,
    answer: PhantomData<fn() -> A>,
}

impl<E, A, F> Bare<E> for BareFn<F, A>
where
    A: IntoAnswer + 'static,
    F: Fn(&E) -> A + Send + Sync + 'static,
{
    #[inline]
    fn call(&self, event: &E) -> Result<(), BoxError> {
        (self.function)(event).into_answer().map(|_| ())
    }

    #[inline]
    fn tell(&self, event: &E) {
        // Asked only where the answer is `()`.
        let _ = (self.function)(event).into_answer();
    }

    fn can_fail(&self) -> bool {
        A::CAN_FAIL
    }

    fn call_all(&self, events: &[E]) -> Result<(), (usize, BoxError)> {
        for (index, event) in events.iter().enumerate() {
            self.call(event).map_err(|error| (index, error))?;
        }
        Ok(())
    }
}

/// A declared listener, ready to be given to a bus.
#[must_use = "a listener does nothing until a bus has it"]
pub struct Registration(pub(crate) Box<dyn ErasedListener>);

impl Registration {
    /// What the listener asks for.
    pub fn descriptor(&self) -> &Descriptor {
        self.0.descriptor()
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Registration").field(self.descriptor()).finish()
    }
}

/// Something that was declared as a listener, or as a component with listeners, by an attribute.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not declared as a listener",
    label = "no listener of this name",
    note = "put `#[listener]` on the function, or `#[listeners]` on the impl block of the component"
)]
pub trait Declared {
    /// Its listeners.
    fn registrations() -> Vec<Registration>;
}

/// A declaration that was linked into the program; `#[listener]` submits one.
pub struct Linked {
    /// Makes the listeners.
    pub registrations: fn() -> Vec<Registration>,
}

#[cfg(feature = "macros")]
inventory::collect!(Linked);

/// A listener of any event type.
pub(crate) trait ErasedListener: Any + Send {
    fn descriptor(&self) -> &Descriptor;
    /// Refuses what cannot work.
    fn check(&self) -> Result<(), StartError>;
    fn event_type(&self) -> TypeId;
    fn slot(&self) -> Option<usize>;
    fn observe(&mut self, observing: &Observing);
    fn builder(&self) -> Box<dyn ErasedBuilder>;
    /// The policies its calls go through.
    #[cfg(feature = "resilience")]
    fn pipeline(&self) -> Option<&crate::resilience::Pipeline>;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<E: Event> ErasedListener for Listener<E> {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn check(&self) -> Result<(), StartError> {
        self.descriptor.check(self.clone.is_some())?;
        #[cfg(feature = "resilience")]
        if let Some(pipeline) = &self.pipeline {
            resilient::check(&self.descriptor, pipeline)?;
        }
        if self.descriptor.durable.is_some() && E::STORED.is_none() {
            let reason = "its event has no stored form (`Event::STORED`), so that none of it could be owed to it";
            return Err(StartError::Listener { listener: self.descriptor.id.clone(), reason: reason.to_owned() });
        }
        let versions = E::STORED.map_or(Ok(()), |stored| stored.check());
        versions.map_err(|reason| StartError::Versions { event: E::name(), reason })
    }

    fn event_type(&self) -> TypeId {
        TypeId::of::<E>()
    }

    fn slot(&self) -> Option<usize> {
        E::slot().map(|slot| slot.index())
    }

    fn observe(&mut self, observing: &Observing) {
        self.observed = observing.of(&self.descriptor);
    }

    fn builder(&self) -> Box<dyn ErasedBuilder> {
        Box::new(Builder::<E>::default())
    }

    #[cfg(feature = "resilience")]
    fn pipeline(&self) -> Option<&crate::resilience::Pipeline> {
        self.pipeline.as_ref()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
