//! What a unit of work read, and as of which version.

use std::collections::BTreeMap;
use std::ops::Range;

/// Counts the commits that wrote rows; what is read at version `v` sees at least the first `v` of them.
pub(super) type Version = u64;

/// Points and ranges that were read, each with the version loaded before the read.
#[derive(Debug, Default)]
pub(super) struct ReadSet {
    points: BTreeMap<Vec<u8>, Version>,
    ranges: Vec<(Range<Vec<u8>>, Version)>,
    /// The lowest and the highest version of all.
    span: Option<(Version, Version)>,
}

impl ReadSet {
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
