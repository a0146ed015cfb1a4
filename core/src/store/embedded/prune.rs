//! What the committer removes on its own: packs that retention lets go of, and the pieces of large values nobody refers to.
//!
//! It goes on in small steps within the committer's own batches, in two walks from the beginning of the log. The first passes every
//! pack that lies wholly below every cursor and every hold and is of age; it removes those that hold no event that is kept for later
//! listeners. The second follows it over those that do, if they are not kept for ever. A store that was not told what to retain
//! removes no pack.

use std::collections::VecDeque;
use std::time::Duration;

use super::layout::{Chunks, FREE, all_of, chunk_key, damaged, free_key, pack_key};
use super::log::{Pack, scan_packs};
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::retention::due;
use crate::store::{Direction, Position, Retention};

/// How far the log was pruned, and what is left to sweep.
#[derive(Debug, Default)]
pub(super) struct Pruner {
    /// Over everything: what is not kept for later listeners goes.
    done: Walk,
    /// Behind it: what is kept for later listeners goes, if it is not kept for ever.
    logged: Walk,
    /// Packs of this opening that were not looked at yet, so that they need not be read back.
    known: VecDeque<Known>,
    /// Large values to sweep, and the number of the next piece of the first.
    free: VecDeque<Chunks>,
    next_piece: u32,
}

/// A walk over the log from its beginning.
#[derive(Debug, Default)]
struct Walk {
    /// Every pack that begins below was looked at: it is gone, or kept.
    looked_to: Position,
    wait: Wait,
    /// Packs that were kept since `looked_to` was last written.
    kept: usize,
}

/// What the next pack of a walk waits for.
#[derive(Debug, Default)]
enum Wait {
    #[default]
    Nothing,
    /// Everybody has settled, and nobody holds, what is below.
    Settled(Position),
    /// The time has come, or the log has grown too large, for the pack that ends here.
    Age { end: Position, due: Timestamp, before: u64 },
    /// It cannot be read.
    Opening,
}

/// What may go now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// The first position that somebody is owed or holds.
    pub(super) low: Position,
    pub(super) now: Timestamp,
    /// How many bytes of the log were ever written.
    pub(super) written: u64,
    time: Duration,
    most_bytes: u64,
    /// How long what is kept for later listeners stays; not at all without end.
    logged: Option<Duration>,
}

impl Rule {
    pub(super) fn new(retention: &Retention, low: Position, now: Timestamp, written: u64) -> Self {
        let time = retention.time().unwrap_or(Duration::MAX);
        let most_bytes = retention.most_bytes().unwrap_or(u64::MAX);
        Self { low, now, written, time, most_bytes, logged: retention.logged_time() }
    }

    /// The rule for what is kept for later listeners, among what lies below `upto`.
    fn of_logged(self, upto: Position) -> Option<Self> {
        self.logged.map(|time| Self { low: self.low.min(upto), time, most_bytes: u64::MAX, ..self })
    }

    /// Whether the log is too large for a pack before which `before` bytes were written.
    fn is_crowded(&self, before: u64) -> bool {
        self.written.saturating_sub(before) > self.most_bytes
    }

    /// Whether `pack` may go.
    pub(super) fn lets_go(&self, pack: &Known) -> bool {
        let is_old = || due(pack.newest, self.now, self.time) <= self.now;
        pack.end <= self.low && (self.is_crowded(pack.before) || is_old())
    }
}

impl Walk {
    fn from(looked_to: Position) -> Self {
        Self { looked_to, ..Self::default() }
    }

    /// Whether nothing has come of what it waits for.
    fn waits(&self, rule: &Rule) -> bool {
        match self.wait {
            Wait::Nothing => false,
            Wait::Settled(end) => end > rule.low,
            Wait::Age { due, before, .. } => rule.now < due && !rule.is_crowded(before),
            Wait::Opening => true,
        }
    }

    /// Whether `pack`, which is next, may be passed; if not, it waits for that.
    fn passes(&mut self, pack: &Known, rule: &Rule) -> bool {
        if pack.end > rule.low {
            self.wait = Wait::Settled(pack.end);
            return false;
        }
        let due = match self.wait {
            // Counted from when it was first seen, should it have been published later than now.
            Wait::Age { end, due, .. } if end == pack.end => due,
            _ => due(pack.newest, rule.now, rule.time),
        };
        self.wait = Wait::Age { end: pack.end, due, before: pack.before };
        if self.waits(rule) {
            return false;
        }
        self.wait = Wait::Nothing;
        self.looked_to = pack.end;
        true
    }
}

/// A pack as pruning sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) first: Position,
    pub(super) end: Position,
    pub(super) has_logged: bool,
    pub(super) bytes: usize,
    /// When its newest event was published.
    pub(super) newest: Timestamp,
    /// How many bytes of the log were written before it.
    pub(super) before: u64,
}

/// One step of removal.
#[derive(Debug, Default)]
pub(super) struct Removal {
    pub(super) keys: Vec<Vec<u8>>,
    /// Large values that were referred to by what goes.
    pub(super) freed: Vec<Chunks>,
    /// About how many bytes go.
    pub(super) bytes: usize,
    /// Whether how far the walks came should be written.
    pub(super) looked: bool,
    /// Whether there is more to remove now.
    pub(super) more: bool,
}

impl Removal {
    /// A pack goes, and the large events it refers to.
    fn pack(&mut self, shared: &Shared, known: &Known, pack: Option<&Pack>) {
        self.looked = true;
        self.bytes += shared.limits.cost(known.bytes);
        self.keys.push(pack_key(known.first));
        self.freed.extend(pack.into_iter().flat_map(Pack::chunks));
    }
}

/// How many packs are looked at at once.
const PACKS: usize = 8;
/// After how many kept packs it is written how far the walks came, although nothing went.
const KEPT: usize = 256;
/// How many packs are known at most; others are read back.
const KNOWN: usize = 4096;
/// What looking at a pack that is kept counts.
const LOOK: usize = 64;

impl Pruner {
    /// Takes up what is stored: how far the log was pruned of what is not kept for later listeners, and of what is.
    pub(super) fn load(shared: &Shared, pruned: Position, pruned_logged: Position) -> Result<Self, StoreError> {
        let mut free = VecDeque::new();
        for (key, body) in shared.scan(&all_of(FREE), Direction::Forward, usize::MAX)? {
            free.push_back(Chunks::decode(&body).ok_or_else(|| damaged(&key, "it points nowhere"))?);
        }
        Ok(Self { done: Walk::from(pruned), logged: Walk::from(pruned_logged), free, ..Self::default() })
    }

    /// Up to where every pack was looked at that holds nothing for later listeners.
    pub(super) fn looked_to(&self) -> Position {
        self.done.looked_to
    }

    /// Up to where every other pack was.
    pub(super) fn looked_to_logged(&self) -> Position {
        self.logged.looked_to
    }

    /// Another retention counts from now on.
    pub(super) fn look_again(&mut self) {
        self.done.wait = Wait::Nothing;
        self.logged.wait = Wait::Nothing;
    }

    /// Whether something stays only until its time has come.
    pub(super) fn awaits_age(&self) -> bool {
        [&self.done, &self.logged].iter().any(|walk| matches!(walk.wait, Wait::Age { .. }))
    }

    /// Large values to sweep from now on.
    pub(super) fn free(&mut self, chunks: Chunks) {
        self.free.push_back(chunks);
    }

    /// A pack that was just written.
    pub(super) fn written(&mut self, pack: Known) {
        if self.known.len() < KNOWN {
            self.known.push_back(pack);
        }
    }

    /// The next step, of about `budget` bytes.
    ///
    /// A pack that cannot be read stays, and everything after it, until the store is opened anew: it is no reason to refuse commits.
    pub(super) fn step(&mut self, shared: &Shared, rule: Option<Rule>, budget: usize) -> Removal {
        let mut removal = Removal::default();
        if let Some(rule) = rule {
            if self.prune(shared, &rule, budget, &mut removal).is_err() {
                self.done.wait = Wait::Opening;
            }
            if let Some(rule) = rule.of_logged(self.done.looked_to)
                && self.prune_logged(shared, &rule, budget, &mut removal).is_err()
            {
                self.logged.wait = Wait::Opening;
            }
        }
        self.sweep(shared.limits.chunk_bytes, budget, &mut removal);
        removal
    }

    fn prune(&mut self, shared: &Shared, rule: &Rule, budget: usize, removal: &mut Removal) -> Result<(), StoreError> {
        while self.done.looked_to < rule.low && !self.done.waits(rule) {
            if removal.bytes >= budget {
                removal.more = true;
                break;
            }
            if let Some(pack) = self.next_known() {
                if self.done.passes(&pack, rule) && !self.keeps(&pack, removal) {
                    removal.pack(shared, &pack, None);
                }
                continue;
            }
            let packs = scan_packs(shared, self.done.looked_to, rule.low, PACKS)?;
            if packs.is_empty() {
                self.done.looked_to = rule.low;
            }
            for pack in packs {
                let known = pack.known();
                if removal.bytes >= budget || !self.done.passes(&known, rule) {
                    break;
                }
                if !self.keeps(&known, removal) {
                    removal.pack(shared, &known, Some(&pack));
                }
            }
        }
        if self.done.kept >= KEPT {
            removal.looked = true;
        }
        if removal.looked {
            self.done.kept = 0;
        }
        Ok(())
    }

    fn prune_logged(
        &mut self,
        shared: &Shared,
        rule: &Rule,
        budget: usize,
        removal: &mut Removal,
    ) -> Result<(), StoreError> {
        while self.logged.looked_to < rule.low && !self.logged.waits(rule) {
            if removal.bytes >= budget {
                removal.more = true;
                break;
            }
            let packs = scan_packs(shared, self.logged.looked_to, rule.low, PACKS)?;
            if packs.is_empty() {
                self.logged.looked_to = rule.low;
            }
            for pack in packs {
                let known = pack.known();
                if removal.bytes >= budget || !self.logged.passes(&known, rule) {
                    break;
                }
                removal.pack(shared, &known, Some(&pack));
            }
        }
        Ok(())
    }

    /// The pack that begins where nothing was looked at yet, if it is known.
    fn next_known(&mut self) -> Option<Known> {
        while self.known.front().is_some_and(|pack| pack.first < self.done.looked_to) {
            self.known.pop_front();
        }
        self.known.front().filter(|pack| pack.first == self.done.looked_to).copied()
    }

    /// Whether a pack that was passed stays for later listeners.
    fn keeps(&mut self, pack: &Known, removal: &mut Removal) -> bool {
        if pack.has_logged {
            self.done.kept += 1;
            removal.bytes += LOOK;
        }
        pack.has_logged
    }

    fn sweep(&mut self, piece_bytes: usize, budget: usize, removal: &mut Removal) {
        while let Some(chunks) = self.free.front().copied() {
            while self.next_piece < chunks.count {
                if removal.bytes >= budget {
                    removal.more = true;
                    return;
                }
                removal.keys.push(chunk_key(chunks.id, self.next_piece));
                removal.bytes += piece_bytes;
                self.next_piece += 1;
            }
            removal.keys.push(free_key(chunks.id));
            self.free.pop_front();
            self.next_piece = 0;
        }
    }
}
