//! Dead letters on their way back, and out.

use std::sync::Arc;

use super::Worker;
use crate::consumer::dead_letter::{Filter, Replay, Which};
use crate::consumer::lane::{LaneKey, Pending};
use crate::error::{DeadLetterError, Error, StoreError};
use crate::listener::{Followers, Sequence};
use crate::observe::Notice;
use crate::store::{Ending, Parked, Position};

impl Worker {
    /// Takes dead letters up to be called again; answers how many sequences are concerned.
    pub(super) fn replay(&mut self, replay: &Replay) -> Result<usize, Error> {
        let per_key = self.job.durable.sequence == Sequence::PerKey;
        let mut filter = None;
        let queue = match &replay.which {
            Which::One(position) | Which::SequenceOf(position) => {
                let key = self.dead.key_of(*position).ok_or_else(|| self.unknown(*position))?;
                let first = self.dead.first(key).unwrap_or(*position);
                let ordered = self.job.durable.parking.followers != Followers::Pass;
                if matches!(replay.which, Which::One(_)) && ordered && first < *position {
                    let (listener, position) = (self.job.listener.to_string(), *position);
                    return Err(DeadLetterError::Behind { listener, position: position.0, first: first.0 }.into());
                }
                [key.clone()].into()
            }
            Which::Key(key) if per_key => {
                let key = LaneKey::of_key(key);
                self.dead.first(&key).map(|_| key).into_iter().collect()
            }
            Which::Key(key) => {
                let key = key.clone();
                let of_key = move |parked: &Parked| parked.envelope.header.key.as_ref() == Some(&key);
                filter = Some(Arc::new(of_key) as Arc<Filter>);
                self.dead.keys()
            }
            Which::Matching(matching) => {
                filter = Some(matching.clone());
                self.dead.keys()
            }
            Which::All => self.dead.keys(),
        };
        let count = queue.len();
        self.replays.begin(replay, queue, filter);
        Ok(count)
    }

    /// Takes up whatever `replay` matches, sequence by sequence.
    pub(super) fn replay_all(&mut self, replay: Replay) {
        if let Which::Matching(filter) = &replay.which {
            let filter = filter.clone();
            self.replays.begin(&replay, self.dead.keys(), Some(filter));
        }
    }

    fn unknown(&self, position: Position) -> Error {
        DeadLetterError::Unknown { listener: self.job.listener.to_string(), position: position.0 }.into()
    }

    /// Begins with further sequences, as far as the replays allow.
    pub(super) async fn feed_replays(&mut self) -> Result<(), StoreError> {
        while let Some(key) = self.replays.next() {
            self.replay_next(&key).await?;
        }
        Ok(())
    }

    /// Goes on with a sequence, whose event at `behind` is done with.
    pub(super) async fn replay_on(&mut self, key: &LaneKey, behind: Position) -> Result<(), StoreError> {
        if let Some(at_work) = self.replays.at_work.get_mut(key) {
            at_work.from = behind.next();
            self.replay_next(key).await?;
        }
        Ok(())
    }

    /// Puts the next dead letter of a sequence into its lane, or ends the sequence.
    async fn replay_next(&mut self, key: &LaneKey) -> Result<(), StoreError> {
        let Some(at_work) = self.replays.at_work.get(key).cloned() else { return Ok(()) };
        let from = at_work.only.map_or(at_work.from, |only| only.max(at_work.from));
        let next = self.dead.first_from(key, from).filter(|next| at_work.only.is_none_or(|only| only == *next));
        let Some(position) = next else {
            self.replays.end(key);
            return Ok(());
        };
        let mut pending = Pending::new(position, None);
        pending.parked = true;
        pending.alone = self.suspicion.is_marked(position);
        if let Some(filter) = &at_work.filter {
            let parked = self.ground.store.parked_from(&self.job.listener, position, 1).await?.pop();
            if !parked.is_some_and(|parked| parked.position == position && filter(&parked)) {
                self.replays.end(key);
                return Ok(());
            }
        }
        self.lanes.push(key.clone(), pending, None);
        Ok(())
    }

    /// Removes a dead letter for good. Answers whether it was there.
    pub(super) async fn discard(&mut self, position: Position, reason: &str) -> Result<bool, Error> {
        let listener = self.job.listener.clone();
        let Some(key) = self.dead.key_of(position) else { return Ok(false) };
        if self.replays.at_work.contains_key(key) {
            return Err(DeadLetterError::Replayed { listener: listener.to_string(), position: position.0 }.into());
        }
        let parked = self.ground.store.parked_from(&listener, position, 1).await?.pop();
        let Some(Parked { attempts, envelope, .. }) = parked.filter(|one| one.position == position) else {
            self.dead.remove(position);
            return Ok(false);
        };
        let change = self.give_up_for_good(position, envelope.header, attempts, Ending::Discarded, reason);
        let discarded = self.record(vec![change], self.ground.durability).await?;
        self.dead.remove(position);
        if discarded {
            self.ground.watch.tell(&Notice::Discarded { listener: &listener, position, reason });
        }
        Ok(discarded)
    }
}
