//! Order within a sequence, parallel and fair across sequences.
//!
//! A lane holds the pending deliveries of one sequence in the order they are owed; nothing of it is called before what comes
//! before it. Lanes take turns: one that was called goes behind those that wait, so that none starves.
//!
//! Where one is called at a time, and nothing failed or is held, what comes next is simply what the log has next. So deliveries stay in
//! the order of the log, and are spread over lanes only once one of them did not go straight through.

mod straight;

use std::collections::{BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::lane::{LaneKey, Pending, Tried};
use crate::clock::Timestamp;
use crate::store::Position;

#[derive(Debug)]
struct Lane {
    pending: VecDeque<Pending>,
    state: State,
    /// How many from the head on are being called.
    called: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With its place in the queue of lanes.
    Ready(u64),
    Called,
    Waiting(Timestamp),
}

/// All lanes of one worker.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneKey, Lane, RandomState>,
    /// First come, first served; a lane that was called goes to the end. One that is not ready at that place any more is passed over.
    ready: VecDeque<(u64, LaneKey)>,
    /// How many lanes are ready.
    ready_count: usize,
    next_place: u64,
    waiting: BTreeSet<(Timestamp, Position, LaneKey)>,
    /// In the order of the log; in lanes once there are any.
    straight: VecDeque<(LaneKey, Pending)>,
    /// How many that went straight are being called, and stand nowhere here.
    straight_called: usize,
    pending: usize,
    called: usize,
}

impl Lanes {
    /// How many deliveries are owed, those being called counted.
    pub(super) fn len(&self) -> usize {
        self.pending
    }

    /// How many are being called.
    pub(super) fn called(&self) -> usize {
        self.called
    }

    /// Whether a delivery may be called now.
    pub(super) fn has_ready(&self) -> bool {
        self.ready_count > 0 || !self.straight.is_empty()
    }

    /// How many sequences have a delivery that may be called now.
    pub(super) fn ready(&self) -> usize {
        self.ready_count
    }

    /// Whether at least `count` deliveries could be called at once.
    pub(super) fn has_ready_for(&self, count: usize) -> bool {
        let mut found = self.straight.len();
        found >= count
            || self.ready_lanes().any(|lane| {
                found += lane.pending.len();
                found >= count
            })
    }

    /// Those that are ready, the one whose turn it is first.
    fn ready_lanes(&self) -> impl Iterator<Item = &Lane> {
        let lane =
            |(place, key): &(u64, LaneKey)| self.lanes.get(key).filter(|lane| lane.state == State::Ready(*place));
        self.ready.iter().filter_map(lane)
    }

    /// The place and the key of the lane whose turn it is.
    fn next_turn(&mut self) -> Option<(u64, LaneKey)> {
        loop {
            let (place, key) = self.ready.pop_front()?;
            if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Ready(place)) {
                self.ready_count -= 1;
                return Some((place, key));
            }
        }
    }

    fn make_ready(&mut self, key: &LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.state = State::Ready(self.next_place);
            self.ready.push_back((self.next_place, key.clone()));
            self.ready_count += 1;
            self.next_place += 1;
        }
    }

    /// Puts a delivery at the end of its lane; due at `due` if it waits for its time.
    pub(super) fn push(&mut self, key: LaneKey, pending: Pending, due: Option<Timestamp>) {
        self.spread();
        self.push_in_lane(key, pending, due);
    }

    fn push_in_lane(&mut self, key: LaneKey, pending: Pending, due: Option<Timestamp>) {
        self.pending += 1;
        let position = pending.position;
        let fresh = || Lane { pending: VecDeque::new(), state: State::Called, called: 0 };
        let lane = self.lanes.entry(key.clone()).or_insert_with(fresh);
        lane.pending.push_back(pending);
        if lane.pending.len() > 1 {
            return;
        }
        match due {
            Some(due) => {
                lane.state = State::Waiting(due);
                self.waiting.insert((due, position, key));
            }
            None => self.make_ready(&key),
        }
    }

    /// Makes those ready whose time has come.
    pub(super) fn wake(&mut self, now: Timestamp) {
        while let Some((due, ..)) = self.waiting.first()
            && *due <= now
            && let Some((due, _, key)) = self.waiting.pop_first()
        {
            if self.lanes.get(&key).is_some_and(|lane| lane.state == State::Waiting(due)) {
                self.make_ready(&key);
            }
        }
    }

    /// When the next waiting delivery is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, ..)| *due)
    }

    /// The position of the delivery that comes next.
    pub(super) fn first_ready(&self) -> Option<Position> {
        match self.straight.front() {
            Some((_, first)) => Some(first.position),
            None => self.ready_lanes().next()?.pending.front().map(|head| head.position),
        }
    }

    /// The lowest position that is owed.
    pub(super) fn lowest(&self) -> Option<Position> {
        let heads = self.lanes.values().filter_map(|lane| lane.pending.front());
        heads.chain(self.straight.front().map(|(_, first)| first)).map(|head| head.position).min()
    }

    /// The deliveries that come next, at most `max`, each lane in turn; they count as being called from now on.
    ///
    /// Several of one lane are neighbours in it. They come in the order of the log.
    pub(super) fn take(&mut self, max: usize) -> Vec<(LaneKey, Pending)> {
        self.take_of(usize::MAX, max)
    }

    /// As [`take`](Self::take), of at most so many lanes.
    pub(super) fn take_of(&mut self, lanes: usize, max: usize) -> Vec<(LaneKey, Pending)> {
        if !self.straight.is_empty() {
            let taken: Vec<_> = self.straight.drain(..max.min(self.straight.len())).collect();
            self.straight_called += taken.len();
            self.called += taken.len();
            return taken;
        }
        let mut taken = Vec::new();
        let mut turn: VecDeque<LaneKey> = VecDeque::new();
        while taken.len() < max.min(lanes.max(1)) {
            let Some((place, key)) = self.next_turn() else { break };
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(head) = lane.pending.front().cloned() else { continue };
            let alone = head.alone;
            if alone && !taken.is_empty() {
                self.ready.push_front((place, key));
                self.ready_count += 1;
                break;
            }
            lane.state = State::Called;
            lane.called = 1;
            taken.push((key.clone(), head));
            if alone {
                self.called += 1;
                return taken;
            }
            if max > 1 {
                turn.push_back(key);
            }
        }
        while taken.len() < max
            && let Some(key) = turn.pop_front()
        {
            if let Some(lane) = self.lanes.get_mut(&key)
                && let Some(next) = lane.pending.get(lane.called).filter(|next| !next.alone)
            {
                taken.push((key.clone(), next.clone()));
                lane.called += 1;
                turn.push_back(key);
            }
        }
        self.called += taken.len();
        taken.sort_by_key(|(_, pending)| pending.position);
        taken
    }

    /// The first of the lane that is being called is done; the one behind it is ready once none of the lane is being called.
    pub(super) fn done(&mut self, key: &LaneKey) {
        if self.straight_called > 0 {
            self.straight_called -= 1;
            self.called -= 1;
            self.pending -= 1;
            return;
        }
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.pending.pop_front();
        self.pending -= 1;
        self.came_back(key);
    }

    /// One that is being called failed. If it is the first of its lane, the lane waits until `due`.
    pub(super) fn wait(&mut self, key: &LaneKey, position: Position, tried: Tried, alone: bool, due: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(key)
            && let Some((index, one)) = lane.pending.iter_mut().enumerate().find(|(_, one)| one.position == position)
        {
            one.tried = tried;
            one.alone = alone;
            if index == 0 {
                lane.state = State::Waiting(due);
                self.waiting.insert((due, position, key.clone()));
            }
            self.came_back(key);
        }
    }

    /// One that is being called is out of the worker's hands: it leaves its lane, wherever it stands there.
    pub(super) fn let_go(&mut self, key: &LaneKey, position: Position) {
        if self.straight_called > 0 {
            return self.done(key);
        }
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Some(index) = lane.pending.iter().position(|one| one.position == position) else { return };
        lane.pending.remove(index);
        self.pending -= 1;
        self.came_back(key);
    }

    /// Gives one that is being called back, as if it had never been.
    pub(super) fn give_back(&mut self, key: &LaneKey) {
        if self.lanes.contains_key(key) {
            self.came_back(key);
        }
    }

    fn came_back(&mut self, key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if lane.called > 0 {
            lane.called -= 1;
            self.called -= 1;
        }
        if lane.pending.is_empty() {
            self.lanes.remove(key);
        } else if lane.called == 0 && lane.state == State::Called {
            self.make_ready(key);
        }
    }

    /// Takes the whole lane out, what was being called included.
    pub(super) fn close(&mut self, key: &LaneKey) -> VecDeque<Pending> {
        let Some(lane) = self.lanes.remove(key) else { return VecDeque::new() };
        self.called -= lane.called;
        match (lane.state, lane.pending.front()) {
            (State::Ready(_), _) => self.ready_count -= 1,
            (State::Waiting(due), Some(head)) => drop(self.waiting.remove(&(due, head.position, key.clone()))),
            _ => {}
        }
        self.pending -= lane.pending.len();
        lane.pending
    }

    /// Lets go of the event at `position`, which stays in its place until it is its turn.
    /// Answers its weight, if it was held and counts.
    pub(super) fn empty(&mut self, position: Position) -> Option<usize> {
        let in_lanes = self.lanes.values_mut().flat_map(|lane| &mut lane.pending);
        let held = self.straight.iter_mut().map(|(_, one)| one).chain(in_lanes).find(|one| one.position == position)?;
        let envelope = held.envelope.take()?;
        (!held.parked).then(|| envelope.weight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn key(name: &str) -> LaneKey {
        LaneKey::of_key(name.as_bytes())
    }

    pub(super) fn pending(position: u64) -> Pending {
        Pending::new(Position(position), None)
    }

    fn lanes(of: &[(u64, &str)]) -> Lanes {
        let mut lanes = Lanes::default();
        of.iter().for_each(|(position, name)| lanes.push(key(name), pending(*position), None));
        lanes
    }

    pub(super) fn positions(taken: &[(LaneKey, Pending)]) -> Vec<u64> {
        taken.iter().map(|(_, pending)| pending.position.0).collect()
    }

    pub(super) fn failed(attempts: u32) -> Tried {
        Tried { attempts, ..Tried::default() }
    }

    #[test]
    fn each_round_offers_at_most_one_of_each_key_the_lowest_of_it() {
        let mut lanes = lanes(&[(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "c")]);
        let mut rounds = Vec::new();
        while lanes.len() > 0 {
            let round: Vec<_> = std::iter::from_fn(|| lanes.take(1).pop()).collect();
            rounds.push(positions(&round));
            round.iter().for_each(|(lane, _)| lanes.done(lane));
        }
        assert_eq!(rounds, [vec![1, 2, 4], vec![3, 6], vec![5]]);
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = lanes(&[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")]);
        let mut served = Vec::new();
        while let Some((lane, next)) = lanes.take(1).pop() {
            served.push(next.position.0);
            lanes.done(&lane);
        }
        assert_eq!(served, [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn a_waiting_head_holds_its_own_key_only() {
        let mut lanes = lanes(&[(1, "a"), (2, "a"), (3, "b")]);
        let (a, first) = lanes.take(1).remove(0);
        assert_eq!(first.position, Position(1));
        lanes.wait(&a, first.position, failed(1), false, Timestamp(10));
        let (b, third) = lanes.take(1).remove(0);
        assert_eq!(third.position, Position(3));
        lanes.done(&b);
        assert!(lanes.take(1).is_empty());
        lanes.wake(Timestamp(9));
        assert!(!lanes.has_ready());
        lanes.wake(Timestamp(10));
        let (_, again) = lanes.take(1).remove(0);
        assert_eq!((again.position, again.tried.attempts), (Position(1), 1));
        assert_eq!(lanes.close(&a).len(), 2);
        assert_eq!((lanes.len(), lanes.called()), (0, 0));
    }

    #[test]
    fn a_batch_takes_turns_too_and_comes_in_the_order_of_the_log() {
        let mut lanes = lanes(&[(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b")]);
        assert!(lanes.has_ready_for(5) && !lanes.has_ready_for(6));
        let batch = lanes.take(4);
        assert_eq!(positions(&batch), [1, 2, 4, 5]);
        assert!(lanes.take(4).is_empty(), "nothing of a lane that is being called");
        // The second of `a` fails.
        lanes.done(&key("a"));
        lanes.wait(&key("a"), Position(2), failed(1), false, Timestamp(9));
        lanes.give_back(&key("b"));
        lanes.give_back(&key("b"));
        assert_eq!((lanes.len(), lanes.called()), (4, 0));
        assert_eq!(positions(&lanes.take(4)), [4, 5]);
        lanes.wake(Timestamp(9));
        assert_eq!(positions(&lanes.take(4)), [2, 3]);
    }

    #[test]
    fn of_few_lanes_more_of_each_are_taken() {
        let mut lanes = lanes(&[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a")]);
        assert_eq!((lanes.ready(), positions(&lanes.take_of(1, 9))), (2, vec![1, 3, 5]));
        assert_eq!((lanes.ready(), positions(&lanes.take_of(1, 1))), (1, vec![2]));
    }

    #[test]
    fn several_of_a_lane_that_fail_together_wait_as_one_and_each_keeps_what_was_tried() {
        let mut lanes = lanes(&[(1, "a"), (2, "a"), (3, "a")]);
        assert_eq!(positions(&lanes.take(2)), [1, 2]);
        lanes.wait(&key("a"), Position(1), failed(2), true, Timestamp(9));
        lanes.wait(&key("a"), Position(2), failed(1), true, Timestamp(5));
        assert_eq!((lanes.called(), lanes.len(), lanes.next_due()), (0, 3, Some(Timestamp(9))));
        lanes.wake(Timestamp(9));
        for (position, attempts) in [(1, 2), (2, 1), (3, 0)] {
            let taken = lanes.take(2);
            assert_eq!(positions(&taken), [position]);
            assert_eq!(taken[0].1.tried.attempts, attempts);
            lanes.done(&key("a"));
        }
        assert_eq!((lanes.called(), lanes.len()), (0, 0));
    }

    #[test]
    fn what_is_singled_out_is_taken_by_itself() {
        let mut lanes = lanes(&[(1, "a"), (2, "b"), (3, "c")]);
        let (a, _) = lanes.take(1).remove(0);
        lanes.wait(&a, Position(1), failed(1), true, Timestamp(1));
        lanes.wake(Timestamp(1));
        assert_eq!(positions(&lanes.take(9)), [2, 3]);
        assert_eq!(positions(&lanes.take(9)), [1]);
    }
}
