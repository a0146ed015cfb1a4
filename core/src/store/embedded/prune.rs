//! What the committer removes on its own: packs that nobody is owed, and the pieces of large values nobody refers to.
//!
//! It goes on in small steps within the committer's own batches.
//! A pack goes only when it lies wholly below every cursor and holds no event that is kept for later listeners.

use std::collections::VecDeque;

use super::layout::{Chunks, FREE, all_of, chunk_key, damaged, free_key, pack_key};
use super::log::scan_packs;
use super::shared::Shared;
use crate::error::StoreError;
use crate::store::{Direction, Position};

/// How far the log was pruned, and what is left to sweep.
#[derive(Debug, Default)]
pub(super) struct Pruner {
    /// Every pack that begins below was looked at: it is gone, or kept.
    pub(super) looked_to: Position,
    /// Nothing more can go before everybody has settled what is below.
    wait_for: Position,
    /// Packs that were kept since `looked_to` was last written.
    kept: usize,
    /// Packs of this opening that were not looked at yet, so that they need not be read back.
    known: VecDeque<Known>,
    /// Large values to sweep, and the number of the next piece of the first.
    free: VecDeque<Chunks>,
    next_piece: u32,
}

/// A pack without large events, as it was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) first: Position,
    pub(super) end: Position,
    pub(super) has_logged: bool,
    pub(super) bytes: usize,
}

/// One step of removal.
#[derive(Debug, Default)]
pub(super) struct Removal {
    pub(super) keys: Vec<Vec<u8>>,
    /// Large values that were referred to by what goes.
    pub(super) freed: Vec<Chunks>,
    /// About how many bytes go.
    pub(super) bytes: usize,
    /// Whether `looked_to` should be written.
    pub(super) looked: bool,
    /// Whether there is more to remove now.
    pub(super) more: bool,
}

/// How many packs are looked at at once.
const PACKS: usize = 8;
/// After how many kept packs `looked_to` is written although nothing went.
const KEPT: usize = 256;
/// How many packs are known at most; others are read back.
const KNOWN: usize = 4096;
/// What looking at a pack that is kept counts.
const LOOK: usize = 64;

impl Pruner {
    /// Takes up what is stored; `looked_to` is how far the log was pruned.
    pub(super) fn load(shared: &Shared, looked_to: Position) -> Result<Self, StoreError> {
        let mut free = VecDeque::new();
        for (key, body) in shared.scan(&all_of(FREE), Direction::Forward, usize::MAX)? {
            free.push_back(Chunks::decode(&body).ok_or_else(|| damaged(&key, "it points nowhere"))?);
        }
        Ok(Self { looked_to, free, ..Self::default() })
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

    /// The next step, of about `budget` bytes; `low` is the first position that somebody is owed.
    ///
    /// A pack that cannot be read stays, and everything after it, until the store is opened anew: it is no reason to refuse commits.
    pub(super) fn step(&mut self, shared: &Shared, low: Position, budget: usize) -> Removal {
        let mut removal = Removal::default();
        if self.packs(shared, low, budget, &mut removal).is_err() {
            self.wait_for = Position(u64::MAX);
        }
        self.sweep(shared.limits.chunk_bytes, budget, &mut removal);
        removal
    }

    fn packs(
        &mut self,
        shared: &Shared,
        low: Position,
        budget: usize,
        removal: &mut Removal,
    ) -> Result<(), StoreError> {
        while self.looked_to < low && self.wait_for <= low {
            if removal.bytes >= budget {
                removal.more = true;
                break;
            }
            if let Some(pack) = self.next_known() {
                if pack.end > low {
                    self.wait_for = pack.end;
                    break;
                }
                self.look(shared, pack, removal);
                continue;
            }
            let packs = scan_packs(shared, self.looked_to, low, PACKS)?;
            if packs.is_empty() {
                self.looked_to = low;
            }
            for pack in packs {
                if pack.end() > low {
                    self.wait_for = pack.end();
                    break;
                }
                if removal.bytes >= budget {
                    break;
                }
                let known =
                    Known { first: pack.first, end: pack.end(), has_logged: pack.has_logged, bytes: pack.bytes() };
                if self.look(shared, known, removal) {
                    removal.freed.extend(pack.chunks());
                }
            }
        }
        if self.kept >= KEPT {
            removal.looked = true;
        }
        if removal.looked {
            self.kept = 0;
        }
        Ok(())
    }

    /// The pack that begins where nothing was looked at yet, if it is known.
    fn next_known(&mut self) -> Option<Known> {
        while self.known.front().is_some_and(|pack| pack.first < self.looked_to) {
            self.known.pop_front();
        }
        self.known.front().filter(|pack| pack.first == self.looked_to).copied()
    }

    /// Passes a pack that nobody is owed, and says whether it goes.
    fn look(&mut self, shared: &Shared, pack: Known, removal: &mut Removal) -> bool {
        self.looked_to = pack.end;
        if pack.has_logged {
            self.kept += 1;
            removal.bytes += LOOK;
        } else {
            removal.looked = true;
            removal.bytes += shared.limits.cost(pack.bytes);
            removal.keys.push(pack_key(pack.first));
        }
        !pack.has_logged
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
