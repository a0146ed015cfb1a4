//! Are both sides the same? Slice by slice; what differs is looked at again as of one point between two groups.

use std::collections::BTreeMap;

use super::follow::guarded;
use super::{ALL_END, Copier, is_the_engines_own, slices};
use crate::error::StoreError;
use crate::store::embedded::layout::{after, describe};
use crate::store::{Direction, Row};

/// How many keys that differ are looked at again at once.
const AGAIN: usize = 64;

impl Copier<'_> {
    /// Reads both sides and compares them, following what is committed meanwhile.
    pub(super) fn compare(&mut self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let read = |from: Vec<u8>, limit| shared.scan_raw(&(from..ALL_END.to_vec()), Direction::Forward, limit);
        let mut from = Vec::new();
        slices(read, |rows| {
            let Some((last, _)) = rows.last() else { return Ok(()) };
            let upto = after(last);
            self.follower.follow(self.follower.tap.came())?;
            self.compare_slice(&from, &upto, rows)?;
            from = upto;
            Ok(())
        })?;
        self.compare_slice(&from, &ALL_END, Vec::new())
    }

    fn compare_slice(&mut self, from: &[u8], upto: &[u8], rows: Vec<Row>) -> Result<(), StoreError> {
        let limit = 2 * rows.len() + AGAIN;
        let target = &self.follower.engine;
        let copied = guarded(|| target.scan(from..upto, Direction::Forward, limit))?;
        let copied = copied.into_iter().filter(|(key, _)| !is_the_engines_own(key));
        let mut differ: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
        for (key, value) in copied {
            match differ.get(&key) {
                Some(Some(same)) if *same == value => drop(differ.remove(&key)),
                Some(_) => {}
                None => drop(differ.insert(key, None)),
            }
        }
        let keys: Vec<Vec<u8>> = differ.into_keys().collect();
        keys.chunks(AGAIN).try_for_each(|some| self.compare_again(some))
    }

    /// Compares some keys while nothing moves.
    fn compare_again(&mut self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let (shared, follower, keys) = (self.shared.clone(), self.follower.clone(), keys.to_vec());
        self.follower.turn(self.hand, move |_| {
            follower.follow(u64::MAX)?;
            for key in keys {
                if shared.get_raw(&key)? != guarded(|| follower.engine.get(&key))? {
                    let reason = "the copy of it is not the same".to_owned();
                    return Err(StoreError::Damaged { what: describe(&key), reason });
                }
            }
            Ok(())
        })
    }
}
