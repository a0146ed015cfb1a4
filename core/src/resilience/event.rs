//! What happens in policies, for whoever wants to hear of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::circuit_breaker::{Rate, State};
use super::policy::Kind;

/// Something that happened in a policy; its `Display` is a sentence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PolicyEvent {
    /// What kind of policy.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// What happened.
    pub what: Happened,
}

/// What happened in a policy.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Happened {
    /// A circuit breaker goes from one state to another.
    Moved {
        /// The state it leaves.
        from: State,
        /// The state it is in now.
        to: State,
    },
    /// A circuit breaker's rate of failures or of slow calls is as high as it may be, or higher.
    Exceeded {
        /// Which rate.
        rate: Rate,
        /// In percent.
        percent: f64,
    },
    /// Enough other processes say that a circuit breaker should be open.
    Outvoted {
        /// How many say so.
        open: usize,
        /// Of how many.
        of: usize,
    },
    /// A call was not let through.
    Refused,
    /// A call was let through: told by bulkheads and rate limiters.
    Admitted,
    /// A call that was let through is over: told by bulkheads.
    Finished,
    /// A call failed and is made again.
    Retrying {
        /// How many calls failed.
        failed: u32,
        /// How long until the next one.
        wait: Duration,
    },
    /// A call that failed at first succeeded.
    Recovered {
        /// How many calls were made.
        attempts: u32,
    },
    /// A call is not made again: its attempts, its time or its budget are used up.
    GaveUp {
        /// How many calls were made.
        attempts: u32,
    },
    /// A call failed in a way that another attempt would not mend.
    NotRetried,
    /// Who waited for the next attempt was dropped.
    Cancelled {
        /// How many calls were made.
        attempts: u32,
    },
    /// A call took too long and was dropped.
    TimedOut {
        /// How long it may take.
        limit: Duration,
    },
    /// The answer of a fallback was taken in the place of an error.
    FellBack,
    /// It has other settings from now on.
    Changed,
}

impl fmt::Display for PolicyEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} `{}` ", self.kind.name(), self.name)?;
        match &self.what {
            Happened::Moved { from, to } => write!(out, "goes from {} to {}", from.name(), to.name()),
            Happened::Exceeded { rate: Rate::Failure, percent } => write!(out, "sees {percent:.1} % of calls fail"),
            Happened::Exceeded { rate: Rate::Slow, percent } => write!(out, "sees {percent:.1} % of calls be slow"),
            Happened::Outvoted { open, of } => write!(out, "opens, as {open} of {of} processes have opened theirs"),
            Happened::Refused => out.write_str("refused a call"),
            Happened::Admitted => out.write_str("let a call through"),
            Happened::Finished => out.write_str("saw a call end"),
            Happened::Retrying { failed, wait } => {
                write!(out, "makes a call again in {wait:?} (failed so far: {failed})")
            }
            Happened::Recovered { attempts } => write!(out, "succeeded after {attempts} attempts"),
            Happened::GaveUp { attempts } => write!(out, "gave up after {attempts} attempts"),
            Happened::NotRetried => out.write_str("makes no further attempt, as the error is of a kind that stays"),
            Happened::Cancelled { attempts } => write!(out, "was dropped while it waited after {attempts} attempts"),
            Happened::TimedOut { limit } => write!(out, "dropped a call that took longer than {limit:?}"),
            Happened::FellBack => out.write_str("answered in the place of an error"),
            Happened::Changed => out.write_str("has other settings"),
        }
    }
}

/// A function that is told what happens in policies. Called where it happens, so it must be quick. A panic of it changes nothing.
pub type Told = Arc<dyn Fn(&PolicyEvent) + Send + Sync>;

/// Those who want to hear of one policy.
#[derive(Default)]
pub(crate) struct Hearers {
    is_heard: AtomicBool,
    are_calls_heard: AtomicBool,
    all: RwLock<Vec<Hearer>>,
}

#[derive(Clone)]
struct Hearer {
    told: Told,
    hears_calls: bool,
}

impl fmt::Debug for Hearers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Hearers({})", self.all.read().len())
    }
}

impl Hearers {
    pub(crate) fn add(&self, told: Told, hears_calls: bool) {
        self.all.write().push(Hearer { told, hears_calls });
        self.is_heard.store(true, Ordering::Release);
        self.are_calls_heard.fetch_or(hears_calls, Ordering::Release);
    }

    /// Tells what happened, if anybody hears; without them it costs one load.
    #[inline]
    pub(crate) fn tell(&self, kind: Kind, name: &Arc<str>, what: impl FnOnce() -> Happened) {
        if self.is_heard.load(Ordering::Relaxed) {
            self.tell_all(&PolicyEvent { kind, name: name.clone(), what: what() }, false);
        }
    }

    /// Tells of a call that takes its ordinary way, to those who want to hear of these too.
    #[inline]
    pub(crate) fn tell_call(&self, kind: Kind, name: &Arc<str>, what: impl FnOnce() -> Happened) {
        if self.are_calls_heard.load(Ordering::Relaxed) {
            self.tell_all(&PolicyEvent { kind, name: name.clone(), what: what() }, true);
        }
    }

    #[cold]
    fn tell_all(&self, event: &PolicyEvent, is_call: bool) {
        // Out of the lock, so that a hearer may add another.
        let all = self.all.read().clone();
        for Hearer { told, .. } in all.iter().filter(|hearer| hearer.hears_calls || !is_call) {
            let _ = catch_unwind(AssertUnwindSafe(|| told(event)));
        }
    }
}
