//! What nobody awaits, told to whoever wants to know.
//!
//! An [`Observer`] hears of errors of spawned listeners, dead events, redeliveries, parked events, conflicts and doubt; one that
//! asks for it is also told what the bus does and how long that takes, as [`Measure`]s.
//! A [`Tap`] sees every event that is published. Neither can change anything.

mod measure;
mod metering;
mod watchdog;

pub use measure::{Lag, Measure};
pub(crate) use metering::unfinished;
pub use metering::{Meter, Metering, kind_of};
pub(crate) use watchdog::{Subject, Watchdog, Watched};

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{AfterError, StoreError, Warning};
use crate::store::{ParkedCause, Position};

/// What stands for a unit of work where a listener's id would stand.
pub(crate) const UNIT: &str = "unit of work";

/// Something that happened where nobody was waiting for an answer; its `Display` is a sentence with the causes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// An event was published that no listener is registered for.
    DeadEvent {
        /// The event's name.
        event: &'a str,
    },
    /// A scheduled event is due, and a listener that belongs to a phase is not called with it: it came after the event was published,
    /// and there is no unit of work that publishes now. Durable listeners are owed it.
    NotCalled {
        /// The event's name.
        event: &'a str,
        /// The listener.
        listener: &'a str,
    },
    /// A listener or hook failed after the outcome of its unit of work was decided.
    AfterFailed {
        /// Who, where and why.
        error: &'a AfterError,
        /// Whether it ran in the background.
        spawned: bool,
    },
    /// A unit of work conflicted with another and was rolled back.
    Conflict {
        /// What was read and changed.
        what: &'a str,
        /// The durable listener whose delivery it was, if one.
        listener: Option<&'a str>,
    },
    /// It is unknown whether a unit of work was stored.
    InDoubt {
        /// What the storage said.
        cause: &'a StoreError,
    },
    /// A delivery failed and will be called again.
    Redelivery {
        /// The durable listener.
        listener: &'a str,
        /// What was delivered.
        position: Position,
        /// How many calls failed.
        attempts: u32,
        /// When it is due.
        due: Timestamp,
        /// What the last call answered.
        error: &'a str,
    },
    /// A delivery was given up for now.
    Parked {
        /// The durable listener.
        listener: &'a str,
        /// What was delivered.
        position: Position,
        /// Why.
        cause: &'a ParkedCause,
    },
    /// A durable listener decided that a delivery is done without having been worked for.
    Skipped {
        /// The durable listener.
        listener: &'a str,
        /// What was delivered.
        position: Position,
        /// Why.
        reason: &'a str,
    },
    /// An event that was given up was removed for good.
    Discarded {
        /// The durable listener.
        listener: &'a str,
        /// What was to be delivered.
        position: Position,
        /// Why.
        reason: &'a str,
    },
    /// A durable listener stopped, as it said or as was declared; it goes on when it is resumed, or at the next start.
    ListenerStopped {
        /// The durable listener.
        listener: &'a str,
        /// What was delivered, and stays owed.
        position: Position,
        /// Why.
        reason: &'a str,
    },
    /// A durable listener's worker met a storage error and takes itself up again; or what moves scheduled events did.
    WorkerFailed {
        /// The durable listener, or `scheduled events`.
        listener: &'a str,
        /// What the storage said.
        cause: &'a StoreError,
        /// When it goes on.
        due: Timestamp,
    },
    /// A durable listener's worker met a storage error that does not pass, and stopped; or what moves scheduled events did.
    WorkerStopped {
        /// The durable listener, or `scheduled events`.
        listener: &'a str,
        /// What the storage said.
        cause: &'a StoreError,
    },
    /// A listener or a unit of work takes longer than it was said to; told once that time has passed, again whenever the time doubled,
    /// and once more when it has come back. Of a listener's calls only the oldest that is still under way is told.
    Slow {
        /// The listener's id, or `unit of work`.
        who: &'a str,
        /// The name and the id of the event it was called with.
        event: Option<(&'a str, Uuid)>,
        /// For how long.
        took: Duration,
        /// How many calls of it are under way for too long, this one counted; 0 once it has come back.
        running: usize,
    },
    /// What the log should give up could not be archived: it stays, and is tried again a minute later.
    ArchiveFailed {
        /// What the archive or the store said.
        cause: &'a StoreError,
    },
    /// The policies of a pipeline are nested as they are written, which is not the default nesting; told once, at start.
    NestedAsWritten {
        /// The pipeline.
        pipeline: &'a str,
        /// The nesting: `CircuitBreaker(Retry(call))`.
        nesting: &'a str,
    },
    /// Something happened in a policy of a pipeline that the bus knows.
    #[cfg(feature = "resilience")]
    Policy(&'a crate::resilience::PolicyEvent),
    /// Work that was begun was given up: the bus or its runtime ended first.
    Abandoned {
        /// What it was.
        what: &'a str,
    },
    /// Something odd found at start.
    Warning(&'a Warning),
}

/// Hears what nobody awaits. Called on the thread where it happened, so it must be quick and must not block.
/// A panic of it changes nothing but is counted.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn notice(&self, notice: &Notice<'_>);

    /// Something was done, and took its time. Told only to those who ask for it with [`is_measuring`](Self::is_measuring).
    fn measure(&self, measure: &Measure<'_>) {
        let _ = measure;
    }

    /// Whether it wants to hear [`Measure`]s; asked once, at start. `false` unless said here, because then every publish and every
    /// call of a listener pays for it.
    fn is_measuring(&self) -> bool {
        false
    }
}

impl<F: Fn(&Notice<'_>) + Send + Sync + 'static> Observer for F {
    fn notice(&self, notice: &Notice<'_>) {
        self(notice);
    }
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::DeadEvent { event } => write!(out, "event `{event}` was published, but nobody listens to it"),
            Notice::NotCalled { event, listener } => {
                write!(
                    out,
                    "scheduled event `{event}` is due, and `{listener}` is not called, as it belongs to a phase"
                )
            }
            Notice::AfterFailed { error, spawned: false } => out.write_str(&with_causes(*error)),
            Notice::AfterFailed { error, spawned: true } => write!(out, "in the background, {}", with_causes(*error)),
            Notice::Conflict { what, listener: None } => {
                write!(out, "a unit of work was rolled back for a conflict: {what}")
            }
            Notice::Conflict { what, listener: Some(listener) } => {
                write!(out, "a delivery of listener `{listener}` was rolled back for a conflict: {what}")
            }
            Notice::InDoubt { cause } => {
                write!(out, "it is unknown whether a unit of work was stored: {}", with_causes(*cause))
            }
            Notice::Redelivery { listener, position, attempts, due: _, error } => write!(
                out,
                "listener `{listener}` failed on log position {} (calls so far: {attempts}) and will be called again: {error}",
                position.0
            ),
            Notice::Parked { listener, position, cause } => {
                write!(out, "listener `{listener}` parked log position {}: {cause}", position.0)
            }
            Notice::Skipped { listener, position, reason } => {
                write!(out, "listener `{listener}` skipped log position {}: {reason}", position.0)
            }
            Notice::Discarded { listener, position, reason } => {
                write!(out, "log position {} was discarded for listener `{listener}`: {reason}", position.0)
            }
            Notice::ListenerStopped { listener, position, reason } => write!(
                out,
                "listener `{listener}` stopped at log position {}: {reason}; it goes on with `bus.resume`, or at the next start",
                position.0
            ),
            Notice::WorkerFailed { listener, cause, due: _ } => {
                write!(out, "listener `{listener}` met a storage error and will go on: {}", with_causes(*cause))
            }
            Notice::WorkerStopped { listener, cause } => {
                write!(out, "listener `{listener}` stopped after a storage error: {}", with_causes(*cause))
            }
            Notice::Slow { who, event, took, running } => {
                write!(
                    out,
                    "{}",
                    if *who == UNIT { "a unit of work".to_owned() } else { format!("listener `{who}`") }
                )?;
                write!(out, " {} {took:?}", if *running == 0 { "took" } else { "has been running for" })?;
                if let Some((event, id)) = event {
                    write!(out, " with `{event}` {id}")?;
                }
                if *running > 1 { write!(out, ", and {} more of its calls take too long", running - 1) } else { Ok(()) }
            }
            Notice::ArchiveFailed { cause } => {
                write!(out, "the log keeps what could not be archived: {}", with_causes(*cause))
            }
            Notice::NestedAsWritten { pipeline, nesting } => {
                write!(out, "the policies of pipeline `{pipeline}` are nested as written: {nesting}")
            }
            #[cfg(feature = "resilience")]
            Notice::Policy(event) => event.fmt(out),
            Notice::Abandoned { what } => write!(out, "given up, as the bus or its runtime ended first: {what}"),
            Notice::Warning(warning) => warning.fmt(out),
        }
    }
}

/// An error's text followed by those of its causes.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Sees every event at the moment it is published, before its listeners: inside a unit of work it may still be rolled back.
pub trait Tap: Send + Sync + 'static {
    /// `event` of the given name is being published.
    fn published(&self, name: &'static str, event: &dyn Any);
}

impl<F: Fn(&'static str, &dyn Any) + Send + Sync + 'static> Tap for F {
    fn published(&self, name: &'static str, event: &dyn Any) {
        self(name, event);
    }
}

/// Stands around every call of a listener: sees the event before it, and after it with what it answered.
///
/// Cannot change the call. Registering one makes every call pay for it; without any, a listener is a bare call.
pub trait Interceptor: Send + Sync + 'static {
    /// `listener` is about to be called with `event`.
    fn before(&self, listener: &str, event: &dyn Any);
    /// `listener` came back; a panic is an error here.
    fn after(&self, listener: &str, event: &dyn Any, error: Option<&(dyn std::error::Error + 'static)>);
}

/// How often each notice was given since the bus started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events published that nobody listens to.
    pub dead_events: u64,
    /// Listeners of a phase that a scheduled event found no unit of work for.
    pub not_called: u64,
    /// Failed after-phase listeners and hooks.
    pub after_errors: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Units of work in doubt.
    pub in_doubt: u64,
    /// Deliveries that failed and are called again.
    pub redeliveries: u64,
    /// Deliveries given up.
    pub parked: u64,
    /// Deliveries that listeners skipped.
    pub skipped: u64,
    /// Events removed for good without having been worked for.
    pub discarded: u64,
    /// Durable listeners that stopped until they are resumed.
    pub stopped_listeners: u64,
    /// Storage errors after which a durable listener went on.
    pub worker_failures: u64,
    /// Work begun and given up.
    pub abandoned: u64,
    /// Durable listeners that a storage error stopped; what they are owed waits for the next start.
    pub stopped_workers: u64,
    /// Times that the archive could not be written to.
    pub archive_failures: u64,
    /// Times that something was told to be slow.
    pub slow: u64,
    /// Observers that panicked.
    pub observer_panics: u64,
}

/// Counts every notice and passes it on.
pub(crate) struct Watch {
    observers: Vec<Box<dyn Observer>>,
    /// The places of those who want measures.
    measuring: Vec<usize>,
    attached: AtomicBool,
    dead_events: AtomicU64,
    not_called: AtomicU64,
    after_errors: AtomicU64,
    conflicts: AtomicU64,
    in_doubt: AtomicU64,
    redeliveries: AtomicU64,
    parked: AtomicU64,
    skipped: AtomicU64,
    discarded: AtomicU64,
    stopped_listeners: AtomicU64,
    worker_failures: AtomicU64,
    abandoned: AtomicU64,
    stopped_workers: AtomicU64,
    slow: AtomicU64,
    archive_failures: AtomicU64,
    panics: AtomicU64,
}

impl Watch {
    pub(crate) fn new(observers: Vec<Box<dyn Observer>>) -> Self {
        Self {
            measuring: (0..observers.len()).filter(|at| observers[*at].is_measuring()).collect(),
            observers,
            attached: AtomicBool::new(false),
            slow: AtomicU64::new(0),
            archive_failures: AtomicU64::new(0),
            dead_events: AtomicU64::new(0),
            not_called: AtomicU64::new(0),
            after_errors: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            in_doubt: AtomicU64::new(0),
            redeliveries: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            stopped_listeners: AtomicU64::new(0),
            worker_failures: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            stopped_workers: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    /// Lets metered calls of this process be told here too, if somebody wants to hear measures.
    pub(crate) fn attach(self: &Arc<Self>) {
        if self.is_measured() && !self.attached.swap(true, Ordering::Relaxed) {
            metering::attach(self);
        }
    }

    pub(crate) fn tell(&self, notice: &Notice<'_>) {
        let counter = match notice {
            Notice::DeadEvent { .. } => Some(&self.dead_events),
            Notice::NotCalled { .. } => Some(&self.not_called),
            Notice::AfterFailed { .. } => Some(&self.after_errors),
            Notice::Conflict { .. } => Some(&self.conflicts),
            Notice::InDoubt { .. } => Some(&self.in_doubt),
            Notice::Redelivery { .. } => Some(&self.redeliveries),
            Notice::Parked { .. } => Some(&self.parked),
            Notice::Skipped { .. } => Some(&self.skipped),
            Notice::Discarded { .. } => Some(&self.discarded),
            Notice::ListenerStopped { .. } => Some(&self.stopped_listeners),
            Notice::WorkerFailed { .. } => Some(&self.worker_failures),
            Notice::ArchiveFailed { .. } => Some(&self.archive_failures),
            Notice::Abandoned { .. } => Some(&self.abandoned),
            Notice::WorkerStopped { .. } => Some(&self.stopped_workers),
            Notice::Slow { .. } => Some(&self.slow),
            #[cfg(feature = "resilience")]
            Notice::Policy(_) => None,
            Notice::NestedAsWritten { .. } | Notice::Warning(_) => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        #[cfg(feature = "tracing")]
        tracing::event!(target: "aftercommit", tracing::Level::WARN, ?notice);
        self.observers.iter().for_each(|observer| self.contained(|| observer.notice(notice)));
    }

    /// Whether somebody wants to hear measures: asked before any is taken.
    #[inline]
    pub(crate) fn is_measured(&self) -> bool {
        !self.measuring.is_empty()
    }

    pub(crate) fn measure(&self, measure: &Measure<'_>) {
        self.measuring.iter().for_each(|at| self.contained(|| self.observers[*at].measure(measure)));
    }

    /// What is told about is in the middle of something, and must not be ended by who is told.
    fn contained(&self, tell: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(tell)).is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            dead_events: read(&self.dead_events),
            not_called: read(&self.not_called),
            after_errors: read(&self.after_errors),
            conflicts: read(&self.conflicts),
            in_doubt: read(&self.in_doubt),
            redeliveries: read(&self.redeliveries),
            parked: read(&self.parked),
            skipped: read(&self.skipped),
            discarded: read(&self.discarded),
            stopped_listeners: read(&self.stopped_listeners),
            worker_failures: read(&self.worker_failures),
            abandoned: read(&self.abandoned),
            stopped_workers: read(&self.stopped_workers),
            slow: read(&self.slow),
            archive_failures: read(&self.archive_failures),
            observer_panics: read(&self.panics),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if *self.attached.get_mut() {
            metering::detach();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Watch").field("observers", &self.observers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_a_sentence_with_its_causes() {
        fn check(notice: Notice<'_>, expected: &str) {
            assert_eq!(notice.to_string(), expected);
        }
        let error = AfterError::new("shop.mail", "AfterCommit", "no route".into()).on("shop.paid");
        check(
            Notice::AfterFailed { error: &error, spawned: false },
            "listener `shop.mail` failed on `shop.paid` in AfterCommit: no route",
        );
        let hook = AfterError::new("hook", "AfterCommit", "no route".into());
        check(
            Notice::AfterFailed { error: &hook, spawned: true },
            "in the background, hook failed in AfterCommit: no route",
        );
        let cause = StoreError::backend("write", "disk full");
        check(
            Notice::WorkerStopped { listener: "shop.mail", cause: &cause },
            "listener `shop.mail` stopped after a storage error: cannot write: disk full",
        );
        let cause = ParkedCause::Behind(Position(3));
        check(
            Notice::Parked { listener: "shop.mail", position: Position(4), cause: &cause },
            "listener `shop.mail` parked log position 4: it waits behind log position 3 of the same key",
        );
        let (took, id) = (Duration::from_secs(2), Uuid::from_u128(1));
        check(
            Notice::Slow { who: "shop.mail", event: Some(("shop.paid", id)), took, running: 3 },
            "listener `shop.mail` has been running for 2s with `shop.paid` 00000000-0000-0000-0000-000000000001, and 2 more of its calls take too long",
        );
        check(Notice::Slow { who: UNIT, event: None, took, running: 0 }, "a unit of work took 2s");
        let warning = Warning::OrphanedCursor {
            listener: "shop.mail".to_owned(),
            behind: 2,
            bytes: Some(400),
            missing: Duration::from_secs(5),
        };
        assert!(Notice::Warning(&warning).to_string().ends_with("or forget it with `bus.forget_listener`"));
    }
}
