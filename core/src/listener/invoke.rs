//! THE call of a listener: condition, then its lock, then who observes it and span, then its policies, then the function.
//!
//! A listener without options is a bare call. Panics pass through here; whoever must contain them does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use futures::future::Either;
use uuid::Uuid;

use super::batch::Delivered;
use super::call::{Call, CallAround};
use super::descriptor::Descriptor;
use super::fallback::GivenUp;
use crate::clock::Stopwatch;
use crate::error::{BoxError, Error, Panicked};
use crate::event::Event;
use crate::lock::{AnyKey, Obtained, OwnedGuard, Owner};
use crate::observe::{Interceptor, Measure, Subject, Watchdog, Watched, unfinished};
use crate::transaction::step::{Called, Progress, answered, poll_in};
use crate::transaction::{Answered, CallFuture, Tx, settle};

/// A listener of events of type `E`, ready to be called.
pub(crate) struct Listener<E> {
    pub(crate) descriptor: Descriptor,
    pub(crate) body: Body<E>,
    pub(crate) condition: Option<Condition<E>>,
    /// The key that is locked around its calls.
    pub(crate) lock: Option<LockOf<E>>,
    /// How a listener in the background gets an event that was published by reference.
    pub(crate) clone: Option<fn(&E) -> E>,
    /// What is called with a delivery that is out of attempts.
    pub(crate) fallback: Option<Fallback<E>>,
    /// The policies that its body goes through.
    #[cfg(feature = "resilience")]
    pub(crate) pipeline: Option<crate::resilience::Pipeline>,
    /// Who stands around its calls, if anybody does.
    pub(crate) observed: Option<Observed>,
}

/// Who stands around the calls of a listener.
pub(crate) struct Observed {
    id: Arc<str>,
    interceptors: Arc<[Arc<dyn Interceptor>]>,
    is_measured: bool,
    slow_after: Option<Duration>,
}

/// Who stands around the calls of all listeners of a bus.
pub(crate) struct Observing {
    pub(crate) interceptors: Arc<[Arc<dyn Interceptor>]>,
    pub(crate) is_measured: bool,
    /// When a durable listener that does not say so itself is slow.
    pub(crate) slow_after: Option<Duration>,
}

impl Observing {
    pub(super) fn of(&self, descriptor: &Descriptor) -> Option<Observed> {
        let slow_after = descriptor.slow_after.or(self.slow_after.filter(|_| descriptor.durable.is_some()));
        if self.interceptors.is_empty() && !self.is_measured && slow_after.is_none() {
            return None;
        }
        let (id, interceptors) = (Arc::from(descriptor.id.as_str()), self.interceptors.clone());
        Some(Observed { id, interceptors, is_measured: self.is_measured, slow_after })
    }
}

pub(crate) type Condition<E> = Arc<dyn Fn(&E, &mut Call<'_>) -> bool + Send + Sync>;
pub(crate) type LockOf<E> = Box<dyn Fn(&E) -> AnyKey + Send + Sync>;
pub(crate) type Fallback<E> = Arc<dyn Fn(&E, &GivenUp, &mut Call<'_>) -> Answered + Send + Sync>;
type SyncFn<E> = dyn Fn(&E, &mut Call<'_>) -> Answered + Send + Sync;
type BatchFn<E> = dyn Fn(&[Delivered<E>], &mut Call<'_>) -> Answered + Send + Sync;
pub(super) type AsyncBatchFn<E> = dyn for<'a> Fn(&'a [Delivered<E>], Call<'a>) -> CallFuture<'a> + Send + Sync;

/// The function of a listener.
pub(crate) enum Body<E> {
    /// Takes the event only and brings no events.
    Bare(Box<dyn Bare<E>>),
    /// As `Bare`, kept in the list that a publish runs through.
    Kept(Kept<E>),
    Sync(Box<SyncFn<E>>),
    Async(Box<dyn AsyncBody<E>>),
    /// Of a durable listener; called by [`Listener::invoke_batch`] only.
    Batch(Box<BatchFn<E>>),
    BatchAsync(Box<AsyncBatchFn<E>>),
}

/// A function of the event alone. The slice form keeps the function inlined in its loop.
pub(crate) trait Bare<E>: Send + Sync {
    fn call(&self, event: &E) -> Result<(), BoxError>;
    /// As `call`, of a function that cannot fail: nothing to look at afterwards.
    fn tell(&self, event: &E);
    fn can_fail(&self) -> bool;
    fn call_all(&self, events: &[E]) -> Result<(), (usize, BoxError)>;
}

/// Bare functions in the order in which they are called, each owned by its place, so that a publish follows no pointer more
/// than a hand-written loop would.
pub(crate) type BareList<E> = Arc<[Box<dyn Bare<E>>]>;

/// A bare function by its place in a list that owns it; what later tables of the event hold.
pub(crate) struct Kept<E> {
    list: BareList<E>,
    at: usize,
}

impl<E> Kept<E> {
    pub(crate) fn new(list: BareList<E>, at: usize) -> Self {
        Self { list, at }
    }

    fn share(&self) -> Self {
        Self { list: self.list.clone(), at: self.at }
    }
}

impl<E: Event> Bare<E> for Kept<E> {
    fn call(&self, event: &E) -> Result<(), BoxError> {
        self.list[self.at].call(event)
    }

    fn tell(&self, event: &E) {
        self.list[self.at].tell(event);
    }

    fn can_fail(&self) -> bool {
        self.list[self.at].can_fail()
    }

    fn call_all(&self, events: &[E]) -> Result<(), (usize, BoxError)> {
        self.list[self.at].call_all(events)
    }
}

/// An asynchronous function of the event and its call. A trait of its own, as a call of a `dyn Fn` copies its arguments.
pub(crate) trait AsyncBody<E>: Send + Sync {
    fn start<'a>(&self, event: &'a E, call: Call<'a>) -> CallFuture<'a>;

    /// As `start`, polled once where it will stay. Here the future's type is known, so that one which does not wait costs this
    /// one call.
    fn begin<'a>(
        &self,
        event: &'a E,
        call: Call<'a>,
        place: Pin<&mut Option<CallFuture<'a>>>,
        context: &mut Context<'_>,
    ) -> Progress;
}

impl<E, F> AsyncBody<E> for F
where
    F: for<'a> Fn(&'a E, Call<'a>) -> CallFuture<'a> + Send + Sync,
{
    #[inline]
    fn start<'a>(&self, event: &'a E, call: Call<'a>) -> CallFuture<'a> {
        self(event, call)
    }

    fn begin<'a>(
        &self,
        event: &'a E,
        call: Call<'a>,
        mut place: Pin<&mut Option<CallFuture<'a>>>,
        context: &mut Context<'_>,
    ) -> Progress {
        place.set(Some(self(event, call)));
        poll_in(place, context)
    }
}

impl<E: Event> Listener<E> {
    /// Whether its function is all there is to a call.
    #[inline]
    fn is_plain(&self) -> bool {
        self.condition.is_none() && self.lock.is_none() && self.observed.is_none() && cfg!(not(feature = "tracing"))
    }

    /// Whether its function is all there is to a call, and takes the event alone.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.body, Body::Bare(_) | Body::Kept(_)) && self.is_plain()
    }

    /// A handle of its kept function, if that is all there is to a call.
    pub(crate) fn bare(&self) -> Option<Box<dyn Bare<E>>> {
        match &self.body {
            Body::Kept(kept) if self.is_bare() => Some(Box::new(kept.share())),
            _ => None,
        }
    }

    pub(crate) fn accepts(&self, event: &E, call: &mut Call<'_>) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition(event, call))
    }

    /// Calls the listener unless its condition says no: a `fn` runs now, an `async fn` is to be awaited.
    ///
    /// `call` is made where the function takes it, and not at all for one that takes the event alone: moving it about costs
    /// as much as the call itself. Hence the inlining too, and options out of line.
    #[inline(always)]
    pub(crate) fn invoke<'a>(&'a self, event: &'a E, call: impl FnOnce() -> Call<'a>) -> Called<'a> {
        if self.condition.is_some() {
            return self.invoke_if_accepted(event, call());
        }
        self.invoke_accepted(event, call)
    }

    #[inline(never)]
    fn invoke_if_accepted<'a>(&'a self, event: &'a E, mut call: Call<'a>) -> Called<'a> {
        if self.accepts(event, &mut call) { self.invoke_accepted(event, || call) } else { answered(Ok(None)) }
    }

    /// As [`invoke`](Self::invoke), where the condition was asked before.
    #[inline(always)]
    pub(crate) fn invoke_accepted<'a>(&'a self, event: &'a E, call: impl FnOnce() -> Call<'a>) -> Called<'a> {
        if let Some(lock) = &self.lock {
            return self.locked(lock, event, call());
        }
        self.invoke_unlocked(event, call)
    }

    /// Waits for the lock of the event's key first. With the unit of work it is held until that is durable, else during the call.
    #[inline(never)]
    fn locked<'a>(&'a self, lock: &'a LockOf<E>, event: &'a E, mut call: Call<'a>) -> Called<'a> {
        Either::Right(CallFuture::from_or_box(async move {
            let _held = lock_for(&self.descriptor.id, lock(event), call.around, call.tx.as_deref_mut()).await?;
            settle(self.invoke_unlocked(event, || call)).await
        }))
    }

    #[inline(always)]
    pub(super) fn invoke_unlocked<'a>(&'a self, event: &'a E, call: impl FnOnce() -> Call<'a>) -> Called<'a> {
        if let Some(observed) = &self.observed {
            return self.observed(observed, event, call());
        }
        if cfg!(feature = "tracing") {
            return self.in_span(event, call());
        }
        match &self.body {
            Body::Bare(body) => answered(body.call(event).map(|()| None)),
            Body::Kept(body) => answered(body.call(event).map(|()| None)),
            Body::Sync(body) => answered(body(event, &mut call())),
            Body::Async(body) => Either::Right(body.start(event, call())),
            Body::Batch(_) | Body::BatchAsync(_) => takes_batches(),
        }
    }

    /// As [`invoke`](Self::invoke), polled once in `place`, which is empty and stays so if the call is finished.
    #[inline(always)]
    pub(crate) fn begin<'a>(
        &'a self,
        event: &'a E,
        call: impl FnOnce() -> Call<'a>,
        place: Pin<&mut Option<CallFuture<'a>>>,
        context: &mut Context<'_>,
    ) -> Progress {
        match &self.body {
            Body::Async(body) if self.is_plain() => body.begin(event, call(), place, context),
            _ => self.begin_otherwise(event, call(), place, context),
        }
    }

    /// Out of the way of those that are awaited and ask for nothing more.
    #[inline(never)]
    fn begin_otherwise<'a>(
        &'a self,
        event: &'a E,
        mut call: Call<'a>,
        mut place: Pin<&mut Option<CallFuture<'a>>>,
        context: &mut Context<'_>,
    ) -> Progress {
        match &self.body {
            Body::Bare(body) if self.is_plain() => body.call(event).map(|()| None).into(),
            Body::Kept(body) if self.is_plain() => body.call(event).map(|()| None).into(),
            Body::Sync(body) if self.is_plain() => body(event, &mut call).into(),
            _ => match self.invoke(event, || call) {
                Either::Left(answered) => answered.into_inner().into(),
                Either::Right(started) => {
                    place.set(Some(started));
                    poll_in(place, context)
                }
            },
        }
    }

    #[inline(never)]
    fn in_span<'a>(&'a self, event: &'a E, mut call: Call<'a>) -> Called<'a> {
        let span = self.span(&call);
        match &self.body {
            Body::Bare(body) => answered(span.around(|| body.call(event).map(|()| None))),
            Body::Kept(body) => answered(span.around(|| body.call(event).map(|()| None))),
            Body::Sync(body) => answered(span.around(|| body(event, &mut call))),
            Body::Async(body) => Either::Right(span.along(|| body.start(event, call))),
            Body::Batch(_) | Body::BatchAsync(_) => takes_batches(),
        }
    }

    #[inline(never)]
    fn observed<'a>(&'a self, observed: &'a Observed, event: &'a E, mut call: Call<'a>) -> Called<'a> {
        let mut told = observed.begin(event, &call.around.watchdog, || call.metadata().id);
        let span = self.span(&call);
        match &self.body {
            Body::Bare(body) => answered(told.tell(span.around(|| body.call(event).map(|()| None)))),
            Body::Kept(body) => answered(told.tell(span.around(|| body.call(event).map(|()| None)))),
            Body::Sync(body) => answered(told.tell(span.around(|| body(event, &mut call)))),
            Body::Async(body) => {
                let running = span.along(|| body.start(event, call));
                Either::Right(CallFuture::from_or_box(async move { told.tell(running.await) }))
            }
            Body::Batch(_) | Body::BatchAsync(_) => answered(told.tell(Err(TAKES_BATCHES.into()))),
        }
    }

    /// Calls a listener of batches; who observes it is told of each event.
    pub(crate) fn invoke_batch<'a>(&'a self, events: &'a [Delivered<E>], mut call: Call<'a>) -> Called<'a> {
        let watchdog = &call.around.watchdog;
        let observed = self.observed.iter().flat_map(|observed| {
            events.iter().map(move |one| observed.begin(&one.event, watchdog, || one.metadata.id))
        });
        let mut told: Vec<Told<'a, E>> = observed.collect();
        let span = self.span(&call);
        match &self.body {
            Body::Batch(body) => {
                let came_to = span.around(|| body(events, &mut call));
                answered(told.iter_mut().fold(came_to, |came_to, told| told.tell(came_to)))
            }
            Body::BatchAsync(body) => {
                let running = span.along(|| body(events, call));
                Either::Right(CallFuture::from_or_box(async move {
                    let came_to = running.await;
                    told.iter_mut().fold(came_to, |came_to, told| told.tell(came_to))
                }))
            }
            _ => answered(Err("it takes one event at a time".into())),
        }
    }

    #[cfg(feature = "tracing")]
    fn span(&self, call: &Call<'_>) -> Span {
        let Descriptor { id, event, phase, .. } = &self.descriptor;
        let span = tracing::info_span!(
            target: "aftercommit", "listener", listener = %id, event = %event, phase = %phase,
            correlation = tracing::field::Empty, causation = tracing::field::Empty
        );
        if !span.is_disabled() {
            let metadata = call.metadata();
            span.record("correlation", tracing::field::display(metadata.correlation));
            if let Some(cause) = metadata.causation {
                span.record("causation", tracing::field::display(cause));
            }
            if let Some(publisher) = call.about.published_in() {
                span.follows_from(publisher);
            }
        }
        Span(span)
    }

    #[cfg(not(feature = "tracing"))]
    #[inline]
    fn span(&self, _call: &Call<'_>) -> Span {
        Span()
    }
}

/// Waits for the lock of `key` for a call of the listener: the unit of work holds it, if there is one, else whoever has the answer.
pub(crate) async fn lock_for(
    listener: &str,
    key: AnyKey,
    around: &CallAround,
    tx: Option<&mut Tx>,
) -> Result<Option<OwnedGuard<AnyKey>>, Error> {
    let asking = around.locks.request_owned(key).within(around.lock_wait);
    let Some(tx) = tx else { return Ok(Some(asking.by(&Owner::named(listener)).wait().await?)) };
    if let Obtained::Now(guard) = asking.by(tx.owner()).obtain().await? {
        tx.hold(Box::new(guard));
    }
    Ok(None)
}

/// The span of one call; nothing without the feature `tracing`.
#[cfg(feature = "tracing")]
struct Span(tracing::Span);
#[cfg(not(feature = "tracing"))]
struct Span();

impl Span {
    #[inline]
    fn around(&self, call: impl FnOnce() -> Answered) -> Answered {
        #[cfg(feature = "tracing")]
        let _entered = self.0.enter();
        call()
    }

    #[inline]
    fn along<'a>(self, start: impl FnOnce() -> CallFuture<'a>) -> CallFuture<'a> {
        #[cfg(feature = "tracing")]
        if !self.0.is_disabled() {
            use tracing::Instrument;
            let running = self.0.in_scope(start);
            return CallFuture::from_or_box(running.instrument(self.0));
        }
        start()
    }
}

impl Observed {
    /// A call begins. Its end is told even if the listener panics or its future is dropped.
    fn begin<'a, E: Event>(&'a self, event: &'a E, watchdog: &'a Arc<Watchdog>, id: impl Fn() -> Uuid) -> Told<'a, E> {
        self.interceptors.iter().for_each(|interceptor| interceptor.before(&self.id, event));
        if self.is_measured {
            watchdog.watch().measure(&Measure::Calling { listener: &self.id, event: E::name() });
        }
        let subject = || Subject { who: self.id.clone(), event: Some((E::name(), id())) };
        Told {
            observed: self,
            event,
            watchdog,
            begun: self.is_measured.then(Stopwatch::start),
            watched: self.slow_after.map(|slow_after| watchdog.begin(subject(), slow_after)),
            told: false,
        }
    }
}

struct Told<'a, E: Event> {
    observed: &'a Observed,
    event: &'a E,
    watchdog: &'a Watchdog,
    begun: Option<Stopwatch>,
    watched: Option<Watched>,
    told: bool,
}

impl<E: Event> Told<'_, E> {
    fn tell(&mut self, answered: Answered) -> Answered {
        let error = answered.as_ref().err().map(|error| &**error as &(dyn std::error::Error + 'static));
        self.after(error, error.map(kind));
        answered
    }

    fn after(&mut self, error: Option<&(dyn std::error::Error + 'static)>, failed: Option<&'static str>) {
        self.told = true;
        let listener = &*self.observed.id;
        if let Some(begun) = self.begun {
            let took = begun.elapsed();
            self.watchdog.watch().measure(&Measure::Called { listener, event: E::name(), took, failed });
        }
        drop(self.watched.take());
        self.observed.interceptors.iter().rev().for_each(|interceptor| interceptor.after(listener, self.event, error));
    }
}

impl<E: Event> Drop for Told<'_, E> {
    fn drop(&mut self) {
        if !self.told {
            let kind = unfinished();
            // A panic of an interceptor during the unwinding of the listener's would end the process.
            let _ =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.after(Some(&Unfinished), Some(kind))));
        }
    }
}

/// What kind of error it is, for figures.
fn kind(error: &(dyn std::error::Error + 'static)) -> &'static str {
    if error.is::<Panicked>() { "panic" } else { error.downcast_ref::<Error>().map_or("error", Error::kind) }
}

const TAKES_BATCHES: &str = "it takes several events at once";

#[cold]
fn takes_batches<'a>() -> Called<'a> {
    answered(Err(TAKES_BATCHES.into()))
}

#[derive(Debug, thiserror::Error)]
#[error("the call did not come back: it panicked or was dropped")]
struct Unfinished;
