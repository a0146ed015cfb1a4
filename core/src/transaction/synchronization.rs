//! What is enlisted for the end of a unit of work: listeners and hooks in one order.

use std::sync::Arc;

use super::phase::{Order, Phase};
use super::step::{AfterHook, BeforeHook, Steps};

/// An enlisted hook, or a run of an event's listeners: enlisting a hundred listeners of the same order is one push.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    order: Order,
    pub(crate) what: What,
}

/// Listeners of one order to be enlisted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enlisted {
    pub(crate) phase: Phase,
    pub(crate) order: Order,
    /// The first of them, by its place among the event's listeners of that phase.
    pub(crate) first: u32,
    /// The place behind the last of them.
    pub(crate) end: u32,
    /// Whether they run in the background or on the blocking pool.
    pub(crate) elsewhere: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// Listeners of published event `event`, in order.
    Listeners(Run),
    /// A hook, by its place in its list.
    Hook(u32),
}

/// Listeners of one event that are called one after the other; taken from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) event: u32,
    next: u32,
    end: u32,
    /// Whether they run elsewhere than in their place.
    pub(crate) elsewhere: bool,
}

impl Run {
    /// The next listener to be called.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u32> {
        let listener = self.next;
        (listener < self.end).then(|| {
            self.next += 1;
            listener
        })
    }

    /// The listener that [`next`](Self::next) gave last.
    pub(crate) fn last(&self) -> u32 {
        self.next.saturating_sub(1)
    }
}

/// Everything enlisted in one unit of work.
#[derive(Default)]
pub(crate) struct Synchronizations {
    published: Vec<Arc<dyn Steps>>,
    before_hooks: Vec<Option<BeforeHook>>,
    after_hooks: Vec<Option<AfterHook>>,
    before_commit: Vec<Entry>,
    /// What runs once the commit stands, before the locks are released.
    at_commit: Vec<Entry>,
    after_commit: Vec<Entry>,
    after_rollback: Vec<Entry>,
    after_completion: Vec<Entry>,
    /// After-rollback entries of a savepoint that was undone: they run whatever becomes of the rest.
    undone: Vec<Entry>,
}

/// How much was enlisted at a savepoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    before_commit: usize,
    at_commit: usize,
    after_commit: usize,
    after_rollback: usize,
}

impl Synchronizations {
    /// Remembers a published event whose listeners will be enlisted.
    pub(crate) fn publish(&mut self, steps: Arc<dyn Steps>) -> u32 {
        self.published.push(steps);
        u32::try_from(self.published.len() - 1).unwrap_or(u32::MAX)
    }

    /// Enlists listeners of the event remembered as `event`.
    pub(crate) fn enlist(&mut self, event: u32, enlisted: Enlisted) {
        let Enlisted { phase, order, first, end, elsewhere } = enlisted;
        let run = Run { event, next: first, end, elsewhere };
        let queue = if order == Order::FIRST { &mut self.at_commit } else { self.queue(phase) };
        queue.push(Entry { order, what: What::Listeners(run) });
    }

    pub(crate) fn enlist_before(&mut self, order: Order, hook: BeforeHook) {
        self.before_hooks.push(Some(hook));
        let what = What::Hook(u32::try_from(self.before_hooks.len() - 1).unwrap_or(u32::MAX));
        self.before_commit.push(Entry { order, what });
    }

    pub(crate) fn enlist_after(&mut self, phase: Phase, order: Order, hook: AfterHook) {
        self.after_hooks.push(Some(hook));
        let what = What::Hook(u32::try_from(self.after_hooks.len() - 1).unwrap_or(u32::MAX));
        self.queue(phase).push(Entry { order, what });
    }

    /// Enlists a hook that runs once the commit stands, before anything else does.
    #[cfg(feature = "ranking")]
    pub(crate) fn enlist_at_commit(&mut self, hook: AfterHook) {
        self.after_hooks.push(Some(hook));
        let what = What::Hook(u32::try_from(self.after_hooks.len() - 1).unwrap_or(u32::MAX));
        self.at_commit.push(Entry { order: Order::FIRST, what });
    }

    fn queue(&mut self, phase: Phase) -> &mut Vec<Entry> {
        match phase {
            // Immediate listeners are never enlisted; a before-commit entry is what comes nearest.
            Phase::Immediate | Phase::BeforeCommit => &mut self.before_commit,
            Phase::AfterCommit => &mut self.after_commit,
            Phase::AfterRollback => &mut self.after_rollback,
            Phase::AfterCompletion => &mut self.after_completion,
        }
    }

    /// What is enlisted for before the commit so far, in order; later ones form the next round.
    pub(crate) fn take_before_round(&mut self) -> Vec<Entry> {
        sorted(std::mem::take(&mut self.before_commit))
    }

    /// What runs once the commit stands, before the locks are released.
    pub(crate) fn take_at_commit(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.at_commit)
    }

    /// The after-commit or after-rollback entries that run for a unit that ended so, in order.
    pub(crate) fn take_after(&mut self, phase: Phase) -> Vec<Entry> {
        sorted(match phase {
            Phase::AfterCommit => std::mem::take(&mut self.after_commit),
            Phase::AfterRollback => {
                let mut entries = std::mem::take(&mut self.undone);
                entries.append(&mut self.after_rollback);
                entries
            }
            Phase::AfterCompletion => std::mem::take(&mut self.after_completion),
            Phase::Immediate | Phase::BeforeCommit => Vec::new(),
        })
    }

    /// The after-rollback entries of undone savepoints only, for a unit that committed.
    pub(crate) fn take_undone(&mut self) -> Vec<Entry> {
        sorted(std::mem::take(&mut self.undone))
    }

    pub(crate) fn has_after(&self) -> bool {
        !(self.after_commit.is_empty()
            && self.after_rollback.is_empty()
            && self.after_completion.is_empty()
            && self.undone.is_empty())
    }

    /// Whether nothing was ever enlisted but hooks that run once the commit stands, before anything else.
    pub(crate) fn is_empty(&self) -> bool {
        // With no event published, hooks are all that can be among those.
        self.published.is_empty() && self.before_hooks.is_empty() && self.after_hooks.len() == self.at_commit.len()
    }

    pub(crate) fn event(&self, index: u32) -> &Arc<dyn Steps> {
        &self.published[index as usize]
    }

    pub(crate) fn take_before_hook(&mut self, index: u32) -> Option<BeforeHook> {
        self.before_hooks[index as usize].take()
    }

    pub(crate) fn take_after_hook(&mut self, index: u32) -> Option<AfterHook> {
        self.after_hooks[index as usize].take()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            before_commit: self.before_commit.len(),
            at_commit: self.at_commit.len(),
            after_commit: self.after_commit.len(),
            after_rollback: self.after_rollback.len(),
        }
    }

    /// Undoes what was enlisted since `mark`: it has rolled back, and its after-rollback and after-completion entries will run.
    pub(crate) fn roll_back_to(&mut self, mark: Mark) {
        self.before_commit.truncate(mark.before_commit);
        self.at_commit.truncate(mark.at_commit);
        self.after_commit.truncate(mark.after_commit);
        let from = mark.after_rollback.min(self.after_rollback.len());
        self.undone.extend(self.after_rollback.drain(from..));
    }
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    // Stable: equals stay in the order in which they were enlisted.
    if !entries.is_sorted_by_key(|entry| entry.order) {
        entries.sort_by_key(|entry| entry.order);
    }
    entries
}
