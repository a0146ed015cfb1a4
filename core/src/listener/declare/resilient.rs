//! A listener whose calls go through policies: its body with them around it, composed once.

use std::sync::Arc;

use super::super::call::{About, Call, CallAround};
use super::super::descriptor::{Descriptor, Mode};
use super::super::invoke::{AsyncBatchFn, AsyncBody, Body};
use super::Declaration;
use crate::error::StartError;
use crate::event::Event;
use crate::resilience::Pipeline;
use crate::transaction::CallFuture;

impl<E: 'static> Declaration<E> {
    /// Calls it through these policies; inside the span and the interceptors, which see one call however many attempts there are.
    ///
    /// A policy's answer is its error, a `PolicyError`. A retry is for listeners that take neither `tx`, `Delivery` nor `Ack`, whose
    /// attempts would add up; what of it should be called again later is said with `redeliver`. Policies that wait are for an
    /// `async fn`, or a `fn` on the blocking pool; a time limiter is for an `async fn`.
    pub fn resilient(mut self, pipeline: &Pipeline) -> Self {
        self.descriptor.resilient = Some(format!("{} `{}`", pipeline.nesting(), pipeline.name()));
        self.pipeline = Some(pipeline.clone());
        self
    }
}

/// The body with the policies around it.
pub(super) fn through<E: Event>(pipeline: &Pipeline, body: Body<E>) -> Body<E> {
    let pipeline = pipeline.clone();
    match body {
        Body::Bare(body) => {
            Body::Sync(Box::new(move |event, _| pipeline.call_blocking(|| body.call(event).map(|()| None))))
        }
        // Only a registry keeps bodies, of listeners that were declared before.
        Body::Kept(kept) => Body::Kept(kept),
        Body::Sync(body) => Body::Sync(Box::new(move |event, call| pipeline.call_blocking(|| body(event, call)))),
        Body::Async(body) => {
            let body: Arc<dyn AsyncBody<E>> = Arc::from(body);
            Body::Async(Box::new(as_async(move |event, call| {
                let (pipeline, body) = (pipeline.clone(), body.clone());
                CallFuture::from_or_box(async move {
                    let mut given = Given::new(call);
                    pipeline.call_each(|| body.start(event, given.take())).await
                })
            })))
        }
        Body::Batch(body) => Body::Batch(Box::new(move |events, call| pipeline.call_blocking(|| body(events, call)))),
        Body::BatchAsync(body) => {
            let body: Arc<AsyncBatchFn<E>> = Arc::from(body);
            Body::BatchAsync(Box::new(move |events, call| {
                let (pipeline, body) = (pipeline.clone(), body.clone());
                CallFuture::from_or_box(async move {
                    let mut given = Given::new(call);
                    pipeline.call_each(|| body(events, given.take())).await
                })
            }))
        }
    }
}

/// What each attempt is called with: the first with all that was given, the others without what is given once.
struct Given<'a> {
    first: Option<Call<'a>>,
    around: &'a CallAround,
    about: &'a dyn About,
}

impl<'a> Given<'a> {
    fn new(call: Call<'a>) -> Self {
        Self { around: call.around, about: call.about, first: Some(call) }
    }

    fn take(&mut self) -> Call<'a> {
        let (around, about) = (self.around, self.about);
        self.first.take().unwrap_or(Call { tx: None, around, about, delivery: None })
    }
}

/// Says of which lifetimes a closure is.
fn as_async<E, F>(body: F) -> F
where
    F: for<'a> Fn(&'a E, Call<'a>) -> CallFuture<'a>,
{
    body
}

/// Refuses what cannot work.
pub(super) fn check(descriptor: &Descriptor, pipeline: &Pipeline) -> Result<(), StartError> {
    let refuse = |reason: &str| {
        let reason = format!("its policies are {}: {reason}", pipeline.nesting());
        Err(StartError::Listener { listener: descriptor.id.clone(), reason })
    };
    if pipeline.retries() && (descriptor.wants_tx || descriptor.wants_delivery || descriptor.wants_ack) {
        return refuse(
            "a retry would call it again in the same unit of work or delivery, with what the failed call wrote still there; put the retry \
             around the call of the dependency (`#[resilient]`), or say `redeliver`",
        );
    }
    if pipeline.limits_time() && !descriptor.is_async {
        return refuse("a time limiter cannot stop a `fn`; make it an `async fn`, or leave the limiter out");
    }
    if pipeline.limits_time() && descriptor.wants_delivery {
        return refuse(
            "a time limiter would cut through the commit of its `Delivery`; say `time_limit`, which does not",
        );
    }
    if pipeline.may_wait() && !descriptor.is_async && descriptor.mode != Mode::Blocking {
        return refuse(
            "they may wait, and a `fn` would keep the thread of the runtime meanwhile; make it an `async fn`, or say `blocking`",
        );
    }
    Ok(())
}
