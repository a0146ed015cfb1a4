//! Measuring any call: how many there are, how long they take, and what kinds of failures they come to.
//!
//! What is measured goes to the observers of a bus that ask for measures, like everything else. While there is none, a metered call
//! costs the look at one number.

use std::any::Any;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::{Measure, Watch};
use crate::clock::Stopwatch;
use crate::error::Error;

/// Where calls are measured: by the observers of one bus, or by those of every bus of the process.
///
/// `#[metered(name = "carrier.book")]` writes what stands here by hand:
///
/// ```
/// use aftercommit::observe::Meter;
///
/// fn book(slip: u32) -> Result<u32, std::io::Error> {
///     let metering = Meter::process().begin("carrier.book");
///     let answer = Ok(slip + 1);
///     metering.end_with(&answer, |_| "refused");
///     answer
/// }
/// # assert_eq!(book(1).expect("booked"), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Meter(Option<Weak<Watch>>);

/// A call that is being measured. Dropped without an end it counts as failed: `panic`, or `dropped` if its future was.
#[must_use = "a call is measured until its `Metering` ends"]
#[derive(Debug)]
pub struct Metering(Option<Box<Running>>);

#[derive(Debug)]
struct Running {
    name: &'static str,
    begun: Stopwatch,
    watches: Vec<Arc<Watch>>,
    ended: bool,
}

/// The buses of this process whose observers ask for measures.
static MEASURING: RwLock<Vec<Weak<Watch>>> = RwLock::new(Vec::new());
/// How many these are, for those who only look.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Meter {
    /// The observers of every bus of this process that ask for measures.
    pub const fn process() -> Self {
        Self(None)
    }

    pub(crate) fn of(watch: &Arc<Watch>) -> Self {
        Self(Some(Arc::downgrade(watch)))
    }

    /// A call of what is named so begins.
    #[inline]
    pub fn begin(&self, name: &'static str) -> Metering {
        if COUNT.load(Ordering::Relaxed) == 0 { Metering(None) } else { self.begin_measured(name) }
    }

    #[cold]
    fn begin_measured(&self, name: &'static str) -> Metering {
        let watches: Vec<Arc<Watch>> = match &self.0 {
            Some(watch) => watch.upgrade().filter(|watch| watch.is_measured()).into_iter().collect(),
            None => MEASURING.read().iter().filter_map(Weak::upgrade).collect(),
        };
        if watches.is_empty() {
            return Metering(None);
        }
        watches.iter().for_each(|watch| watch.measure(&Measure::Entered { name }));
        Metering(Some(Box::new(Running { name, begun: Stopwatch::start(), watches, ended: false })))
    }
}

impl Metering {
    /// The call came back.
    #[inline]
    pub fn end(self) {
        if let Some(mut running) = self.0 {
            running.tell(None);
        }
    }

    /// The call came back with an answer or an error; `kind` names the error's kind, of which there must be few.
    #[inline]
    pub fn end_with<T, E, N: AsRef<str>>(self, answer: &Result<T, E>, kind: impl FnOnce(&E) -> N) {
        if let Some(mut running) = self.0 {
            match answer {
                Ok(_) => running.tell(None),
                Err(error) => running.tell(Some(kind(error).as_ref())),
            }
        }
    }
}

impl Running {
    fn tell(&mut self, failed: Option<&str>) {
        self.ended = true;
        let (name, took) = (self.name, self.begun.elapsed());
        self.watches.iter().for_each(|watch| watch.measure(&Measure::Left { name, took, failed }));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Some(unfinished()));
        }
    }
}

/// Why a call did not come back.
pub(crate) fn unfinished() -> &'static str {
    if std::thread::panicking() { "panic" } else { "dropped" }
}

/// The kind of an error that nobody named: that of one of this library's own, else `error`.
pub fn kind_of<E: Any>(error: &E) -> &'static str {
    (error as &dyn Any).downcast_ref::<Error>().map_or("error", Error::kind)
}

/// A bus begins whose observers ask for measures; until it is dropped, metered calls are told to them.
pub(super) fn attach(watch: &Arc<Watch>) {
    let mut measuring = MEASURING.write();
    measuring.retain(|one| one.strong_count() > 0);
    measuring.push(Arc::downgrade(watch));
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// It has ended.
pub(super) fn detach() {
    COUNT.fetch_sub(1, Ordering::Relaxed);
}
