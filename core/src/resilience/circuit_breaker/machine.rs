//! The state machine: who is let through, and what outcomes lead to.
//!
//! It knows no clock, no error and no name: times are nanoseconds that it is given, outcomes are bits, and what changed is answered.
//! A call that is let through while it is closed costs one load. So does its success, or one exchange, where that can lead to
//! nothing; everything else happens under one lock, so that an outcome and the transition it leads to are one step.
//! An outcome counts only in the stay in a state that let its call through.

use super::sync::{AtomicU64, Mutex, Ordering};
use super::window::{FAILED, Outcome, Reach, SLOW, Totals, Window};

/// What a circuit breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Lets all through and watches what they come to.
    Closed,
    /// Lets none through until its time has passed.
    Open,
    /// Lets a few through to see whether things are better.
    HalfOpen,
    /// Lets none through until somebody says otherwise.
    ForcedOpen,
    /// Lets all through and watches nothing.
    Disabled,
    /// Lets all through, watches and tells, and never opens.
    MetricsOnly,
}

impl State {
    /// As it is written in files and figures.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
            State::ForcedOpen => "forced-open",
            State::Disabled => "disabled",
            State::MetricsOnly => "metrics-only",
        }
    }
}

/// When it opens and closes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// Percent of calls that fail.
    pub(crate) failure_rate: f64,
    /// Percent of calls that are slow.
    pub(crate) slow_rate: f64,
    pub(crate) minimum_calls: u32,
    pub(crate) reach: Reach,
    pub(crate) trials: u32,
    /// How long it may stay half-open, in nanoseconds; as long as its trials take if there is none.
    pub(crate) trial_time: Option<u64>,
    /// How long it stays open the first time, in nanoseconds.
    pub(crate) open_for: u64,
    /// By how much that grows each further time in a row.
    pub(crate) growth: f64,
    pub(crate) open_at_most: u64,
}

impl Limits {
    fn wait(&self, times_before: u32) -> u64 {
        let factor = self.growth.powi(i32::try_from(times_before).unwrap_or(i32::MAX));
        // A float too large becomes the largest number there is.
        ((self.open_for as f64 * factor) as u64).min(self.open_at_most.max(self.open_for))
    }
}

/// Which of the two rates was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// That of calls that failed.
    Failure,
    /// That of calls that took too long.
    Slow,
}

/// A call that was let through: the stay in a state that its outcome belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit(pub(crate) u64);

/// Something that happened to the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Moved { from: State, to: State },
    Exceeded { rate: Rate, percent: f64 },
}

/// A refused call: in which state, and when to come back in nanoseconds from now, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) state: State,
    pub(crate) retry_after: Option<u64>,
}

/// What it looks like at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub(crate) state: State,
    pub(crate) totals: Totals,
    /// Whether there are enough calls for a rate.
    pub(crate) is_known: bool,
    pub(crate) refused: u64,
    /// Nanoseconds until it lets a trial through; 0 if that time has come.
    pub(crate) retry_after: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    /// The state and the number of this stay in it: what a caller looks at without a lock.
    gate: AtomicU64,
    /// Until when it is open.
    until: AtomicU64,
    refused: AtomicU64,
    /// Where successes are noted without the lock: the stay they belong to, and for how many of them the window has room until
    /// more of them change nothing. [`TENSE`] if each outcome must be looked at.
    calm: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    state: State,
    window: Window,
    stays: u64,
    since: u64,
    /// How many times in a row it opened.
    opened: u32,
    /// Trials that may still be let through.
    trials_left: u32,
    trials: u32,
    told: [bool; 2],
    /// The room that there was when it last became calm.
    room: u32,
}

const TENSE: u64 = 1 << 63;
const ROOM: u64 = (1 << 32) - 1;

/// The stay, as it stands beside the room.
fn stay(gate: u64) -> u64 {
    (gate >> 3) << 32 & !TENSE
}

const KIND: u64 = 7;
const KINDS: [State; 6] =
    [State::Closed, State::MetricsOnly, State::Disabled, State::Open, State::HalfOpen, State::ForcedOpen];
/// Kinds up to this one let everything through.
const LETS_ALL: u64 = 2;
const DISABLED: u64 = 2;
const OPEN: u64 = 3;

fn kind(state: State) -> u64 {
    KINDS.iter().position(|kind| *kind == state).unwrap_or_default() as u64
}

fn state(gate: u64) -> State {
    KINDS[(gate & KIND) as usize]
}

impl Machine {
    pub(crate) fn new(limits: Limits, initial: State, now: u64) -> Self {
        let inner = Inner {
            limits,
            state: State::Closed,
            window: Window::new(limits.reach),
            stays: 0,
            since: now,
            opened: 0,
            trials_left: 0,
            trials: limits.trials,
            told: [false; 2],
            room: 0,
        };
        let machine = Self {
            gate: AtomicU64::new(kind(State::Closed)),
            until: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            calm: AtomicU64::new(TENSE),
            inner: Mutex::new(inner),
        };
        machine.with(|inner| {
            if initial != State::Closed {
                machine.enter(inner, initial, None, now);
            }
        });
        machine
    }

    /// Does `work` under the lock, with everything noted before.
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock();
        let calm = self.calm.swap(TENSE, Ordering::AcqRel);
        if calm & TENSE == 0 {
            let noted = inner.room - (calm & ROOM) as u32;
            inner.window.succeed(noted);
        }
        let done = work(&mut inner);
        if let Some(room) = inner.room_of_calm() {
            inner.room = room;
            self.calm.store(stay(self.gate.load(Ordering::Acquire)) | u64::from(room), Ordering::Release);
        }
        done
    }

    /// Notes a success that can lead to nothing; answers whether it was one.
    #[inline]
    fn note_success(&self, permit: Permit) -> bool {
        let mut calm = self.calm.load(Ordering::Acquire);
        loop {
            if calm & !ROOM != stay(permit.0) {
                return false;
            }
            if calm & ROOM == 0 {
                return true;
            }
            match self.calm.compare_exchange_weak(calm, calm - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(other) => calm = other,
            }
        }
    }

    pub(crate) fn state(&self) -> State {
        state(self.gate.load(Ordering::Acquire))
    }

    /// Whether everything is let through right now, and if so as part of which stay.
    #[inline]
    pub(crate) fn lets_all(&self) -> Option<Permit> {
        let gate = self.gate.load(Ordering::Acquire);
        (gate & KIND <= LETS_ALL).then_some(Permit(gate))
    }

    /// Lets a call through or refuses it where not everything is let through; tells the transition that it led to.
    #[cold]
    pub(crate) fn permit(&self, now: u64) -> (Result<Permit, Closed>, Option<Change>) {
        let gate = self.gate.load(Ordering::Acquire);
        match self.permit_otherwise(gate, now) {
            Ok((permit, change)) => (Ok(permit), change),
            Err((closed, change)) => (Err(closed), change),
        }
    }

    fn permit_otherwise(&self, gate: u64, now: u64) -> Result<(Permit, Option<Change>), (Closed, Option<Change>)> {
        // Many may hammer an open breaker: they need no lock to be refused.
        let until = self.until.load(Ordering::Acquire);
        if gate & KIND == OPEN && now < until && self.gate.load(Ordering::Acquire) == gate {
            return Err((self.refuse(State::Open, Some(until - now)), None));
        }
        self.with(|inner| {
            let mut change = None;
            if inner.state == State::Open && now >= self.until.load(Ordering::Acquire) {
                change = Some(self.enter(inner, State::HalfOpen, None, now));
            }
            if inner.is_too_late(|| now) {
                change = Some(self.enter(inner, State::Open, None, now));
            }
            match inner.state {
                State::Closed | State::MetricsOnly | State::Disabled => {}
                State::HalfOpen if inner.trials_left > 0 => inner.trials_left -= 1,
                State::HalfOpen => return Err((self.refuse(State::HalfOpen, None), change)),
                State::ForcedOpen => return Err((self.refuse(State::ForcedOpen, None), change)),
                State::Open => {
                    let wait = self.until.load(Ordering::Acquire).saturating_sub(now);
                    return Err((self.refuse(State::Open, Some(wait)), change));
                }
            }
            Ok((Permit(self.gate.load(Ordering::Acquire)), change))
        })
    }

    fn refuse(&self, state: State, retry_after: Option<u64>) -> Closed {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Closed { state, retry_after }
    }

    /// A call that was let through came back.
    #[inline]
    pub(crate) fn record(&self, permit: Permit, outcome: Outcome, now: impl Fn() -> u64) -> [Option<Change>; 2] {
        if outcome == 0 && self.note_success(permit) {
            return [None; 2];
        }
        self.record_otherwise(permit, outcome, now)
    }

    fn record_otherwise(&self, permit: Permit, outcome: Outcome, now: impl Fn() -> u64) -> [Option<Change>; 2] {
        if permit.0 & KIND == DISABLED {
            return [None; 2];
        }
        self.with(|inner| {
            // Its stay is over: what it would tell is known.
            if self.gate.load(Ordering::Acquire) != permit.0 {
                return [None; 2];
            }
            // Trials that took too long say that it is no better, whatever they came to.
            if inner.is_too_late(&now) {
                return [Some(self.enter(inner, State::Open, None, now())), None];
            }
            let totals = inner.window.record(outcome, &now);
            if inner.state == State::Closed && totals.failed | totals.slow == 0 {
                return [None; 2];
            }
            self.decide(inner, totals, now)
        })
    }

    fn decide(&self, inner: &mut Inner, totals: Totals, now: impl Fn() -> u64) -> [Option<Change>; 2] {
        let exceeded = inner.exceeded(totals);
        match inner.state {
            State::Closed => match exceeded {
                Some((rate, percent)) => {
                    let moved = self.enter(inner, State::Open, None, now());
                    [Some(Change::Exceeded { rate, percent }), Some(moved)]
                }
                None => [None; 2],
            },
            State::HalfOpen if totals.calls >= inner.trials => {
                let next = if exceeded.is_some() { State::Open } else { State::Closed };
                let told = exceeded.map(|(rate, percent)| Change::Exceeded { rate, percent });
                [told, Some(self.enter(inner, next, None, now()))]
            }
            State::MetricsOnly => [inner.tell_once(exceeded), None],
            _ => [None; 2],
        }
    }

    /// A call that was let through came to nothing that says anything: it was not made, or its error does not count.
    pub(crate) fn release(&self, permit: Permit) {
        if state(permit.0) != State::HalfOpen {
            return;
        }
        self.with(|inner| {
            if self.gate.load(Ordering::Acquire) == permit.0 {
                inner.trials_left += 1;
            }
        });
    }

    /// Goes to a state because somebody says so; `wait` is how long it then stays open.
    pub(crate) fn transition(&self, to: State, wait: Option<u64>, now: u64) -> Option<Change> {
        self.with(|inner| {
            let stays = inner.state == to && wait.is_none();
            (!stays).then(|| self.enter(inner, to, wait, now))
        })
    }

    /// Opens it if it is closed; in any other state it stays.
    pub(crate) fn open_if_closed(&self, now: u64) -> Option<Change> {
        self.with(|inner| (inner.state == State::Closed).then(|| self.enter(inner, State::Open, None, now)))
    }

    /// Closes with nothing counted.
    pub(crate) fn reset(&self, now: u64) -> Option<Change> {
        let moved = self.with(|inner| self.enter(inner, State::Closed, None, now));
        self.refused.store(0, Ordering::Relaxed);
        matches!(moved, Change::Moved { from, to } if from != to).then_some(moved)
    }

    /// Other limits from now on; outcomes are counted anew only if the window is another.
    pub(crate) fn limit(&self, limits: Limits) {
        self.with(|inner| {
            if inner.limits.reach != limits.reach && inner.state != State::HalfOpen {
                inner.window = Window::new(limits.reach);
            }
            inner.limits = limits;
        });
    }

    pub(crate) fn look(&self, now: u64) -> Look {
        self.with(|inner| {
            let totals = inner.window.totals(|| now);
            let until = || self.until.load(Ordering::Acquire).saturating_sub(now);
            Look {
                state: inner.state,
                totals,
                is_known: totals.calls > 0 && totals.calls >= inner.minimum(),
                refused: self.refused.load(Ordering::Relaxed),
                retry_after: (inner.state == State::Open).then(until),
            }
        })
    }

    fn enter(&self, inner: &mut Inner, to: State, wait: Option<u64>, now: u64) -> Change {
        let from = std::mem::replace(&mut inner.state, to);
        inner.stays += 1;
        inner.since = now;
        inner.told = [false; 2];
        match to {
            State::Open => {
                let wait = wait.unwrap_or_else(|| inner.limits.wait(inner.opened));
                inner.opened = inner.opened.saturating_add(1);
                self.until.store(now.saturating_add(wait), Ordering::Release);
            }
            State::HalfOpen => {
                inner.trials = inner.limits.trials;
                inner.trials_left = inner.trials;
                inner.window = Window::new(Reach::Count(inner.trials));
            }
            State::Closed | State::MetricsOnly => {
                inner.opened = 0;
                inner.window = Window::new(inner.limits.reach);
            }
            State::ForcedOpen | State::Disabled => {}
        }
        self.gate.store(inner.stays << 3 | kind(to), Ordering::Release);
        Change::Moved { from, to }
    }
}

impl Inner {
    /// For how many successes the window has room until more of them change nothing, if meanwhile none of them can lead to anything:
    /// closed, with a rate that a success can only lower.
    fn room_of_calm(&self) -> Option<u32> {
        let (totals, length) = self.window.ring()?;
        let is_clean = totals.failed | totals.slow == 0;
        let is_judged = totals.calls >= self.minimum() && self.exceeded(totals).is_none();
        let is_calm = self.state == State::Closed && (is_clean || is_judged);
        is_calm.then_some(if is_clean { length - totals.calls } else { length })
    }

    fn minimum(&self) -> u32 {
        match (self.state, self.limits.reach) {
            (State::HalfOpen, _) => self.trials,
            (_, Reach::Count(count)) => self.limits.minimum_calls.min(count),
            (_, Reach::Time(_)) => self.limits.minimum_calls,
        }
    }

    /// Whether it is half-open for longer than its trials may take.
    fn is_too_late(&self, now: impl Fn() -> u64) -> bool {
        let is_over = |time: u64| now().saturating_sub(self.since) >= time;
        self.state == State::HalfOpen && self.limits.trial_time.is_some_and(is_over)
    }

    fn exceeded(&self, totals: Totals) -> Option<(Rate, f64)> {
        if totals.calls < self.minimum() {
            return None;
        }
        let percent = |count: u32| f64::from(count) * 100.0 / f64::from(totals.calls.max(1));
        let (failed, slow) = (percent(totals.failed), percent(totals.slow));
        if failed >= self.limits.failure_rate {
            return Some((Rate::Failure, failed));
        }
        (slow >= self.limits.slow_rate && totals.slow > 0).then_some((Rate::Slow, slow))
    }

    /// What was exceeded, unless it was told since it last was not.
    fn tell_once(&mut self, exceeded: Option<(Rate, f64)>) -> Option<Change> {
        let Some((rate, percent)) = exceeded else {
            self.told = [false; 2];
            return None;
        };
        let told = std::mem::replace(&mut self.told[rate as usize], true);
        (!told).then_some(Change::Exceeded { rate, percent })
    }
}

/// The bits of an outcome.
#[inline]
pub(crate) fn outcome(failed: bool, slow: bool) -> Outcome {
    (if failed { FAILED } else { 0 }) | if slow { SLOW } else { 0 }
}
