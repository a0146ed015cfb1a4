//! What a unit of work read, and as of which version; and since when all those that are open read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts the commits that wrote rows; what is read at version `v` sees at least the first `v` of them.
pub(super) type Version = u64;

/// The versions at which the open read sets begin.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<BTreeMap<Version, usize>>);

impl Readers {
    /// The version at which the oldest of them begins.
    pub(super) fn oldest(&self) -> Option<Version> {
        self.0.lock().first_key_value().map(|(version, _)| *version)
    }
}

/// One open read set among the [`Readers`], as long as it lives.
#[derive(Debug)]
struct Reading {
    readers: Arc<Readers>,
    since: Version,
}

impl Reading {
    /// Whoever asks for the oldest either sees this one, or asked before `current` was loaded.
    fn begin(readers: &Arc<Readers>, current: impl FnOnce() -> Version) -> Self {
        let mut versions = readers.0.lock();
        let since = current();
        *versions.entry(since).or_default() += 1;
        Self { readers: readers.clone(), since }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut versions = self.readers.0.lock();
        if let Some(count) = versions.get_mut(&self.since) {
            *count -= 1;
            if *count == 0 {
                versions.remove(&self.since);
            }
        }
    }
}

/// Points and ranges that were read, each with the version loaded before the read.
#[derive(Debug, Default)]
pub(super) struct ReadSet {
    reading: Option<Reading>,
    points: BTreeMap<Vec<u8>, Version>,
    ranges: Vec<(Range<Vec<u8>>, Version)>,
    /// The lowest and the highest version of all.
    span: Option<(Version, Version)>,
}

impl ReadSet {
    /// The version to note for what is read next; from the first on, what is written since is remembered.
    pub(super) fn version(&mut self, readers: &Arc<Readers>, current: impl FnOnce() -> Version) -> Version {
        match &self.reading {
            Some(_) => current(),
            None => self.reading.insert(Reading::begin(readers, current)).since,
        }
    }

    /// Notes that `key` was read. The first read of a key counts: a later one must still see the same.
    pub(super) fn point(&mut self, key: &[u8], version: Version) {
        if let Some(first) = self.points.get_mut(key) {
            *first = version.min(*first);
        } else {
            self.points.insert(key.to_vec(), version);
        }
        self.widen(version);
    }

    /// Notes that all of `range` was read.
    pub(super) fn range(&mut self, range: Range<Vec<u8>>, version: Version) {
        if range.start >= range.end {
            return;
        }
        let covered = |(old, first): &(Range<Vec<u8>>, Version)| {
            *first <= version && old.start <= range.start && old.end >= range.end
        };
        if !self.ranges.last().is_some_and(covered) {
            self.ranges.push((range, version));
        }
        self.widen(version);
    }

    fn widen(&mut self, version: Version) {
        let (low, high) = self.span.unwrap_or((version, version));
        self.span = Some((low.min(version), high.max(version)));
    }

    pub(super) fn points(&self) -> impl Iterator<Item = (&[u8], Version)> {
        self.points.iter().map(|(key, version)| (&key[..], *version))
    }

    pub(super) fn ranges(&self) -> &[(Range<Vec<u8>>, Version)] {
        &self.ranges
    }

    /// The lowest and the highest version anything was read at.
    pub(super) fn span(&self) -> Option<(Version, Version)> {
        self.span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reader_is_the_one_that_began_first_and_is_still_open() {
        let readers = Arc::new(Readers::default());
        assert_eq!(readers.oldest(), None);
        let begin = |version| {
            let mut reads = ReadSet::default();
            assert_eq!(reads.version(&readers, || version), version);
            assert_eq!(reads.version(&readers, || version + 10), version + 10, "a later read notes its own version");
            reads
        };
        let (old, same, young) = (begin(3), begin(3), begin(5));
        assert_eq!(readers.oldest(), Some(3));
        drop(old);
        assert_eq!(readers.oldest(), Some(3));
        drop(same);
        assert_eq!(readers.oldest(), Some(5));
        drop(young);
        assert_eq!(readers.oldest(), None);
    }
}
