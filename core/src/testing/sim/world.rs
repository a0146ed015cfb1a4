//! What the seed decides: who goes on next, and what goes wrong.
//!
//! Whoever waits for the world stands in one list. Each time everything has come to rest, one of the list is picked by the seed and
//! goes on, now and then several; so whatever can happen next has its chance, and nothing depends on the machine.

use tokio::sync::{Notify, oneshot};

use parking_lot::Mutex;

use super::store::Bell;
use crate::clock::{Chance, PausedTime, Timestamp};
use crate::testing::Fault;

/// What may go wrong in a run, and how often at most, over all its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// Ends of the process; 3 by default.
    pub crashes: u32,
    /// Storage errors that pass; 4 by default.
    pub errors: u32,
    /// Commits that are refused as conflicts though there was none; 4 by default.
    pub conflicts: u32,
    /// Commits in doubt, each followed by the end of the process; 1 by default.
    pub in_doubt: u32,
}

impl Trouble {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { crashes: 0, errors: 0, conflicts: 0, in_doubt: 0 };
}

impl Default for Trouble {
    fn default() -> Self {
        Self { crashes: 3, errors: 4, conflicts: 4, in_doubt: 1 }
    }
}

/// What decides a run, and its record.
pub(super) struct World {
    state: Mutex<State>,
    crash: Notify,
}

struct State {
    chance: Chance,
    trouble: Trouble,
    troubles: usize,
    waiting: Vec<Waiting>,
    /// In this life.
    choices: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// The time at which this life began, and what has passed since while it lasts.
    now: Timestamp,
    passing: Option<PausedTime>,
    trace: Vec<String>,
}

/// Somebody who waits for the world to let it go on.
enum Waiting {
    Turn {
        what: &'static str,
        wake: oneshot::Sender<()>,
    },
    /// A doorbell that is to ring.
    Ring(Bell),
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        match self {
            Waiting::Turn { wake, .. } => !wake.is_closed(),
            Waiting::Ring(bell) => bell.is_heard(),
        }
    }
}

/// A life that makes more choices than this will not end.
const MOST_CHOICES: u64 = 1_000_000;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            chance: Chance::seeded(seed),
            trouble: Trouble::default(),
            troubles: 0,
            waiting: Vec::new(),
            choices: 0,
            crash_at: None,
            crashed: false,
            // 2020-01-01 00:00:00 UTC.
            now: Timestamp(1_577_836_800_000),
            passing: None,
            trace: Vec::new(),
        };
        Self { state: Mutex::new(state), crash: Notify::new() }
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        self.state.lock().trouble = trouble;
    }

    pub(super) fn troubles(&self) -> usize {
        self.state.lock().troubles
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.state.lock().trace.clone()
    }

    /// A life begins; when it is to crash is decided now.
    pub(super) fn begin(&self, number: usize) {
        let mut state = self.state.lock();
        state.waiting.clear();
        state.choices = 0;
        state.crashed = false;
        state.crash_at = None;
        if state.trouble.crashes > 0 && state.chance.below(4) > 0 {
            // Early ones are as likely as late ones, whatever the length of a life.
            let span = 2 << state.chance.below(9);
            state.crash_at = Some(1 + state.chance.below(span));
        }
        state.note(format!("life {number}"));
    }

    pub(super) fn time_begins(&self) {
        self.state.lock().passing = Some(PausedTime::begin());
    }

    pub(super) fn time_ends(&self) {
        let mut state = self.state.lock();
        state.now = state.now();
        state.passing = None;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.state.lock().now()
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.state.lock().chance.below(end)
    }

    pub(super) fn note(&self, line: String) {
        self.state.lock().note(line);
    }

    /// Waits until the seed lets it go on.
    pub(super) async fn turn(&self, what: &'static str) {
        let (wake, woken) = oneshot::channel();
        self.state.lock().waiting.push(Waiting::Turn { what, wake });
        // Not woken any more is as good as gone.
        let _ = woken.await;
    }

    /// The doorbell rings when the seed says so.
    pub(super) fn ring(&self, bell: Bell) {
        self.state.lock().waiting.push(Waiting::Ring(bell));
    }

    /// How long something takes that may be slow, in milliseconds; mostly no time at all.
    pub(super) fn slowness(&self) -> u64 {
        let chance = &self.state.lock().chance;
        if chance.below(12) == 0 { 1 + chance.below(400) } else { 0 }
    }

    /// Whether a storage error is due.
    pub(super) fn has_error(&self) -> bool {
        let mut state = self.state.lock();
        let due = state.trouble.errors > 0 && state.chance.below(40) == 0;
        if due {
            state.trouble.errors -= 1;
            state.tell("a storage error");
        }
        due
    }

    /// The fault a commit meets. One in doubt is followed by the end of the process.
    pub(super) fn fault_of_commit(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        let Trouble { errors, conflicts, in_doubt, .. } = state.trouble;
        match state.chance.below(60) {
            0 | 1 if conflicts > 0 => {
                state.trouble.conflicts -= 1;
                state.tell("a conflict");
                Some(Fault::Conflict)
            }
            2 if errors > 0 => {
                state.trouble.errors -= 1;
                state.tell("a storage error at a commit");
                Some(Fault::Error)
            }
            3 if in_doubt > 0 => {
                state.trouble.in_doubt -= 1;
                state.tell("a commit in doubt");
                let stored = state.chance.below(2) == 0;
                let soon = state.choices + 1 + state.chance.below(20);
                state.crash_at = Some(state.crash_at.map_or(soon, |at| at.min(soon)));
                state.trouble.crashes += 1;
                Some(Fault::InDoubt { stored })
            }
            _ => None,
        }
    }

    /// Everything has come to rest: lets one or several go on, or ends the process.
    ///
    /// # Panics
    /// If the life does not come to an end.
    pub(super) fn choose(&self) {
        let mut going = Vec::new();
        let mut state = self.state.lock();
        if state.crashed {
            return;
        }
        state.waiting.retain(Waiting::is_wanted);
        while !state.waiting.is_empty() {
            state.choices += 1;
            assert!(state.choices < MOST_CHOICES, "the simulation does not come to an end");
            if state.crash_at.is_some_and(|at| at <= state.choices) {
                state.crashed = true;
                state.trouble.crashes = state.trouble.crashes.saturating_sub(1);
                state.tell("crash");
                self.crash.notify_one();
                return;
            }
            let many = state.waiting.len() as u64;
            let at = state.chance.below(many) as usize;
            let next = state.waiting.remove(at);
            let line = match &next {
                Waiting::Turn { what, .. } => format!("{what}, of {many}"),
                Waiting::Ring(bell) => format!("rings {}, of {many}", bell.number()),
            };
            state.note(line);
            going.push(next);
            if state.chance.below(4) > 0 {
                break;
            }
        }
        drop(state);
        if !going.is_empty() {
            // A doorbell may wake nobody: the thread is not to rest, and time not to pass, while others wait.
            drop(tokio::spawn(async {}));
        }
        for next in going {
            match next {
                Waiting::Turn { wake, .. } => drop(wake.send(())),
                Waiting::Ring(bell) => bell.ring(),
            }
        }
    }

    /// Waits for the end of the process.
    pub(super) async fn crashed(&self) {
        self.crash.notified().await;
    }
}

impl State {
    fn now(&self) -> Timestamp {
        self.passing.as_ref().map_or(self.now, |passing| self.now.saturating_add(passing.passed()))
    }

    fn note(&mut self, line: String) {
        let now = self.now();
        self.trace.push(format!("{} {line}", now.0));
    }

    fn tell(&mut self, what: &str) {
        self.troubles += 1;
        self.note(what.to_owned());
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("World").finish_non_exhaustive()
    }
}
