//! The order of a board: blocks of items between two edges, in groups.
//!
//! A block holds the items between its head, which belongs to it, and its tail, which begins the next one.
//! Only the first block is sorted; the others are sorted by whoever reads them.
//! So an item whose score changes within its block costs a comparison, and one that leaves it a push and a swap.
//! A block that grows too long is split at its middle item: by score, and where many are tied, by item.
//! A group lists up to [`GROUP`] blocks and knows how many items they hold, so that a rank is a sum over groups and over one group's blocks.

use std::cmp::Ordering;

/// How many items a block holds at most, but for the first.
pub(super) const BLOCK: usize = 512;

/// How few items a block may hold before it looks for a neighbour to join.
pub(super) const SPARSE: usize = 48;

/// How many items the first block holds at most, how many it keeps when it is cut, and how few it may hold before it takes some
/// of the next.
pub(super) const FIRST: usize = 256;
pub(super) const FIRST_KEPT: usize = 160;
pub(super) const FIRST_LEAST: usize = 112;

/// How many blocks a group lists at most.
const GROUP: usize = 256;

/// Which of two items with the same score comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ties {
    /// The lower one, as items compare.
    #[default]
    LowerFirst,
    /// The higher one, as in the best-first lists of Redis.
    HigherFirst,
}

impl Ties {
    #[inline]
    pub(super) fn compare<K: Ord>(self, left: &K, right: &K) -> Ordering {
        match self {
            Ties::LowerFirst => left.cmp(right),
            Ties::HigherFirst => right.cmp(left),
        }
    }
}

/// A place in the order that an item can be before or not; without a key it is an end of the order.
#[derive(Debug, Clone)]
pub(super) struct Edge<K> {
    pub(super) score: i64,
    pub(super) key: Option<K>,
}

/// A run of the order.
#[derive(Debug, Clone)]
pub(super) struct Block<K> {
    /// The best that can be in it.
    pub(super) head: Edge<K>,
    /// The best that is behind it.
    pub(super) tail: Edge<K>,
    /// The group that lists it.
    pub(super) group: u32,
    /// Its items, by their slot.
    pub(super) slots: Vec<u32>,
}

impl<K: Ord> Block<K> {
    /// Whether an item of `score` and `key` belongs here.
    #[inline]
    pub(super) fn holds(&self, score: i64, key: &K, ties: Ties) -> bool {
        self.is_within(score) || self.holds_at_its_edges(score, key, ties)
    }

    /// Whether any item of `score` belongs here, whichever it is.
    #[inline]
    pub(super) fn is_within(&self, score: i64) -> bool {
        self.tail.score < score && score < self.head.score
    }

    /// Whether no block is before it.
    #[inline]
    pub(super) fn is_first(&self) -> bool {
        self.head.key.is_none()
    }

    fn holds_at_its_edges(&self, score: i64, key: &K, ties: Ties) -> bool {
        !self.head.is_behind(score, key, ties) && self.is_before_tail(score, key, ties)
    }

    fn is_before_tail(&self, score: i64, key: &K, ties: Ties) -> bool {
        self.tail.key.is_none() || self.tail.is_behind(score, key, ties)
    }
}

impl<K: Ord> Edge<K> {
    /// Whether an item of `score` and `key` comes before this edge. The begin of the order is behind nothing.
    #[inline]
    fn is_behind(&self, score: i64, key: &K, ties: Ties) -> bool {
        match score.cmp(&self.score) {
            Ordering::Greater => self.key.is_some(),
            Ordering::Equal => self.key.as_ref().is_some_and(|edge| ties.compare(key, edge) == Ordering::Less),
            Ordering::Less => false,
        }
    }
}

/// Blocks that follow each other.
#[derive(Debug, Clone)]
struct Group<K> {
    /// How many items its blocks hold.
    items: usize,
    blocks: Vec<u32>,
    /// The head of each of them, side by side, as they are searched.
    heads: Vec<Edge<K>>,
}

/// All blocks, in order. There is always one.
#[derive(Debug, Clone)]
pub(super) struct Order<K> {
    pub(super) ties: Ties,
    blocks: Vec<Block<K>>,
    free_blocks: Vec<u32>,
    groups: Vec<Group<K>>,
    free_groups: Vec<u32>,
    /// The groups, in order.
    order: Vec<u32>,
}

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    group: usize,
    block: usize,
}

impl<K: Ord + Clone> Order<K> {
    pub(super) fn new(ties: Ties) -> Self {
        let begin = Edge { score: i64::MAX, key: None };
        let whole =
            Block { head: begin.clone(), tail: Edge { score: i64::MIN, key: None }, group: 0, slots: Vec::new() };
        Self {
            ties,
            blocks: vec![whole],
            free_blocks: Vec::new(),
            groups: vec![Group { items: 0, blocks: vec![0], heads: vec![begin] }],
            free_groups: Vec::new(),
            order: vec![0],
        }
    }

    #[inline]
    pub(super) fn block(&self, id: u32) -> &Block<K> {
        &self.blocks[id as usize]
    }

    #[inline]
    pub(super) fn block_mut(&mut self, id: u32) -> &mut Block<K> {
        &mut self.blocks[id as usize]
    }

    /// Says that a block holds one item more.
    #[inline]
    pub(super) fn one_more(&mut self, id: u32) {
        let group = self.blocks[id as usize].group;
        self.groups[group as usize].items += 1;
    }

    /// Says that a block holds one item less.
    #[inline]
    pub(super) fn one_less(&mut self, id: u32) {
        let group = self.blocks[id as usize].group;
        self.groups[group as usize].items -= 1;
    }

    /// The first block.
    #[inline]
    pub(super) fn first(&self) -> u32 {
        self.groups[self.order[0] as usize].blocks[0]
    }

    pub(super) fn first_at(&self) -> At {
        At { group: 0, block: 0 }
    }

    pub(super) fn last_at(&self) -> At {
        let group = self.order.len() - 1;
        At { group, block: self.groups[self.order[group] as usize].blocks.len() - 1 }
    }

    pub(super) fn id(&self, at: At) -> u32 {
        self.groups[self.order[at.group] as usize].blocks[at.block]
    }

    /// Where an item of `score` and `key` belongs.
    pub(super) fn find(&self, score: i64, key: &K) -> At {
        let ties = self.ties;
        self.find_last(|head| !head.is_behind(score, key, ties))
    }

    /// The last block with an item above `score`, or at it where `with`; else the first.
    pub(super) fn find_above(&self, score: i64, with: bool) -> At {
        self.find_last(|head| head.key.is_none() || head.score > score || (with && head.score == score))
    }

    /// The last block whose head fits. The first fits always.
    fn find_last(&self, fits: impl Fn(&Edge<K>) -> bool) -> At {
        let group = self.order.partition_point(|group| fits(&self.groups[*group as usize].heads[0])).saturating_sub(1);
        let heads = &self.groups[self.order[group] as usize].heads;
        At { group, block: heads.partition_point(fits).saturating_sub(1) }
    }

    /// Where the block stands.
    pub(super) fn at(&self, id: u32) -> At {
        let group = self.block(id).group;
        let blocks = &self.groups[group as usize].blocks;
        At {
            group: self.order.iter().position(|one| *one == group).unwrap_or_default(),
            block: blocks.iter().position(|one| *one == id).unwrap_or_default(),
        }
    }

    /// How many items stand before the block.
    pub(super) fn before(&self, at: At) -> usize {
        let groups: usize = self.order[..at.group].iter().map(|group| self.groups[*group as usize].items).sum();
        let blocks = &self.groups[self.order[at.group] as usize].blocks[..at.block];
        groups + blocks.iter().map(|id| self.block(*id).slots.len()).sum::<usize>()
    }

    /// The block with the item at `place` of the order, and how many stand before that block; the last one if there are fewer.
    pub(super) fn with(&self, place: usize) -> (At, usize) {
        let mut before = 0;
        let mut group = 0;
        while group + 1 < self.order.len() {
            let items = self.groups[self.order[group] as usize].items;
            if place < before + items {
                break;
            }
            before += items;
            group += 1;
        }
        let blocks = &self.groups[self.order[group] as usize].blocks;
        let mut block = 0;
        while block + 1 < blocks.len() {
            let items = self.block(blocks[block]).slots.len();
            if place < before + items {
                break;
            }
            before += items;
            block += 1;
        }
        (At { group, block }, before)
    }

    pub(super) fn next(&self, at: At) -> Option<At> {
        if at.block + 1 < self.groups[self.order[at.group] as usize].blocks.len() {
            return Some(At { block: at.block + 1, ..at });
        }
        (at.group + 1 < self.order.len()).then_some(At { group: at.group + 1, block: 0 })
    }

    pub(super) fn previous(&self, at: At) -> Option<At> {
        if at.block > 0 {
            return Some(At { block: at.block - 1, ..at });
        }
        let group = at.group.checked_sub(1)?;
        Some(At { group, block: self.groups[self.order[group] as usize].blocks.len() - 1 })
    }

    /// Cuts the block at `edge` and makes a new one of what is behind it, without items.
    pub(super) fn cut(&mut self, at: At, edge: Edge<K>) -> u32 {
        let id = self.id(at);
        let group = self.blocks[id as usize].group;
        let tail = std::mem::replace(&mut self.blocks[id as usize].tail, edge.clone());
        let new = Block { head: edge.clone(), tail, group, slots: Vec::new() };
        let new_id = match self.free_blocks.pop() {
            Some(free) => {
                self.blocks[free as usize] = new;
                free
            }
            None => {
                self.blocks.push(new);
                index(self.blocks.len() - 1)
            }
        };
        let listed = &mut self.groups[group as usize];
        listed.blocks.insert(at.block + 1, new_id);
        listed.heads.insert(at.block + 1, edge);
        if listed.blocks.len() > GROUP {
            self.cut_group(at.group);
        }
        new_id
    }

    fn cut_group(&mut self, place: usize) {
        let group = self.order[place] as usize;
        let blocks = self.groups[group].blocks.split_off(GROUP / 2);
        let heads = self.groups[group].heads.split_off(GROUP / 2);
        let items = blocks.iter().map(|id| self.block(*id).slots.len()).sum();
        self.groups[group].items -= items;
        let id = self.free_groups.pop().unwrap_or(index(self.groups.len()));
        for block in &blocks {
            self.blocks[*block as usize].group = id;
        }
        let new = Group { items, blocks, heads };
        match self.groups.get_mut(id as usize) {
            Some(free) => *free = new,
            None => self.groups.push(new),
        }
        self.order.insert(place + 1, id);
    }

    /// Moves the edge between a block and the next to `edge`.
    pub(super) fn move_edge(&mut self, at: At, next: At, edge: Edge<K>) {
        let id = self.id(at);
        self.block_mut(id).tail = edge.clone();
        let group = self.order[next.group] as usize;
        self.groups[group].heads[next.block] = edge.clone();
        let next = self.id(next);
        self.block_mut(next).head = edge;
    }

    /// Says that so many items were moved from the blocks of one group to those of another.
    pub(super) fn moved(&mut self, from: u32, to: u32, items: usize) {
        self.groups[from as usize].items -= items;
        self.groups[to as usize].items += items;
    }

    /// Takes an empty block out; the one before it reaches to its tail. It must not be the first.
    pub(super) fn drop_block(&mut self, at: At) {
        let Some(previous) = self.previous(at) else { return };
        let (id, previous) = (self.id(at), self.id(previous));
        self.blocks[previous as usize].tail = self.blocks[id as usize].tail.clone();
        self.blocks[id as usize].slots = Vec::new();
        self.free_blocks.push(id);
        let group = self.order[at.group];
        self.groups[group as usize].blocks.remove(at.block);
        self.groups[group as usize].heads.remove(at.block);
        if self.groups[group as usize].blocks.is_empty() {
            self.order.remove(at.group);
            self.free_groups.push(group);
        }
    }

    /// All blocks, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.order.iter().flat_map(|group| self.groups[*group as usize].blocks.iter().copied())
    }

    /// The bytes it has taken from the heap, as far as it can know.
    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.blocks.iter().map(|block| block.slots.capacity() * size_of::<u32>()).sum();
        let listed = |group: &Group<K>| {
            group.blocks.capacity() * size_of::<u32>() + group.heads.capacity() * size_of::<Edge<K>>()
        };
        let groups: usize = self.groups.iter().map(listed).sum();
        slots
            + groups
            + self.blocks.capacity() * size_of::<Block<K>>()
            + self.groups.capacity() * size_of::<Group<K>>()
            + (self.free_blocks.capacity() + self.order.capacity()) * size_of::<u32>()
    }

    /// Whether everything is as it must be, for tests: edges meet, groups know their blocks and how many items they hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let ids: Vec<u32> = self.ids().collect();
        assert!(self.block(ids[0]).head.key.is_none());
        assert!(self.block(ids[ids.len() - 1]).tail.key.is_none());
        for pair in ids.windows(2) {
            let (tail, head) = (&self.block(pair[0]).tail, &self.block(pair[1]).head);
            assert!(tail.score == head.score && tail.key == head.key && head.key.is_some());
        }
        for (place, group) in self.order.iter().enumerate() {
            let listed = &self.groups[*group as usize];
            assert!(!listed.blocks.is_empty() && listed.blocks.len() <= GROUP);
            assert_eq!(listed.items, listed.blocks.iter().map(|id| self.block(*id).slots.len()).sum::<usize>());
            for (block, id) in listed.blocks.iter().enumerate() {
                assert_eq!(self.block(*id).group, *group);
                let (head, copy) = (&self.block(*id).head, &listed.heads[block]);
                assert!(head.score == copy.score && head.key == copy.key && listed.heads.len() == listed.blocks.len());
                assert_eq!(self.at(*id), At { group: place, block });
            }
        }
    }
}

/// An index of a list that is bounded by the number of items, which is checked when one comes.
pub(super) fn index(place: usize) -> u32 {
    place as u32
}
