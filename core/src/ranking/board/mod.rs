//! A board: items in the order of their scores, in memory.
//!
//! A [`Board`] is a value: whoever has it may change it, and reads need no more than a reference.
//! It promises that items stand best first, ties by a declared rule, whatever the order in which scores came;
//! that an item is on it once; and that no verb takes longer than the logarithm of the number of items, but for what it answers.
//! Windows, weights and keeping a board across restarts are left to [`Ranking`](super::Ranking).

mod order;
mod read;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::error::RankingError;
use crate::ranking::score::{Score, divided};
pub use order::Ties;
use order::{At, BLOCK, Edge, FIRST, FIRST_KEPT, FIRST_LEAST, Order, SPARSE, index};
pub use read::Entry;

/// How many additions are looked up before they are carried out.
const AT_ONCE: usize = 64;

/// Items in the order of their scores.
///
/// ```
/// use aftercommit::ranking::{Board, Scale};
///
/// let points = Scale::decimals(1);
/// let mut board = Board::new();
/// board.add(&"mug", points.parse("0.7")?)?;
/// board.add(&"bag", points.parse("0.1")?)?;
/// board.add(&"bag", points.parse("0.6")?)?;
/// board.add(&"pen", points.parse("0.1")?)?;
///
/// let top = board.top(2);
/// assert_eq!(top[0].item, "bag", "of equals the lower item comes first");
/// assert_eq!(top[1].item, "mug");
/// assert_eq!(board.rank(&"pen"), Some(2));
/// assert_eq!(points.show(board.score(&"bag").unwrap_or_default()).to_string(), "0.7");
/// # Ok::<_, aftercommit::error::RankingError>(())
/// ```
///
/// # Cost
/// A changed score is a look-up by hash, and where the item passes another block's edge, a search among the edges.
/// A rank is a sum over one group of blocks and a look at one block's items; a page sorts the blocks it lies in.
/// The first block is kept sorted, so that the top is only read.
/// An item of 8 bytes takes about 45 bytes, at most 80 while the lists it is in have just grown.
#[derive(Clone)]
pub struct Board<K> {
    hasher: RandomState,
    slots: HashTable<u32>,
    items: Vec<Item<K>>,
    order: Order<K>,
}

#[derive(Clone)]
struct Item<K> {
    key: K,
    score: i64,
    /// The block it is in.
    block: u32,
    /// Its place among the slots of the block.
    place: u32,
}

impl<K: Ord + Hash + Clone> Default for Board<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Hash + Clone> Board<K> {
    /// An empty board; of equal scores the lower item comes first.
    pub fn new() -> Self {
        Self::with_ties(Ties::default())
    }

    /// An empty board with a rule for equal scores.
    pub fn with_ties(ties: Ties) -> Self {
        Self { hasher: RandomState::default(), slots: HashTable::new(), items: Vec::new(), order: Order::new(ties) }
    }

    /// A board of these scores; of an item that comes twice the last one counts.
    ///
    /// Faster than setting one after the other: they are put in order once.
    ///
    /// # Errors
    /// [`RankingError::Full`] beyond four thousand million items.
    pub fn of(ties: Ties, scores: impl IntoIterator<Item = (K, Score)>) -> Result<Self, RankingError> {
        let mut board = Self::with_ties(ties);
        for (key, score) in scores {
            match board.slot(&key) {
                Some(slot) => board.items[slot as usize].score = score.0,
                None => {
                    board.enlist(key, score.0)?;
                }
            }
        }
        board.arrange();
        Ok(board)
    }

    /// How many items it holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The rule for equal scores.
    pub fn ties(&self) -> Ties {
        self.order.ties
    }

    /// Adds `delta`, which may be negative, to the score of `item`, which begins at 0; answers the new score.
    ///
    /// # Errors
    /// [`RankingError::Sum`] if it does not fit, [`RankingError::Full`]; the board is then as it was.
    #[inline]
    pub fn add(&mut self, item: &K, delta: Score) -> Result<Score, RankingError> {
        match self.slot(item) {
            Some(slot) => {
                let score = Score(self.items[slot as usize].score).plus(delta)?;
                self.change(slot, score.0);
                Ok(score)
            }
            None => {
                self.put_new(item.clone(), delta.0)?;
                Ok(delta)
            }
        }
    }

    /// Adds to the scores of many items, as [`add`](Self::add) does one after the other, and faster: what they need of memory is
    /// fetched side by side.
    ///
    /// # Errors
    /// Those of [`add`](Self::add): what does not fit is left out, everything else is added, and the first that was left out is told.
    pub fn add_all<'a>(&mut self, additions: impl IntoIterator<Item = (&'a K, Score)>) -> Result<(), RankingError>
    where
        K: 'a,
    {
        let mut additions = additions.into_iter().map(|(key, delta)| (key, delta.0));
        let mut refused = Ok(());
        let mut likely = [u32::MAX; AT_ONCE];
        let mut moving = [(0_u32, 0_i64); AT_ONCE];
        let mut staying = [(0_u32, 0_i64); AT_ONCE];
        loop {
            let some: SmallVec<[(&K, i64); AT_ONCE]> = additions.by_ref().take(AT_ONCE).collect();
            // Each loop waits for memory once, for all of them; a slot whose item is not looked at yet is a guess.
            for ((key, _), likely) in some.iter().zip(&mut likely) {
                *likely = self.slots.iter_hash(self.hasher.hash_one(key)).next().copied().unwrap_or(u32::MAX);
            }
            let (mut moves, mut stays) = (0, 0);
            for ((key, delta), likely) in some.iter().zip(&likely) {
                let found = match self.items.get(*likely as usize) {
                    Some(item) if item.key == **key => Some(*likely),
                    _ => self.slot(key),
                };
                let Some(slot) = found else {
                    refused = refused.and(self.put_new((*key).clone(), *delta));
                    continue;
                };
                let item = &self.items[slot as usize];
                // A guess again, as others of these may come first: it sorts them, so that what follows goes one way at a time.
                let stay = usize::from(self.order.block(item.block).is_within(item.score.wrapping_add(*delta)));
                staying[stays] = (slot, *delta);
                moving[moves] = (slot, *delta);
                stays += stay;
                moves += 1 - stay;
            }
            for (slot, delta) in staying[..stays].iter().chain(&moving[..moves]) {
                match Score(self.items[*slot as usize].score).plus(Score(*delta)) {
                    Ok(score) => self.change(*slot, score.0),
                    Err(error) => refused = refused.and(Err(error)),
                }
            }
            if some.len() < AT_ONCE {
                return refused;
            }
        }
    }

    /// Gives `item` a score, whatever it had; answers that.
    ///
    /// # Errors
    /// [`RankingError::Full`].
    pub fn set(&mut self, item: &K, score: Score) -> Result<Option<Score>, RankingError> {
        match self.slot(item) {
            Some(slot) => {
                let was = self.items[slot as usize].score;
                self.change(slot, score.0);
                Ok(Some(Score(was)))
            }
            None => self.put_new(item.clone(), score.0).map(|()| None),
        }
    }

    /// Takes `item` off the board; answers the score it had.
    pub fn remove(&mut self, item: &K) -> Option<Score> {
        let hash = self.hasher.hash_one(item);
        let items = &self.items;
        let entry = self.slots.find_entry(hash, |slot| items[*slot as usize].key == *item).ok()?;
        let (slot, _) = entry.remove();
        self.take_out(slot);
        let gone = self.items.swap_remove(slot as usize);
        if let Some(moved) = self.items.get(slot as usize) {
            // The item that was last has this slot now.
            let was = index(self.items.len());
            let hash = self.hasher.hash_one(&moved.key);
            if let Some(listed) = self.slots.find_mut(hash, |slot| *slot == was) {
                *listed = slot;
            }
            self.order.block_mut(moved.block).slots[moved.place as usize] = slot;
        }
        Some(Score(gone.score))
    }

    /// Takes the worst items off, so that at most `most` stay; answers how many went.
    pub fn keep(&mut self, most: usize) -> usize {
        let gone = self.len().saturating_sub(most);
        for last in self.page(most, gone) {
            self.remove(&last.item);
        }
        gone
    }

    /// Adds the scores of `other`, each times `weight`, which is in units of `scale`: `Scale::decimals(1).parse("0.5")` halves them.
    ///
    /// # Rounding
    /// Each product once, to the nearest unit. To merge several boards exactly, use [`merged`](Self::merged), which rounds their sum.
    ///
    /// # Errors
    /// [`RankingError::Sum`] or [`RankingError::Overflow`] if a sum does not fit; the board is then as it was.
    pub fn merge(&mut self, other: &Self, weight: Score, scale: super::Scale) -> Result<(), RankingError> {
        let whole = Score(scale.one());
        let merged = Self::merged(self.ties(), scale, [(&*self, whole), (other, weight)])?;
        *self = merged;
        Ok(())
    }

    /// A board with the items of all `boards`, each with the sum of its scores times the board's weight; weights are in units of `scale`.
    ///
    /// # Rounding
    /// The sum once, to the nearest unit; the order of the boards makes no difference.
    ///
    /// # Errors
    /// [`RankingError::Overflow`] if a sum does not fit.
    pub fn merged<'a>(
        ties: Ties,
        scale: super::Scale,
        boards: impl IntoIterator<Item = (&'a Self, Score)>,
    ) -> Result<Self, RankingError>
    where
        K: 'a,
    {
        let mut sums: std::collections::HashMap<&K, i128, RandomState> = std::collections::HashMap::default();
        for (board, weight) in boards {
            for item in &board.items {
                let sum = sums.entry(&item.key).or_default();
                let product = i128::from(item.score) * i128::from(weight.0);
                *sum = sum.checked_add(product).ok_or_else(|| too_large("the sum of weighted scores", scale))?;
            }
        }
        let rounded = sums.into_iter().map(|(key, sum)| {
            let score = i64::try_from(divided(sum, scale.one().into()));
            Ok((key.clone(), Score(score.map_err(|_| too_large("the sum of weighted scores", scale))?)))
        });
        Self::of(ties, rounded.collect::<Result<Vec<_>, RankingError>>()?)
    }

    /// The bytes it has taken from the heap, without what its items have taken.
    pub fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<Item<K>>() + self.slots.allocation_size() + self.order.bytes()
    }

    #[inline]
    fn slot(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.slots.find(hash, |slot| self.items[*slot as usize].key == *key).copied()
    }

    /// Lists a new item, in no block yet.
    fn enlist(&mut self, key: K, score: i64) -> Result<u32, RankingError> {
        let slot = u32::try_from(self.items.len()).ok().filter(|slot| *slot < u32::MAX);
        let slot = slot.ok_or(RankingError::Full { items: self.items.len() })?;
        let (items, hasher) = (&self.items, &self.hasher);
        self.slots.insert_unique(hasher.hash_one(&key), slot, |slot| hasher.hash_one(&items[*slot as usize].key));
        self.items.push(Item { key, score, block: 0, place: 0 });
        Ok(slot)
    }

    fn put_new(&mut self, key: K, score: i64) -> Result<(), RankingError> {
        let slot = self.enlist(key, score)?;
        self.put_in(slot);
        Ok(())
    }

    #[inline]
    fn change(&mut self, slot: u32, score: i64) {
        let item = &mut self.items[slot as usize];
        let block = self.order.block(item.block);
        if block.holds(score, &item.key, self.order.ties) {
            let was = std::mem::replace(&mut item.score, score);
            if block.is_first() {
                self.resettle(slot, score > was);
            }
        } else {
            self.take_out(slot);
            self.items[slot as usize].score = score;
            self.put_in(slot);
        }
    }

    /// How two items stand.
    #[inline]
    fn compare(&self, left: u32, right: u32) -> Ordering {
        let (left, right) = (&self.items[left as usize], &self.items[right as usize]);
        right.score.cmp(&left.score).then_with(|| self.order.ties.compare(&left.key, &right.key))
    }

    /// How two items stand whose scores are at hand.
    #[inline]
    fn compare_scored(&self, left: &(i64, u32), right: &(i64, u32)) -> Ordering {
        let key = |slot: u32| &self.items[slot as usize].key;
        right.0.cmp(&left.0).then_with(|| self.order.ties.compare(key(left.1), key(right.1)))
    }

    /// Moves an item of the first block to where it belongs in it.
    fn resettle(&mut self, slot: u32, up: bool) {
        let first = self.order.first();
        let mut slots = std::mem::take(&mut self.order.block_mut(first).slots);
        let mut place = self.items[slot as usize].place as usize;
        loop {
            let neighbour = if up { place.checked_sub(1) } else { Some(place + 1).filter(|next| *next < slots.len()) };
            let Some(neighbour) = neighbour else { break };
            let wrong = if up { Ordering::Less } else { Ordering::Greater };
            if self.compare(slot, slots[neighbour]) != wrong {
                break;
            }
            slots[place] = slots[neighbour];
            self.items[slots[place] as usize].place = index(place);
            place = neighbour;
        }
        slots[place] = slot;
        self.items[slot as usize].place = index(place);
        self.order.block_mut(first).slots = slots;
    }

    /// Puts a listed item into the block where it belongs.
    fn put_in(&mut self, slot: u32) {
        let item = &self.items[slot as usize];
        let at = self.order.find(item.score, &item.key);
        let id = self.order.id(at);
        let is_first = id == self.order.first();
        let slots = &mut self.order.block_mut(id).slots;
        slots.push(slot);
        let place = slots.len() - 1;
        let item = &mut self.items[slot as usize];
        (item.block, item.place) = (id, index(place));
        self.order.one_more(id);
        if is_first {
            self.resettle(slot, true);
            if place >= FIRST {
                self.cut_first(at);
            }
        } else if place >= BLOCK {
            self.cut(at);
        }
    }

    /// Takes an item out of its block; its slot stays.
    fn take_out(&mut self, slot: u32) {
        let Item { block: id, place, .. } = self.items[slot as usize];
        let is_first = id == self.order.first();
        let slots = &mut self.order.block_mut(id).slots;
        if is_first {
            slots.remove(place as usize);
        } else {
            slots.swap_remove(place as usize);
        }
        let behind = if is_first { slots.len() } else { slots.len().min(place as usize + 1) };
        for (offset, moved) in slots[(place as usize).min(behind)..behind].iter().enumerate() {
            self.items[*moved as usize].place = place + index(offset);
        }
        let left = slots.len();
        self.order.one_less(id);
        if is_first {
            if left < FIRST_LEAST {
                self.refill_first();
            }
        } else if left < SPARSE {
            self.join(id);
        }
    }

    fn edge_of(&self, slot: u32) -> Edge<K> {
        let item = &self.items[slot as usize];
        Edge { score: item.score, key: Some(item.key.clone()) }
    }

    /// Says where the items of a block are, from a place on.
    fn place_from(&mut self, id: u32, from: usize) {
        let slots = &self.order.block(id).slots;
        for (place, slot) in slots.iter().enumerate().skip(from) {
            let item = &mut self.items[*slot as usize];
            (item.block, item.place) = (id, index(place));
        }
    }

    /// Cuts a block in two at its middle item.
    fn cut(&mut self, at: At) {
        let id = self.order.id(at);
        let slots = std::mem::take(&mut self.order.block_mut(id).slots);
        let middle = slots.len() / 2;
        // Read side by side first, as they lie far from each other.
        let mut scored: Vec<(i64, u32)> = slots.iter().map(|slot| (self.items[*slot as usize].score, *slot)).collect();
        scored.select_nth_unstable_by(middle, |left, right| self.compare_scored(left, right));
        self.cut_off(at, scored.into_iter().map(|(_, slot)| slot).collect(), middle);
    }

    /// Keeps the best of the first block; the others are one of their own.
    fn cut_first(&mut self, at: At) {
        let id = self.order.id(at);
        let slots = std::mem::take(&mut self.order.block_mut(id).slots);
        self.cut_off(at, slots, FIRST_KEPT);
    }

    /// Gives the block at `at` the slots before `middle`, and a new one behind it the others.
    fn cut_off(&mut self, at: At, mut slots: Vec<u32>, middle: usize) {
        let id = self.order.id(at);
        let edge = self.edge_of(slots[middle]);
        let behind = slots.split_off(middle);
        self.order.block_mut(id).slots = slots;
        // The group that listed the block counts all of them until they are in the new one.
        let counted = self.order.block(id).group;
        let new = self.order.cut(at, edge);
        self.order.moved(counted, self.order.block(new).group, behind.len());
        self.order.block_mut(new).slots = behind;
        self.place_from(id, 0);
        self.place_from(new, 0);
    }

    /// Gives the first block the best of the next.
    fn refill_first(&mut self) {
        let at = self.order.first_at();
        let Some(next_at) = self.order.next(at) else { return };
        let (first, next) = (self.order.id(at), self.order.id(next_at));
        let had = self.order.block(first).slots.len();
        let mut best = std::mem::take(&mut self.order.block_mut(next).slots);
        let wanted = FIRST_KEPT - had;
        let rest = if best.len() > wanted + SPARSE {
            best.select_nth_unstable_by(wanted, |left, right| self.compare(*left, *right));
            best.split_off(wanted)
        } else {
            Vec::new()
        };
        best.sort_unstable_by(|left, right| self.compare(*left, *right));
        self.order.moved(self.order.block(next).group, self.order.block(first).group, best.len());
        self.order.block_mut(first).slots.extend(best);
        self.place_from(first, had);
        match rest.first() {
            Some(edge) => {
                let edge = self.edge_of(*edge);
                self.order.block_mut(next).slots = rest;
                self.order.move_edge(at, next_at, edge);
                self.place_from(next, 0);
            }
            None => self.order.drop_block(next_at),
        }
    }

    /// Joins a sparse block, which is not the first, with a neighbour that has room; if none has, it stays as it is.
    fn join(&mut self, id: u32) {
        let at = self.order.at(id);
        let few = self.order.block(id).slots.len();
        let room = |other: u32| self.order.block(other).slots.len() + few <= BLOCK / 2;
        if let Some(previous) = self.order.previous(at).map(|at| self.order.id(at))
            && ((previous != self.order.first() && room(previous)) || few == 0)
        {
            self.append(id, previous);
            self.order.drop_block(at);
        } else if let Some(next_at) = self.order.next(at)
            && room(self.order.id(next_at))
        {
            let next = self.order.id(next_at);
            self.append(next, id);
            self.order.drop_block(next_at);
        }
    }

    fn append(&mut self, from: u32, to: u32) {
        let moved = std::mem::take(&mut self.order.block_mut(from).slots);
        self.order.moved(self.order.block(from).group, self.order.block(to).group, moved.len());
        let had = self.order.block(to).slots.len();
        self.order.block_mut(to).slots.extend(moved);
        self.place_from(to, had);
    }

    /// Puts all listed items in order anew.
    fn arrange(&mut self) {
        let ties = self.order.ties;
        self.order = Order::new(ties);
        let mut slots: Vec<u32> = (0..index(self.items.len())).collect();
        slots.sort_unstable_by(|left, right| self.compare(*left, *right));
        let first = self.order.first();
        let mut rest = slots.split_off(slots.len().min(FIRST_KEPT));
        self.fill(first, slots);
        while !rest.is_empty() {
            let behind = rest.split_off(rest.len().min(BLOCK / 4 * 3));
            let edge = self.edge_of(rest[0]);
            let new = self.order.cut(self.order.last_at(), edge);
            self.fill(new, rest);
            rest = behind;
        }
    }

    fn fill(&mut self, id: u32, slots: Vec<u32>) {
        for _ in &slots {
            self.order.one_more(id);
        }
        self.order.block_mut(id).slots = slots;
        self.place_from(id, 0);
    }
}

fn too_large(what: &str, scale: super::Scale) -> RankingError {
    RankingError::Overflow { what: what.to_owned(), decimals: scale.places() }
}

impl<K: Ord + Hash + Clone + std::fmt::Debug> std::fmt::Debug for Board<K> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Board").field("items", &self.len()).field("top", &self.top(3)).finish()
    }
}
