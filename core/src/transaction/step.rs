//! One thing to do in a phase: a listener's call or a hook.
//!
//! This module knows nothing of listeners: whoever publishes gives it [`Steps`], and it calls them when their phase comes.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either, Ready, ready};
use stackfuture::StackFuture;

use super::synchronization::Run;
use super::{Outcome, Phase, Tx};
use crate::error::{AfterError, BoxError, Error};
use crate::event::Origin;

/// Bytes of a call's future that are kept in place; a larger one is boxed.
pub const SLOT: usize = 256;

/// A listener's call under way, held in a fixed slot and boxed only when larger than [`SLOT`] bytes.
pub type CallFuture<'a> = StackFuture<'a, Answered, SLOT>;

/// What a listener's call came to: events to publish, or its error.
pub type Answered = Result<Option<Box<dyn Reply>>, BoxError>;

/// Events that a listener answered with, to be published once its siblings ran.
pub trait Reply: Send {
    /// Publishes them in `tx`.
    fn publish(self: Box<Self>, tx: &mut Tx) -> Result<(), Error>;

    /// Publishes them where there never was a unit of work.
    fn publish_without_tx(self: Box<Self>, host: &Arc<dyn Any + Send + Sync>, descent: Descent) -> Result<(), Error>;

    /// Publishes them where the unit of work has ended: in one of their own.
    fn publish_alone(
        self: Box<Self>,
        host: Arc<dyn Any + Send + Sync>,
        descent: Descent,
    ) -> BoxFuture<'static, Result<(), Error>>;
}

/// Where a reply comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Descent {
    /// The event it answers.
    pub(crate) origin: Option<Origin>,
    /// How many replies to replies it is, this one counted, each outside the unit of work of the one before.
    pub(crate) depth: usize,
}

/// A call that was made: finished, or to be awaited. Awaited where it is given, it is not moved again.
pub(crate) type Called<'a> = Either<Ready<Answered>, CallFuture<'a>>;

/// A call that is finished.
#[inline]
pub(crate) fn answered<'a>(answered: Answered) -> Called<'a> {
    Either::Left(ready(answered))
}

/// What became of a call that was polled where it will stay.
pub(crate) enum Progress {
    /// It is finished and brought nothing, which is what most do: said without moving an answer about.
    Done,
    /// It waits, and will wake who polls it.
    Waits,
    /// It is finished with events or an error.
    Answered(Box<Answered>),
}

/// Polls the call that stands in `place`, and takes it out once it is finished.
///
/// Inlined where the call was just made, it knows the future's type, and polls it without a call through a pointer.
#[inline(always)]
pub(crate) fn poll_in(mut place: Pin<&mut Option<CallFuture<'_>>>, context: &mut Context<'_>) -> Progress {
    let Some(call) = place.as_mut().as_pin_mut() else { return Progress::Done };
    let Poll::Ready(answered) = call.poll(context) else { return Progress::Waits };
    place.set(None);
    answered.into()
}

impl From<Answered> for Progress {
    #[inline]
    fn from(answered: Answered) -> Self {
        match answered {
            Ok(None) => Progress::Done,
            answered => Progress::Answered(Box::new(answered)),
        }
    }
}

/// A listener in the background; answers its error, if it failed.
pub(crate) type Spawned = tokio::task::JoinHandle<Option<AfterError>>;

/// A published event together with the listeners that are called with it later.
pub(crate) trait Steps: Send + Sync {
    /// Calls the before-commit listener `index`.
    fn before_commit<'a>(&'a self, index: u32, tx: &'a mut Tx) -> Called<'a>;

    /// Goes on with the listeners of `run` in an after-phase, until one fails or answers with events: the last that was taken
    /// out of the run. `Ok(None)` means that all have been called. The one that waits stands in `call`, which is empty else.
    fn after<'a>(
        &'a self,
        phase: Phase,
        run: &mut Run,
        call: Pin<&mut Option<CallFuture<'a>>>,
        context: &mut Context<'_>,
    ) -> Poll<Answered>;

    /// Calls a listener that leaves its place: started in the background and left in `spawned`, or awaited on the blocking pool.
    fn elsewhere<'a>(self: Arc<Self>, phase: Phase, index: u32, spawned: &mut Vec<Spawned>) -> Called<'a>;

    /// The id of a listener, for messages.
    fn listener(&self, phase: Phase, index: u32) -> &str;

    /// The event's name.
    fn event(&self) -> &'static str;

    /// What events published by these listeners descend from.
    fn origin(&self) -> Origin;
}

/// A callback before the commit.
pub(crate) type BeforeHook = Box<dyn FnOnce(&mut Tx) -> Result<(), BoxError> + Send>;

/// A callback after the end.
pub(crate) type AfterHook = Box<dyn FnOnce(Outcome) -> BoxFuture<'static, Result<(), BoxError>> + Send>;
