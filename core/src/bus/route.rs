//! What becomes of a published event: called now, enlisted for a phase, stored as owed, or refused.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures::future::Either;

use super::published::Published;
use super::{Bus, Core};
use crate::error::{AfterError, BoxError, Error, ListenerError, Panicked, PublishError};
use crate::event::{Envelope, Event, EventHeader, Metadata, Stored};
use crate::listener::{About, Bare, BareList, Call, Listener, Listeners, Mode, WithoutTx};
use crate::observe::Notice;
use crate::transaction::step::Called;
use crate::transaction::{Descent, Phase, Reply, Tx};

impl Bus {
    /// Publishes `event` where there is no unit of work: runs its immediate listeners, and those that said `without_tx = run`.
    ///
    /// # Errors
    /// [`PublishError::NeedsUnit`], before anybody is called, if another listener depends on a unit of work, or the event is
    /// to be stored; the error of an immediate or before-commit listener, after which no further one is called.
    /// After-phase listeners' errors go to the observer.
    ///
    /// # Panics
    /// A panic of an immediate listener passes through.
    #[inline]
    pub fn publish<E: Event>(&self, event: &E) -> Result<(), Error> {
        match self.core.registry.short::<E>() {
            Some(short) if short.can_fail => call_failing(&short.listeners, &short.functions, event),
            Some(short) => {
                short.functions.iter().for_each(|function| function.tell(event));
                Ok(())
            }
            None => self.publish_otherwise(event),
        }
    }

    /// Out of the way of bare functions.
    #[cold]
    #[inline(never)]
    fn publish_otherwise<E: Event>(&self, event: &E) -> Result<(), Error> {
        if let Some((listeners, bare)) = self.core.bare() {
            return call_bare(listeners, bare, event);
        }
        self.core.publish_without_tx(event, Descent { origin: self.origin, depth: 0 })
    }

    /// Publishes the events of a slice, listener by listener: each sees the whole slice before the next sees any of it.
    ///
    /// # Errors
    /// [`PublishError::AtIndex`] with the index at which a listener failed; what came before it has been seen.
    /// As for [`publish`](Self::publish) if the event needs a unit of work.
    pub fn publish_all<E: Event>(&self, events: &[E]) -> Result<(), Error> {
        if let Some((listeners, bare)) = self.core.bare() {
            for (at, function) in bare.iter().enumerate() {
                if let Err((index, cause)) = function.call_all(events) {
                    let cause = Box::new(failed_at(listeners, at, cause));
                    return Err(PublishError::AtIndex { index, cause }.into());
                }
            }
            return Ok(());
        }
        self.core.publish_all_without_tx(events, Descent { origin: self.origin, depth: 0 })
    }
}

impl Core {
    /// Bare functions, if these are all there is to a publish outside a unit of work.
    fn bare<E: Event>(&self) -> Option<(&Listeners<E>, &BareList<E>)> {
        if self.is_stopping() || !self.taps.is_empty() {
            return None;
        }
        let listeners = self.registry.frozen()?;
        Some((listeners, listeners.bare.as_ref()?))
    }

    /// Publishes in a unit of work.
    pub(super) fn publish_in<E: Event>(
        self: &Arc<Self>,
        tx: &mut Tx,
        event: E,
        metadata: Option<Metadata>,
    ) -> Result<(), Error> {
        self.tap(&event);
        let found = self.registry.get::<E>();
        let listeners = match &found {
            Some(listeners) if !listeners.is_empty() => &**listeners,
            _ if E::STORED.is_some_and(|stored| stored.logged) => return self.store_event(tx, &event, metadata, &[]),
            _ => {
                self.watch().tell(&Notice::DeadEvent { event: E::name() });
                return Ok(());
            }
        };
        if let Some(bare) = &listeners.bare {
            return call_bare(listeners, bare, &event);
        }
        let descent = Descent { origin: tx.origin(), depth: tx.depth() };
        let published = Published::new(event, listeners.clone(), descent, self.clone());
        let published = Arc::new(match metadata {
            Some(metadata) => published.known_as(metadata),
            None => published,
        });
        self.owe(tx, &published, listeners)?;
        if !listeners.enlisted.is_empty() {
            tx.enlist(published.clone(), listeners.enlisted.iter().copied());
        }
        // The event before it is handled again however this one ends: a savepoint may contain its error.
        let outer = tx.set_handling(Some(published.clone()));
        let answered = call_immediate(tx, &published, &listeners.immediate);
        tx.set_handling(outer);
        answered
    }

    /// Stores the event if a durable listener is owed it, or if it is to be stored anyway.
    fn owe<E: Event>(&self, tx: &mut Tx, published: &Arc<Published<E>>, listeners: &Listeners<E>) -> Result<(), Error> {
        let logged = E::STORED.is_some_and(|stored| stored.logged);
        if listeners.durable.is_empty() && !logged {
            return Ok(());
        }
        let not_owed: Vec<String> = listeners
            .durable
            .iter()
            .filter(|listener| !listener.accepts(&published.event, &mut published.call(None)))
            .map(|listener| listener.descriptor.id.clone())
            .collect();
        if not_owed.len() == listeners.durable.len() && !logged {
            return Ok(());
        }
        self.store_event(tx, &published.event, Some(published.metadata()), &not_owed)
    }

    fn store_event<E: Event>(
        &self,
        tx: &mut Tx,
        event: &E,
        metadata: Option<Metadata>,
        not_owed: &[String],
    ) -> Result<(), Error> {
        let Some(stored) = E::STORED else {
            // A durable listener can be declared for events with a stored form only.
            let cause: BoxError = "it has no stored form".into();
            return Err(PublishError::Encode { event: E::name().to_owned(), cause }.into());
        };
        let metadata = metadata.unwrap_or_else(|| Metadata::draw(self.chance(), self.clock().now(), tx.origin()));
        #[cfg(feature = "tracing")]
        self.links.remember(metadata.id);
        let envelope = seal(event, &stored, metadata, not_owed)?;
        self.check_size(&envelope)?;
        tx.append(envelope)
    }

    pub(super) fn check_size(&self, envelope: &Envelope) -> Result<(), Error> {
        let (bytes, limit) = (envelope.weight(), self.around.limits.event_bytes);
        if bytes > limit {
            return Err(PublishError::TooLarge { event: envelope.header.name.clone(), bytes, limit }.into());
        }
        Ok(())
    }

    /// Refuses a reply to replies without end.
    pub(super) fn check_depth<E: Event>(&self, depth: usize) -> Result<(), Error> {
        let limit = self.around.limits.depth;
        if depth < limit {
            return Ok(());
        }
        Err(PublishError::TooDeep { depth: limit, cycle: vec![E::name().to_owned()] }.into())
    }

    /// Publishes where there is no unit of work.
    pub(super) fn publish_without_tx<E: Event>(self: &Arc<Self>, event: &E, descent: Descent) -> Result<(), Error> {
        self.refuse_publish(E::name())?;
        self.check_depth::<E>(descent.depth)?;
        self.tap(event);
        let found = self.registry.get::<E>();
        let logged = E::STORED.is_some_and(|stored| stored.logged);
        let listeners = match &found {
            Some(listeners) if !listeners.is_empty() => &**listeners,
            _ if logged => return Err(needs_unit::<E>(Vec::new())),
            _ => {
                self.watch().tell(&Notice::DeadEvent { event: E::name() });
                return Ok(());
            }
        };
        if let Some(bare) = &listeners.bare {
            return call_bare(listeners, bare, event);
        }
        self.check_without_tx(listeners, logged)?;
        let passing = Passing::new(event, self, descent);
        let mut replies: Vec<Box<dyn Reply>> = Vec::new();
        for listener in listeners.immediate.iter().chain(listeners.phased()) {
            replies.extend(passing.meet(listener, listeners)?);
        }
        let host = self.as_host();
        replies.into_iter().try_for_each(|reply| reply.publish_without_tx(&host, passing.reply_descent()))
    }

    fn publish_all_without_tx<E: Event>(self: &Arc<Self>, events: &[E], descent: Descent) -> Result<(), Error> {
        let at = |index: usize, cause: Error| Error::from(PublishError::AtIndex { index, cause: Box::new(cause) });
        self.refuse_publish(E::name())?;
        let found = self.registry.get::<E>();
        let logged = E::STORED.is_some_and(|stored| stored.logged);
        let listeners = match &found {
            Some(listeners) if !listeners.is_empty() => &**listeners,
            _ => {
                return events.iter().enumerate().try_for_each(|(index, event)| {
                    self.publish_without_tx(event, descent).map_err(|error| at(index, error))
                });
            }
        };
        self.check_without_tx(listeners, logged)?;
        let passing: Vec<Passing<'_, E>> = events.iter().map(|event| Passing::new(event, self, descent)).collect();
        events.iter().for_each(|event| self.tap(event));
        let mut replies = Vec::new();
        for listener in listeners.immediate.iter().chain(listeners.phased()) {
            for (index, one) in passing.iter().enumerate() {
                let reply = one.meet(listener, listeners).map_err(|error| at(index, error))?;
                replies.extend(reply.map(|reply| (index, reply)));
            }
        }
        let host = self.as_host();
        replies.into_iter().try_for_each(|(index, reply)| {
            reply.publish_without_tx(&host, passing[index].reply_descent()).map_err(|error| at(index, error))
        })
    }

    /// Whether every listener of the event can do without a unit of work.
    fn check_without_tx<E: Event>(&self, listeners: &Listeners<E>, logged: bool) -> Result<(), Error> {
        let refusing = listeners.phased().filter(|one| one.descriptor.without_tx == WithoutTx::Refuse);
        let wanting = listeners.immediate.iter().filter(|one| one.descriptor.wants_tx);
        let needing: Vec<String> =
            wanting.chain(refusing).chain(&listeners.durable).map(|one| one.descriptor.id.clone()).collect();
        if needing.is_empty() && !logged { Ok(()) } else { Err(needs_unit::<E>(needing)) }
    }

    pub(super) fn tap<E: Event>(&self, event: &E) {
        self.taps.iter().for_each(|tap| tap.published(E::name(), event));
    }
}

/// Calls listeners that are bare functions.
#[inline]
fn call_bare<E: Event>(listeners: &Listeners<E>, bare: &[Box<dyn Bare<E>>], event: &E) -> Result<(), Error> {
    if listeners.can_fail {
        return call_failing(listeners, bare, event);
    }
    bare.iter().for_each(|function| function.tell(event));
    Ok(())
}

/// As [`call_bare`], where one can fail; not inlined, as it would be in the way of those that cannot.
#[inline(never)]
fn call_failing<E: Event>(listeners: &Listeners<E>, bare: &[Box<dyn Bare<E>>], event: &E) -> Result<(), Error> {
    let mut functions = bare.iter();
    while let Some(function) = functions.next() {
        if let Err(cause) = function.call(event) {
            // Counted only now: a counter would be kept up with every call.
            return Err(failed_at(listeners, bare.len() - functions.len() - 1, cause));
        }
    }
    Ok(())
}

/// Calls the immediate listeners, then publishes what they answered with.
fn call_immediate<E: Event>(
    tx: &mut Tx,
    published: &Arc<Published<E>>,
    listeners: &[Arc<Listener<E>>],
) -> Result<(), Error> {
    let mut replies: Vec<Box<dyn Reply>> = Vec::new();
    for listener in listeners {
        match listener.descriptor.mode {
            Mode::InPlace => {
                let lent = if listener.descriptor.wants_tx { Some(&mut *tx) } else { None };
                let called = listener.invoke(&published.event, || published.call(lent));
                replies.extend(now(called).map_err(|cause| failed(listener, cause))?);
            }
            Mode::Spawned | Mode::Blocking => tx.follow(published.clone().spawn(listener.clone())),
        }
    }
    replies.into_iter().try_for_each(|reply| reply.publish(tx))
}

/// An event that passes by reference, outside a unit of work.
struct Passing<'a, E> {
    event: &'a E,
    core: &'a Arc<Core>,
    metadata: OnceLock<Metadata>,
    descent: Descent,
}

impl<'a, E: Event> Passing<'a, E> {
    fn new(event: &'a E, core: &'a Arc<Core>, descent: Descent) -> Self {
        Self { event, core, metadata: OnceLock::new(), descent }
    }

    /// What a reply to this event descends from.
    fn reply_descent(&self) -> Descent {
        Descent { origin: Some(self.metadata().origin()), depth: self.descent.depth + 1 }
    }

    fn meet(&self, listener: &Arc<Listener<E>>, all: &Arc<Listeners<E>>) -> Result<Option<Box<dyn Reply>>, Error> {
        let call = || Call { tx: None, around: &self.core.calls, about: self, delivery: None };
        if listener.descriptor.mode != Mode::InPlace {
            let Some(clone) = listener.clone else {
                // Checked at start: `Descriptor::check`.
                return Ok(None);
            };
            let published = Published::new(clone(self.event), all.clone(), self.descent, self.core.clone());
            drop(Arc::new(published.known_as(self.metadata())).spawn(listener.clone()));
            return Ok(None);
        }
        let shares_fate = matches!(listener.descriptor.phase, Phase::Immediate | Phase::BeforeCommit);
        if shares_fate {
            return now(listener.invoke(self.event, call)).map_err(|cause| failed(listener, cause));
        }
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| now(listener.invoke(self.event, call))));
        match called.unwrap_or_else(|panic| Err(Panicked::from_payload(&*panic).into())) {
            Ok(reply) => Ok(reply),
            Err(cause) => {
                let error = AfterError::new(listener.descriptor.id.clone(), listener.descriptor.phase.name(), cause)
                    .on(E::name());
                self.core.watch().tell(&Notice::AfterFailed { error: &error, spawned: false });
                Ok(None)
            }
        }
    }
}

impl<E: Event> About for Passing<'_, E> {
    fn metadata(&self) -> Metadata {
        *self.metadata.get_or_init(|| Metadata::draw(self.core.chance(), self.core.clock().now(), self.descent.origin))
    }

    fn host(&self) -> Arc<dyn Any + Send + Sync> {
        self.core.as_host()
    }
}

/// The answer of a call that cannot be waited for.
fn now(called: Called<'_>) -> Result<Option<Box<dyn Reply>>, BoxError> {
    match called {
        Either::Left(answered) => answered.into_inner(),
        // Checked at start: an `async fn` that is called here says `spawn`.
        Either::Right(_) => Err("an asynchronous listener cannot be awaited here".into()),
    }
}

/// As [`failed`], of the immediate listener `at`; looks it up out of the way of those that do not fail.
#[cold]
#[inline(never)]
fn failed_at<E: Event>(listeners: &Listeners<E>, at: usize, cause: BoxError) -> Error {
    failed(&listeners.immediate[at], cause)
}

#[cold]
fn failed<E: Event>(listener: &Listener<E>, cause: BoxError) -> Error {
    ListenerError::new(listener.descriptor.id.clone(), E::name(), cause).into()
}

#[cold]
fn needs_unit<E: Event>(listeners: Vec<String>) -> Error {
    PublishError::NeedsUnit { event: E::name().to_owned(), listeners }.into()
}

/// Puts an event into its stored form.
pub(super) fn seal<E: Event>(
    event: &E,
    stored: &Stored<E>,
    metadata: Metadata,
    not_owed: &[String],
) -> Result<Envelope, Error> {
    let body = (stored.encode)(event).map_err(|cause| PublishError::Encode { event: stored.name.to_owned(), cause })?;
    let mut header = EventHeader::new(metadata, stored.name, stored.version);
    header.logged = stored.logged;
    header.not_owed = not_owed.to_vec();
    let mut key = Vec::new();
    if event.key(&mut key) {
        header.key = Some(key);
    }
    Ok(Envelope { header, body })
}
