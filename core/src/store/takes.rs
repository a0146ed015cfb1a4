//! Which events a durable listener takes, by the names they are stored under, and which it took before.
//!
//! Kept with its cursor, so that a name that is forgotten in a new program takes nothing from the listener that it is still owed:
//! what was stored under it is met, cannot be decoded, and parks.

use super::Position;
use super::cursor::{damaged, put_varint, take_varint};
use crate::error::StoreError;

/// The names under which a durable listener's events are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Takes {
    names: Vec<String>,
    /// Names it took before, each with the position up to which events of that name are owed.
    before: Vec<(String, Position)>,
}

impl Takes {
    /// The names it takes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The names it took before, each with the first position at which an event of that name is not owed any more.
    pub fn before(&self) -> &[(String, Position)] {
        &self.before
    }

    /// Whether it took `name` when the event at `position` was published, and does not any more.
    pub fn took(&self, name: &str, position: Position) -> bool {
        self.before.iter().any(|(before, end)| before == name && position < *end)
    }

    /// From `end` on it takes `names`. What it took and does not any more is owed up to there; what it has settled, all below `low`,
    /// is past.
    #[must_use]
    pub fn changed_to<'a>(&self, names: impl IntoIterator<Item = &'a str>, low: Position, end: Position) -> Self {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let gone = self.names.iter().map(|name| (name.clone(), end));
        let mut before: Vec<(String, Position)> = self.before.iter().cloned().chain(gone).collect();
        before.retain(|(name, end)| !names.contains(name) && low < *end);
        // Of a name that went twice the later time counts.
        before.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
        before.dedup_by(|later, first| later.0 == first.0);
        Self { names, before }
    }

    /// What either of them takes and took.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        joined.names.extend(other.names.iter().filter(|name| !self.names.contains(name)).cloned());
        joined.before.extend(other.before.iter().cloned());
        joined
    }

    /// As it is, without what it took before: for a listener that begins anew.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { names: self.names.clone(), before: Vec::new() }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.names.len() as u64);
        self.names.iter().for_each(|name| put_text(out, name));
        put_varint(out, self.before.len() as u64);
        for (name, end) in &self.before {
            put_text(out, name);
            put_varint(out, end.0);
        }
    }

    pub(super) fn decode(bytes: &mut &[u8]) -> Result<Self, StoreError> {
        let mut takes = Self::default();
        for _ in 0..take_varint(bytes)? {
            takes.names.push(take_text(bytes)?);
        }
        for _ in 0..take_varint(bytes)? {
            let name = take_text(bytes)?;
            takes.before.push((name, Position(take_varint(bytes)?)));
        }
        Ok(takes)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text(bytes: &mut &[u8]) -> Result<String, StoreError> {
    let len = usize::try_from(take_varint(bytes)?).map_err(|_| damaged())?;
    let (text, rest) = bytes.split_at_checked(len).ok_or_else(damaged)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_goes_is_owed_up_to_there_until_it_is_settled_or_comes_back() {
        let first = Takes::default().changed_to(["a", "b"], Position(1), Position(1));
        assert_eq!(first.before(), [], "nothing was taken before");
        let second = first.changed_to(["b", "c"], Position(3), Position(9));
        assert_eq!(second.names(), ["b", "c"]);
        assert!(second.took("a", Position(8)) && !second.took("a", Position(9)) && !second.took("b", Position(8)));
        assert_eq!(second.changed_to(["b", "c"], Position(3), Position(20)), second, "said again it is the same");
        let back = second.changed_to(["a"], Position(3), Position(20));
        assert_eq!(back.before(), [("b".to_owned(), Position(20)), ("c".to_owned(), Position(20))]);
        let gone_again = back.changed_to(["b"], Position(3), Position(30)).changed_to(["d"], Position(3), Position(40));
        assert!(
            gone_again.took("b", Position(39))
                && gone_again.took("a", Position(29))
                && !gone_again.took("a", Position(30))
        );
        assert_eq!(second.changed_to(["b", "c"], Position(9), Position(20)).before(), [], "all of it is settled");
        assert_eq!(second.anew().before(), []);
    }

    #[test]
    fn it_reads_back_as_written_and_every_cut_is_named() {
        let takes = Takes::default().changed_to(["shop.paid", "\u{e4}"], Position(0), Position(1));
        let takes = takes.changed_to(["shop.sent"], Position(0), Position(1_000));
        let mut bytes = Vec::new();
        takes.encode(&mut bytes);
        assert_eq!(Takes::decode(&mut &*bytes).expect("whole"), takes);
        for cut in 0..bytes.len() {
            assert!(matches!(Takes::decode(&mut &bytes[..cut]), Err(StoreError::Damaged { .. })), "cut at {cut}");
        }
    }
}
