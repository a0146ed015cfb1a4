//! An event that was published in a unit of work, with the listeners it will still meet.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::Either;

use super::{Core, spawn};
use crate::error::{AfterError, Panicked};
use crate::event::{Event, Metadata, Origin};
use crate::listener::{About, Call, Listener, Listeners};
use crate::observe::Notice;
use crate::transaction::step::{Called, Progress, Spawned, Steps, answered, poll_in};
use crate::transaction::{Answered, CallFuture, Descent, Phase, Run, Tx, settle};

/// The event, shared by its listeners until the last of them is done.
pub(crate) struct Published<E> {
    pub(super) event: E,
    listeners: Arc<Listeners<E>>,
    metadata: OnceLock<Metadata>,
    descent: Descent,
    core: Arc<Core>,
    #[cfg(feature = "tracing")]
    span: Option<tracing::span::Id>,
}

impl<E: Event> Published<E> {
    pub(super) fn new(event: E, listeners: Arc<Listeners<E>>, descent: Descent, core: Arc<Core>) -> Self {
        Self {
            event,
            listeners,
            metadata: OnceLock::new(),
            descent,
            core,
            #[cfg(feature = "tracing")]
            span: tracing::Span::current().id(),
        }
    }

    /// As [`new`](Self::new), for an event that is known already.
    pub(super) fn known_as(self, metadata: Metadata) -> Self {
        Self { metadata: OnceLock::from(metadata), ..self }
    }

    #[inline]
    pub(super) fn call<'a>(&'a self, tx: Option<&'a mut Tx>) -> Call<'a> {
        Call { tx, around: &self.core.calls, about: self, delivery: None }
    }

    #[inline]
    fn listener_at(&self, phase: Phase, index: u32) -> &Arc<Listener<E>> {
        &self.listeners.in_phase(phase)[index as usize]
    }

    /// Starts a listener in the background; its error goes to the observer and to who waits for the handle.
    pub(super) fn spawn(self: Arc<Self>, listener: Arc<Listener<E>>) -> Spawned {
        let core = self.core.clone();
        let name: Arc<str> = Arc::from(listener.descriptor.id.as_str());
        let task = async move {
            let answered = match &listener.descriptor.mode {
                crate::listener::Mode::Blocking => on_blocking_pool(self.clone(), listener.clone()).await,
                _ => settle(listener.invoke(&self.event, || self.call(None))).await,
            };
            let failed = match answered {
                Ok(None) => None,
                Ok(Some(reply)) => {
                    let descent = Descent { origin: Some(self.origin()), depth: self.descent.depth + 1 };
                    reply.publish_alone(self.core.as_host(), descent).await.err().map(Into::into)
                }
                Err(cause) => Some(cause),
            };
            failed.map(|cause| {
                let phase = listener.descriptor.phase.name();
                let error = AfterError::new(listener.descriptor.id.clone(), phase, cause).on(E::name());
                self.core.watch().tell(&Notice::AfterFailed { error: &error, spawned: true });
                error
            })
        };
        spawn(&core, name, task)
    }
}

/// Calls a `fn` on the blocking pool.
async fn on_blocking_pool<E: Event>(published: Arc<Published<E>>, listener: Arc<Listener<E>>) -> Answered {
    let around = published.core.around.clone();
    let called = around.on_pool(move || match listener.invoke(&published.event, || published.call(None)) {
        Either::Left(answered) => answered.into_inner(),
        // `blocking` is for a `fn`, which is checked at start.
        Either::Right(_) => Err("an asynchronous listener cannot run on the blocking pool".into()),
    });
    match called.await {
        Ok(answered) => answered,
        Err(error) if error.is_panic() => Err(Panicked::from_payload(&*error.into_panic()).into()),
        Err(error) => Err(error.into()),
    }
}

impl<E: Event> Steps for Published<E> {
    fn before_commit<'a>(&'a self, index: u32, tx: &'a mut Tx) -> Called<'a> {
        let listener = self.listener_at(Phase::BeforeCommit, index);
        // Its lock is the unit's.
        let tx = (listener.descriptor.wants_tx || listener.descriptor.locks).then_some(tx);
        listener.invoke(&self.event, || self.call(tx))
    }

    fn after<'a>(
        &'a self,
        phase: Phase,
        run: &mut Run,
        mut call: Pin<&mut Option<CallFuture<'a>>>,
        context: &mut Context<'_>,
    ) -> Poll<Answered> {
        let listeners = self.listeners.in_phase(phase);
        let mut progress = poll_in(call.as_mut(), context);
        loop {
            match progress {
                Progress::Done => {}
                Progress::Waits => return Poll::Pending,
                Progress::Answered(answered) => return Poll::Ready(*answered),
            }
            let Some(next) = run.next() else { return Poll::Ready(Ok(None)) };
            progress = listeners[next as usize].begin(&self.event, || self.call(None), call.as_mut(), context);
        }
    }

    fn elsewhere<'a>(self: Arc<Self>, phase: Phase, index: u32, spawned: &mut Vec<Spawned>) -> Called<'a> {
        let listener = self.listener_at(phase, index).clone();
        match listener.descriptor.mode {
            crate::listener::Mode::Blocking => {
                Either::Right(CallFuture::from_or_box(on_blocking_pool(self, listener).boxed()))
            }
            _ => {
                spawned.push(self.spawn(listener));
                answered(Ok(None))
            }
        }
    }

    fn listener(&self, phase: Phase, index: u32) -> &str {
        &self.listener_at(phase, index).descriptor.id
    }

    fn event(&self) -> &'static str {
        E::name()
    }

    fn origin(&self) -> Origin {
        self.metadata().origin()
    }
}

impl<E: Event> About for Published<E> {
    fn metadata(&self) -> Metadata {
        *self.metadata.get_or_init(|| Metadata::draw(self.core.chance(), self.core.clock().now(), self.descent.origin))
    }

    fn host(&self) -> Arc<dyn Any + Send + Sync> {
        self.core.as_host()
    }

    #[cfg(feature = "tracing")]
    fn published_in(&self) -> Option<tracing::span::Id> {
        self.span.clone()
    }
}
