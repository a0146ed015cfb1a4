//! What is retained in the log, and what is let go of.

use std::sync::Arc;

use super::CommitCore;
use crate::clock::Clock;
use crate::store::embedded::prune::{Removal, Rule};
use crate::store::{LogHold, Position, Retention};

impl CommitCore {
    /// From now on the log is pruned as `retention` says, by `clock`.
    pub(in super::super) fn retain(&mut self, retention: Retention, clock: Arc<dyn Clock>) {
        self.retaining = Some((retention, clock));
        self.pruner.look_again();
    }

    /// The next step of pruning, of about `budget` bytes; nothing from `upto` on goes.
    pub(super) fn let_go(&mut self, upto: Position, budget: usize) -> Removal {
        let shared = self.shared.clone();
        // Nobody takes a hold while it is decided what goes; who takes one afterwards is told how far that was.
        let held = shared.holds.lock();
        let low = self.low(upto).min(held.low().unwrap_or(upto));
        let removal = self.pruner.step(&shared, self.rule(low), budget);
        shared.pruned.tell(self.pruner.looked_to(), self.pruner.looked_to_logged());
        removal
    }

    /// Whether something stays in the log only until its time has come.
    pub(in super::super) fn awaits_age(&self) -> bool {
        self.shared.engine().is_ok() && self.pruner.awaits_age()
    }

    /// What might go if it were not for `hold`.
    pub(in super::super) fn rule_without(&self, hold: &LogHold) -> Option<Rule> {
        let upto = self.next_position;
        let others = self.shared.holds.lock().low_without(hold).unwrap_or(upto);
        self.rule(self.low(upto).min(others))
    }

    /// The first position that somebody is owed, at most `upto`.
    fn low(&self, upto: Position) -> Position {
        self.progress.low().map_or(upto, |low| low.min(upto))
    }

    fn rule(&self, low: Position) -> Option<Rule> {
        let (retention, clock) = self.retaining.as_ref()?;
        Some(Rule::new(retention, low, clock.now(), self.log_bytes))
    }
}
