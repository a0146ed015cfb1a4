//! The keys that the latest commits wrote, against which reads are validated.
//!
//! They are remembered as long as a unit is open that began to read before them, but only so many: a unit that read before the
//! oldest of them conflicts, because nobody can tell any more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::read_set::{ReadSet, Version};

/// Why reads no longer stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// This key was written since it was read.
    Written(Vec<u8>),
    /// The reads are older than what is remembered.
    TooOld,
}

/// The write sets of the latest commits.
#[derive(Debug)]
pub(super) struct Recent {
    /// The version that last wrote each remembered key.
    last: BTreeMap<Arc<[u8]>, Version>,
    /// The write sets by ascending version.
    sets: VecDeque<(Version, Vec<Arc<[u8]>>)>,
    weight: usize,
    max_weight: usize,
    /// The highest version whose write set was forgotten.
    forgotten: Version,
}

/// What one remembered key costs beside its bytes.
const PER_KEY: usize = 96;

impl Recent {
    /// Remembers write sets of about `max_weight` bytes.
    pub(super) fn new(max_weight: usize) -> Self {
        Self { last: BTreeMap::new(), sets: VecDeque::new(), weight: 0, max_weight, forgotten: 0 }
    }

    /// Remembers that `version`, higher than all before, wrote `keys`.
    pub(super) fn record<'a>(&mut self, version: Version, keys: impl Iterator<Item = &'a [u8]>) {
        let mut set = Vec::new();
        for key in keys {
            let key: Arc<[u8]> = Arc::from(key);
            self.weight += PER_KEY + key.len();
            self.last.insert(key.clone(), version);
            set.push(key);
        }
        self.sets.push_back((version, set));
        while self.weight > self.max_weight {
            self.forget_first();
        }
    }

    /// Forgets what the commits up to `version` wrote, because whatever is read was read at it or later.
    pub(super) fn forget(&mut self, version: Version) {
        while self.sets.front().is_some_and(|(written, _)| *written <= version) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((version, set)) = self.sets.pop_front() else { return };
        self.forgotten = version;
        for key in set {
            self.weight -= PER_KEY + key.len();
            if self.last.get(&key) == Some(&version) {
                self.last.remove(&key);
            }
        }
    }

    /// Whether everything read still stands.
    pub(super) fn check(&self, reads: &ReadSet) -> Result<(), Conflict> {
        match reads.span() {
            None => return Ok(()),
            Some((oldest, _)) if oldest < self.forgotten => return Err(Conflict::TooOld),
            Some(_) => {}
        }
        for (key, version) in reads.points() {
            if self.last.get(key).is_some_and(|last| *last > version) {
                return Err(Conflict::Written(key.to_vec()));
            }
        }
        for (range, version) in reads.ranges() {
            let since = self.sets.partition_point(|(written, _)| written <= version);
            let writes: usize = self.sets.range(since..).map(|(_, set)| set.len()).sum();
            // Few commits since: look at what they wrote. Many: look at what was written in the range.
            let hit = if writes < self.last.len() / 4 {
                let inside = |key: &&Arc<[u8]>| ***key >= range.start[..] && ***key < range.end[..];
                self.sets.range(since..).flat_map(|(_, set)| set).find(inside)
            } else {
                let bounds = (Bound::Included(&range.start[..]), Bound::Excluded(&range.end[..]));
                self.last.range::<[u8], _>(bounds).find(|(_, last)| *last > version).map(|(key, _)| key)
            };
            if let Some(key) = hit {
                return Err(Conflict::Written(key.to_vec()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_forgotten_for_a_reason_is_no_conflict_for_who_read_later() {
        let mut recent = Recent::new(1 << 20);
        for version in 1..=4 {
            recent.record(version, std::iter::once(&[version as u8][..]));
        }
        recent.forget(2);
        let reading = |version: Version, key: u8| {
            let mut reads = ReadSet::default();
            reads.point(&[key], version);
            reads
        };
        assert_eq!(recent.check(&reading(1, 9)), Err(Conflict::TooOld), "nobody was open that read so early");
        assert_eq!(recent.check(&reading(2, 2)), Ok(()));
        assert_eq!(recent.check(&reading(2, 3)), Err(Conflict::Written(vec![3])));
        assert_eq!(recent.weight, 2 * (PER_KEY + 1));
    }

    proptest! {
        #[test]
        fn a_conflict_is_found_exactly_when_something_read_was_written_later(
            writes in prop::collection::vec(prop::collection::vec(0..30u8, 1..4), 1..30),
            points in prop::collection::vec((0..30u8, 0..30u64), 0..3),
            ranges in prop::collection::vec((0..30u8, 0..6u8, 0..30u64), 0..3),
            small in any::<bool>(),
        ) {
            let mut recent = Recent::new(if small { 1_000 } else { 1 << 20 });
            for (at, keys) in writes.iter().enumerate() {
                let keys: Vec<[u8; 1]> = keys.iter().map(|key| [*key]).collect();
                recent.record(at as u64 + 1, keys.iter().map(|key| &key[..]));
            }
            let mut reads = ReadSet::default();
            let written_since = |key: u8, version: u64| {
                writes.iter().enumerate().any(|(at, keys)| at as u64 + 1 > version && keys.contains(&key))
            };
            let mut expected = false;
            let mut firsts = BTreeMap::new();
            for (key, version) in points {
                let first = *firsts.entry(key).and_modify(|first: &mut u64| *first = version.min(*first)).or_insert(version);
                reads.point(&[key], version);
                expected |= written_since(key, first);
            }
            for (start, len, version) in ranges {
                reads.range(vec![start]..vec![start + len], version);
                expected |= (start..start + len).any(|key| written_since(key, version));
            }
            match recent.check(&reads) {
                Ok(()) => prop_assert!(!expected),
                Err(Conflict::Written(_)) => prop_assert!(expected),
                Err(Conflict::TooOld) => prop_assert!(small),
            }
        }
    }
}
