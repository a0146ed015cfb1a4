//! What durable listeners have settled: cursors, deliveries that wait, parked events and suspects.
//!
//! Kept in memory by the committer, so that settlements of a group meet each other before anything is written,
//! and so that each cursor is written once per group however many deliveries of its listener were settled.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::layout::{
    CURSOR, GIVEN_UP, LISTENER, PARKED, REDELIVERY, SUSPECT, all_of, damaged, deliveries_of, delivery_key, delivery_of,
    name_of, named,
};
use super::record;
use super::shared::Shared;
use crate::error::{StoreError, UnitError};
use crate::store::{Cursor, CursorChange, Direction, GivenUp, Parked, Position, Settlement, Suspect};

/// What durable listeners have settled.
#[derive(Debug, Default)]
pub(super) struct Progress {
    cursors: BTreeMap<Arc<str>, Cursor>,
    /// The keys of the redeliveries and suspects that are stored.
    waiting: BTreeSet<Vec<u8>>,
    /// The parked events that are stored, by key, with the order they were parked in.
    parked: BTreeMap<Vec<u8>, u64>,
    next_parked: u64,
    /// The keys of the deliveries given up for good that are stored.
    given_up: BTreeSet<Vec<u8>>,
    /// The listeners of which more is known than their cursor.
    described: BTreeSet<Arc<str>>,
}

/// What one request changes, before it is known whether it is accepted.
#[derive(Debug, Default)]
pub(super) struct Steps {
    cursors: BTreeMap<Arc<str>, Cursor>,
    /// Redeliveries and suspects.
    waiting: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Parked events with their order.
    parked: BTreeMap<Vec<u8>, Option<(u64, Vec<u8>)>>,
    next_parked: u64,
    /// Deliveries given up for good.
    given_up: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What is known of listeners.
    described: BTreeMap<Arc<str>, Vec<u8>>,
}

impl Steps {
    /// The keys of the values it touches that may be large.
    pub(super) fn large_keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let described = self.described.keys().map(|listener| named(LISTENER, listener));
        self.parked.keys().chain(self.given_up.keys()).cloned().chain(described)
    }
}

/// What an accepted request writes.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Listeners whose cursor moved.
    pub(super) moved: Vec<Arc<str>>,
    /// Small values.
    pub(super) small: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Values that may be large.
    pub(super) large: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Progress {
    /// Takes up what is stored.
    pub(super) fn load(shared: &Shared) -> Result<Self, StoreError> {
        let all = |kind| shared.scan(&all_of(kind), Direction::Forward, usize::MAX);
        let mut progress = Self::default();
        for (key, body) in all(CURSOR)? {
            let (listener, cursor) = decode_cursor(&key, &body)?;
            progress.cursors.insert(Arc::from(listener), cursor);
        }
        progress.waiting = all(REDELIVERY)?.into_iter().chain(all(SUSPECT)?).map(|(key, _)| key).collect();
        for (key, value) in all(PARKED)? {
            let order = record::parked_order(&key, &value)?;
            progress.next_parked = progress.next_parked.max(order + 1);
            progress.parked.insert(key, order);
        }
        // Opened in pages: what they say is not kept.
        progress.given_up =
            shared.scan_raw(&all_of(GIVEN_UP), Direction::Forward, usize::MAX)?.into_iter().map(first).collect();
        for (key, _) in shared.scan_raw(&all_of(LISTENER), Direction::Forward, usize::MAX)? {
            progress.described.insert(Arc::from(name_of(&key)?));
        }
        Ok(progress)
    }

    /// The first position that somebody is owed; `None` if there is no durable listener.
    pub(super) fn low(&self) -> Option<Position> {
        self.cursors.values().map(|cursor| Position(cursor.low())).min()
    }

    /// The stored form of a listener's cursor.
    pub(super) fn encoded(&self, listener: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        self.cursors.get(listener).map(|cursor| (named(CURSOR, listener), cursor.encode()))
    }

    /// What `settlements` come to, in their order, after everything accepted before them.
    ///
    /// # Errors
    /// [`UnitError::AlreadySettled`] if one of them settles what is settled.
    pub(super) fn settle(&self, settlements: &[Settlement]) -> Result<Steps, Refused> {
        let mut steps = Steps { next_parked: self.next_parked, ..Steps::default() };
        for Settlement { listener, change } in settlements {
            self.step(&mut steps, listener, change)?;
        }
        Ok(steps)
    }

    fn step(&self, steps: &mut Steps, listener: &Arc<str>, change: &CursorChange) -> Result<(), Refused> {
        let settled = |position: Position| {
            Refused::Settled(UnitError::AlreadySettled { listener: listener.to_string(), position: position.0 })
        };
        // A listener that was forgotten is owed nothing: nothing of it can be settled, and nothing about it is kept.
        match change {
            CursorChange::Start { from, unasked_below } => {
                if self.cursor(steps, listener).is_none() {
                    steps.cursors.insert(listener.clone(), Cursor::at(from.0).unasked_below(unasked_below.0));
                }
            }
            CursorChange::Takes(takes) => {
                if let Some(cursor) = self.cursor(steps, listener) {
                    *cursor = std::mem::take(cursor).taking(takes.clone());
                }
            }
            CursorChange::Reset { from, unasked_below } => {
                let parked = self.parked.range(deliveries_of(PARKED, listener)).map(|(key, _)| delivery_of(key));
                let parked = parked.collect::<Result<Vec<_>, _>>().map_err(Refused::Encoding)?;
                if let Some(cursor) = self.cursor(steps, listener) {
                    let takes = Arc::new(cursor.takes().anew());
                    *cursor = Cursor::at(from.0).unasked_below(unasked_below.0).taking(takes);
                    for (_, Position(at)) in parked {
                        cursor.settle(at..at + 1);
                    }
                    let waiting = self.waiting.range(deliveries_of(REDELIVERY, listener));
                    steps.waiting.extend(waiting.map(|key| (key.clone(), None)));
                    // It is owed again what it gave up.
                    let again = delivery_key(GIVEN_UP, listener, *from)..deliveries_of(GIVEN_UP, listener).end;
                    steps.given_up.extend(self.given_up.range(again).map(|key| (key.clone(), None)));
                }
            }
            CursorChange::Done { position, covers }
            | CursorChange::Park { parked: Parked { position, .. }, covers } => {
                let cursor = self.cursor(steps, listener).filter(|cursor| !cursor.is_done(position.0));
                let cursor = cursor.ok_or_else(|| settled(*position))?;
                cursor.settle(covers.clone());
                cursor.settle(position.0..position.0 + 1);
                self.drop_waiting(steps, REDELIVERY, listener, *position);
                self.drop_waiting(steps, SUSPECT, listener, *position);
                if let CursorChange::Park { parked, .. } = change {
                    let key = delivery_key(PARKED, listener, *position);
                    let order = self.parked_order(steps, &key).unwrap_or_else(|| {
                        steps.next_parked += 1;
                        steps.next_parked - 1
                    });
                    let value = record::encode_parked(order, parked).map_err(Refused::Encoding)?;
                    steps.parked.insert(key, Some((order, value)));
                }
            }
            CursorChange::Skip { covers } => {
                if let Some(cursor) = self.cursor(steps, listener) {
                    cursor.settle(covers.clone());
                }
            }
            CursorChange::Redeliver(redelivery) => {
                let at = redelivery.position;
                if self.cursor(steps, listener).is_some_and(|cursor| !cursor.is_done(at.0)) {
                    let value = record::encode_json(redelivery).map_err(Refused::Encoding)?;
                    steps.waiting.insert(delivery_key(REDELIVERY, listener, at), Some(value));
                }
            }
            CursorChange::StillParked(parked) => {
                let key = delivery_key(PARKED, listener, parked.position);
                let order = self.parked_order(steps, &key).ok_or_else(|| settled(parked.position))?;
                self.drop_waiting(steps, SUSPECT, listener, parked.position);
                let value = record::encode_parked(order, parked).map_err(Refused::Encoding)?;
                steps.parked.insert(key, Some((order, value)));
            }
            CursorChange::Resolved { position } => {
                let key = delivery_key(PARKED, listener, *position);
                if self.parked_order(steps, &key).is_none() {
                    return Err(settled(*position));
                }
                self.drop_waiting(steps, SUSPECT, listener, *position);
                steps.parked.insert(key, None);
            }
            CursorChange::Suspect { position, count } => {
                if self.cursor(steps, listener).is_some() {
                    let key = delivery_key(SUSPECT, listener, *position);
                    steps.waiting.insert(key, Some(count.to_be_bytes().to_vec()));
                }
            }
            CursorChange::Cleared { position } => self.drop_waiting(steps, SUSPECT, listener, *position),
            CursorChange::Describe(record) => {
                if self.cursor(steps, listener).is_some() {
                    let value = record::encode_json(record).map_err(Refused::Encoding)?;
                    steps.described.insert(listener.clone(), value);
                }
            }
            CursorChange::GiveUp { given_up, covers } => {
                let position = given_up.position;
                let parked = delivery_key(PARKED, listener, position);
                let settling = match self.parked_order(steps, &parked) {
                    Some(_) => CursorChange::Resolved { position },
                    None => CursorChange::Done { position, covers: covers.clone() },
                };
                self.step(steps, listener, &settling)?;
                self.note_given_up(steps, listener, given_up).map_err(Refused::Encoding)?;
            }
        }
        Ok(())
    }

    /// Notes a delivery that was given up; where too many are kept, the one of the lowest position goes.
    fn note_given_up(&self, steps: &mut Steps, listener: &str, given_up: &GivenUp) -> Result<(), StoreError> {
        let value = record::encode_given_up(given_up)?;
        steps.given_up.insert(delivery_key(GIVEN_UP, listener, given_up.position), Some(value));
        let range = deliveries_of(GIVEN_UP, listener);
        let stays = |key: &&Vec<u8>| !steps.given_up.contains_key(*key);
        let mut stored = self.given_up.range(range.clone()).filter(stays);
        let mut added = steps.given_up.range(range).filter(|(_, value)| value.is_some()).map(|(key, _)| key);
        let (first_stored, first_added) = (stored.next().cloned(), added.next().cloned());
        let kept =
            usize::from(first_stored.is_some()) + stored.count() + usize::from(first_added.is_some()) + added.count();
        if kept > GivenUp::MOST {
            match (first_stored, first_added) {
                (Some(stored), Some(added)) if added < stored => drop(steps.given_up.remove(&added)),
                (Some(stored), _) => drop(steps.given_up.insert(stored, None)),
                (None, Some(added)) => drop(steps.given_up.remove(&added)),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// The listener's cursor, to be moved; `None` if it has none.
    fn cursor<'a>(&self, steps: &'a mut Steps, listener: &Arc<str>) -> Option<&'a mut Cursor> {
        match steps.cursors.entry(listener.clone()) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => Some(entry.insert(self.cursors.get(listener)?.clone())),
        }
    }

    fn drop_waiting(&self, steps: &mut Steps, kind: u8, listener: &str, position: Position) {
        let key = delivery_key(kind, listener, position);
        if self.waiting.contains(&key) {
            steps.waiting.insert(key, None);
        } else {
            steps.waiting.remove(&key);
        }
    }

    fn parked_order(&self, steps: &Steps, key: &[u8]) -> Option<u64> {
        match steps.parked.get(key) {
            Some(changed) => changed.as_ref().map(|(order, _)| *order),
            None => self.parked.get(key).copied(),
        }
    }

    /// Takes an accepted request's steps over, and says what is to be written.
    pub(super) fn accept(&mut self, steps: Steps) -> Writes {
        let mut writes = Writes::default();
        self.next_parked = steps.next_parked;
        for (listener, cursor) in steps.cursors {
            if self.cursors.get(&listener) != Some(&cursor) {
                writes.moved.push(listener.clone());
                self.cursors.insert(listener, cursor);
            }
        }
        for (key, value) in steps.waiting {
            match value {
                Some(_) => self.waiting.insert(key.clone()),
                None => self.waiting.remove(&key),
            };
            writes.small.push((key, value));
        }
        for (key, value) in steps.parked {
            match &value {
                Some((order, _)) => self.parked.insert(key.clone(), *order),
                None => self.parked.remove(&key),
            };
            writes.large.push((key, value.map(|(_, value)| value)));
        }
        for (key, value) in steps.given_up {
            match value {
                Some(_) => self.given_up.insert(key.clone()),
                None => self.given_up.remove(&key),
            };
            writes.large.push((key, value));
        }
        for (listener, value) in steps.described {
            writes.large.push((named(LISTENER, &listener), Some(value)));
            self.described.insert(listener);
        }
        writes
    }

    /// The keys of everything kept for `listener`: what may be large, and the rest with the cursor last.
    pub(super) fn kept_for(&self, listener: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let parked = self.parked.range(deliveries_of(PARKED, listener)).map(|(key, _)| key);
        let given_up = self.given_up.range(deliveries_of(GIVEN_UP, listener));
        let mut large: Vec<_> = parked.chain(given_up).cloned().collect();
        large.extend(self.described.contains(listener).then(|| named(LISTENER, listener)));
        let mut rest: Vec<_> = [REDELIVERY, SUSPECT]
            .into_iter()
            .flat_map(|kind| self.waiting.range(deliveries_of(kind, listener)).cloned())
            .collect();
        if self.cursors.contains_key(listener) {
            rest.push(named(CURSOR, listener));
        }
        (large, rest)
    }

    /// The keys of everything kept for deliveries of the event at `position`, whoever is called with it.
    pub(super) fn kept_of(&self, position: Position) -> Kept {
        let is_it = |key: &&Vec<u8>| delivery_of(key).is_ok_and(|(_, at)| at == position);
        Kept {
            parked: self.parked.keys().filter(is_it).cloned().collect(),
            given_up: self.given_up.iter().filter(is_it).cloned().collect(),
            waiting: self.waiting.iter().filter(is_it).cloned().collect(),
        }
    }

    /// Forgets what is `kept` of the event at `position`, and settles it for everybody if it was still in the log.
    /// Answers whose cursor moved.
    pub(super) fn erase(&mut self, position: Position, kept: &Kept, in_log: bool) -> Vec<Arc<str>> {
        self.parked.retain(|key, _| !kept.parked.contains(key));
        self.given_up.retain(|key| !kept.given_up.contains(key));
        self.waiting.retain(|key| !kept.waiting.contains(key));
        let owed = |cursor: &Cursor| in_log && !cursor.is_done(position.0);
        let moved = self.cursors.iter_mut().filter(|(_, cursor)| owed(cursor));
        moved
            .map(|(listener, cursor)| {
                cursor.settle(position.0..position.next().0);
                listener.clone()
            })
            .collect()
    }

    /// Forgets what is kept for `listener`.
    pub(super) fn forget(&mut self, listener: &str) {
        let (large, rest) = self.kept_for(listener);
        for key in &large {
            self.parked.remove(key);
            self.given_up.remove(key);
        }
        for key in &rest {
            self.waiting.remove(key);
        }
        self.described.remove(listener);
        self.cursors.remove(listener);
    }
}

/// The keys of what is kept for deliveries of one event.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) parked: Vec<Vec<u8>>,
    /// Deliveries given up for good.
    pub(super) given_up: Vec<Vec<u8>>,
    /// Redeliveries and suspects.
    pub(super) waiting: Vec<Vec<u8>>,
}

/// Why settlements were refused.
#[derive(Debug)]
pub(super) enum Refused {
    /// Settled before.
    Settled(UnitError),
    /// It has no stored form.
    Encoding(StoreError),
}

fn first<T, U>((first, _): (T, U)) -> T {
    first
}

/// Reads a cursor's row.
pub(super) fn decode_cursor(key: &[u8], body: &[u8]) -> Result<(String, Cursor), StoreError> {
    let cursor = Cursor::decode(body).map_err(|_| damaged(key, "it is no list of names and ranges"))?;
    Ok((name_of(key)?, cursor))
}

/// Reads a suspect's row.
pub(super) fn decode_suspect(key: &[u8], body: &[u8]) -> Result<Suspect, StoreError> {
    let (listener, position) = delivery_of(key)?;
    let count = body.try_into().map_err(|_| damaged(key, "it is no count"))?;
    Ok(Suspect { listener, position, count: u32::from_be_bytes(count) })
}
