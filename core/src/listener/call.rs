//! What a listener can take beside its event.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::descriptor::Need;
use crate::error::BoxError;
use crate::event::Metadata;
use crate::lock::{AnyKey, KeyedLock};
use crate::observe::Watchdog;
use crate::transaction::Tx;

/// One call of a listener: what it may ask for.
pub struct Call<'a> {
    pub(crate) tx: Option<&'a mut Tx>,
    pub(crate) around: &'a CallAround,
    pub(crate) about: &'a dyn About,
    /// An `Option` of the delivery, known by its type to those who stand above listeners. Borrowed, so that a call drops nothing.
    pub(crate) delivery: Option<&'a mut (dyn Any + Send)>,
}

/// Tells a call what is known about its event.
pub(crate) trait About: Send + Sync {
    fn metadata(&self) -> Metadata;
    /// The bus that calls; known by its type to those who stand above listeners.
    fn host(&self) -> Arc<dyn Any + Send + Sync>;
    /// The span in which the event was published, where that is not the one the call is made in.
    #[cfg(feature = "tracing")]
    fn published_in(&self) -> Option<tracing::span::Id> {
        None
    }
}

/// What all calls on one bus share.
pub(crate) struct CallAround {
    pub(crate) states: Arc<States>,
    pub(crate) stop: StopSignal,
    pub(crate) watchdog: Arc<Watchdog>,
    /// For listeners with a `lock`.
    pub(crate) locks: Arc<KeyedLock<AnyKey>>,
    pub(crate) lock_wait: Duration,
}

impl<'a> Call<'a> {
    /// Takes a parameter: [`State`], [`StopSignal`], [`Metadata`], `Bus`, `Delivery`.
    ///
    /// # Errors
    /// If the call has none: a state that was not declared with `.needs::<State<T>>()` and not given to the builder.
    pub fn take<P: FromCall>(&mut self) -> Result<P, BoxError> {
        P::from_call(self)
    }

    /// The unit of work of the publisher, or of the delivery.
    ///
    /// # Errors
    /// If there is none: in the after-phases, and for a listener that was not declared with `.takes_tx()`.
    pub fn tx(&mut self) -> Result<&mut Tx, BoxError> {
        self.tx.as_deref_mut().ok_or_else(no_tx)
    }

    /// The unit of work, for as long as the call lasts; take everything else first.
    ///
    /// # Errors
    /// As for [`tx`](Self::tx).
    pub fn into_tx(self) -> Result<&'a mut Tx, BoxError> {
        self.tx.ok_or_else(no_tx)
    }

    /// The event's identity, time and descent; made now if nobody asked before.
    pub fn metadata(&self) -> Metadata {
        self.about.metadata()
    }
}

fn no_tx() -> BoxError {
    "this call has no unit of work: declare the listener with `.takes_tx()`, in a phase that has one".into()
}

/// A parameter that a listener can take beside its event.
#[diagnostic::on_unimplemented(
    message = "a listener cannot take a `{Self}`",
    label = "not a parameter of a listener",
    note = "after the event, a listener takes `tx: &mut Tx`, `State<T>`, `Metadata`, `Bus`, `StopSignal`, and a durable one `Delivery`"
)]
pub trait FromCall: Sized {
    /// What the bus must be given for this parameter to exist; asked at start.
    fn need() -> Option<Need> {
        None
    }

    /// Takes the parameter out of the call.
    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError>;
}

impl FromCall for Metadata {
    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError> {
        Ok(call.metadata())
    }
}

/// A value that was given to the builder with `.state(value)`, shared by all who ask for it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use aftercommit::prelude::*;
///
/// #[derive(Event)]
/// struct Visited;
///
/// #[derive(Default)]
/// struct Visits(AtomicU64);
///
/// #[listener(phase = Immediate)]
/// fn count(_event: &Visited, visits: State<Visits>) {
///     visits.0.fetch_add(1, Ordering::Relaxed);
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let visits = std::sync::Arc::new(Visits::default());
/// let bus = Bus::builder().shared_state(visits.clone()).listeners(listed![count]).start().await?;
/// bus.publish(&Visited)?;
/// assert_eq!(visits.0.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub struct State<T: ?Sized>(pub(crate) Arc<T>);

impl<T: ?Sized> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl<T: Send + Sync + 'static> FromCall for State<T> {
    fn need() -> Option<Need> {
        Some(Need { state: TypeId::of::<T>(), name: type_name::<T>() })
    }

    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError> {
        call.around
            .states
            .get::<T>()
            .map(State)
            .ok_or_else(|| format!("no `State<{}>` was given to the builder", type_name::<T>()).into())
    }
}

/// The states of a bus, by type.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    /// Answers whether there was none of that type before.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, state: Arc<T>) -> bool {
        self.0.insert(TypeId::of::<T>(), state).is_none()
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>()).cloned().and_then(|state| state.downcast().ok())
    }

    pub(crate) fn has(&self, need: &Need) -> bool {
        self.0.contains_key(&need.state)
    }
}

/// Tells a long-running listener that the bus is shutting down.
#[derive(Debug, Clone)]
pub struct StopSignal(Arc<Stopping>);

/// Who waits is woken in the order in which they began to wait, so that a run can be repeated.
#[derive(Debug, Default)]
struct Stopping {
    stopping: AtomicBool,
    changed: Notify,
}

impl Stopping {
    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

impl StopSignal {
    /// Whether the bus is shutting down.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    /// Waits until the bus shuts down.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn stopped(&mut self) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if !self.is_stopping() {
            changed.await;
        }
    }
}

impl FromCall for StopSignal {
    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError> {
        Ok(call.around.stop.clone())
    }
}

/// The other end of a [`StopSignal`]. Dropped, the bus is gone altogether, which is a stop too.
#[derive(Debug, Default)]
pub(crate) struct Stopper {
    /// The same, without a step aside for who publishes.
    stopping: AtomicBool,
    signal: Arc<Stopping>,
}

impl Stopper {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn signal(&self) -> StopSignal {
        StopSignal(self.signal.clone())
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.signal.stop();
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.signal.stop();
    }
}
