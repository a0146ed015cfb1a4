//! What goes straight through: in the order of the log, without lanes, until one does not get through.

use std::collections::VecDeque;

use super::{Lane, Lanes, State};
use crate::consumer::lane::{LaneKey, Pending};

impl Lanes {
    /// Puts a delivery at the end, to go straight through if that may be: where one is called at a time.
    pub(in crate::consumer) fn push_straight(&mut self, key: LaneKey, pending: Pending) {
        if self.lanes.is_empty() {
            self.pending += 1;
            self.straight.push_back((key, pending));
        } else {
            self.push(key, pending, None);
        }
    }

    /// Puts everything into lanes that was to go straight through.
    pub(in crate::consumer) fn spread(&mut self) {
        self.pending -= self.straight.len();
        for (key, pending) in std::mem::take(&mut self.straight) {
            self.push_in_lane(key, pending, None);
        }
    }

    /// Whether what is being called went straight.
    pub(in crate::consumer) fn went_straight(&self) -> bool {
        self.straight_called > 0
    }

    /// Gives back those of what went straight, in their order, that were not called: they come next, as if they had never been taken.
    pub(in crate::consumer) fn take_back(&mut self, rest: Vec<(LaneKey, Pending)>) {
        if self.lanes.is_empty() {
            self.straight_called -= rest.len();
            self.called -= rest.len();
            rest.into_iter().rev().for_each(|one| self.straight.push_front(one));
            return;
        }
        let keys: Vec<LaneKey> = rest.iter().map(|(key, _)| key.clone()).collect();
        self.put_back(rest.into_iter());
        keys.iter().for_each(|key| self.give_back(key));
    }

    /// Puts back those of what went straight, in their order, that did not get through: as if they had been taken from their lanes.
    pub(in crate::consumer) fn put_back(&mut self, rest: impl DoubleEndedIterator<Item = (LaneKey, Pending)>) {
        for (key, pending) in rest.rev() {
            let fresh = || Lane { pending: VecDeque::new(), state: State::Called, called: 0 };
            let lane = self.lanes.entry(key).or_insert_with(fresh);
            if let State::Ready(_) = lane.state {
                self.ready_count -= 1;
            }
            lane.state = State::Called;
            lane.called += 1;
            lane.pending.push_front(pending);
            self.straight_called -= 1;
        }
        self.spread();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{failed, key, pending, positions};
    use super::*;
    use crate::clock::Timestamp;
    use crate::store::Position;

    #[test]
    fn what_goes_straight_comes_in_the_order_of_the_log_until_one_does_not_get_through() {
        let mut lanes = Lanes::default();
        for (position, name) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b"), (6, "c")] {
            lanes.push_straight(key(name), pending(position));
        }
        assert_eq!((lanes.first_ready(), lanes.has_ready_for(6)), (Some(Position(1)), true));
        let run = lanes.take(4);
        assert_eq!(positions(&run), [1, 2, 3, 4]);
        assert_eq!((lanes.called(), lanes.len()), (4, 6));
        // The third fails: what comes behind it was not called, and waits for it in its lane.
        lanes.put_back(run.into_iter().skip(2));
        lanes.done(&key("a"));
        lanes.done(&key("b"));
        lanes.wait(&key("a"), Position(3), failed(1), false, Timestamp(9));
        lanes.give_back(&key("a"));
        assert_eq!((lanes.called(), lanes.len()), (0, 4));
        lanes.push_straight(key("c"), pending(7));
        assert_eq!(positions(&lanes.take(9)), [5, 6, 7]);
        lanes.wake(Timestamp(9));
        assert_eq!(positions(&lanes.take(9)), [3, 4]);
        for name in ["a", "a", "b", "c", "c"] {
            lanes.done(&key(name));
        }
        lanes.push_straight(key("a"), pending(8));
        assert_eq!((lanes.called(), lanes.len(), positions(&lanes.take(9))), (0, 1, vec![8]));
    }

    #[test]
    fn what_went_straight_and_was_not_called_comes_next() {
        let mut lanes = Lanes::default();
        (1..=4).for_each(|position| lanes.push_straight(key("a"), pending(position)));
        let mut run = lanes.take(3);
        lanes.take_back(run.split_off(1));
        lanes.done(&key("a"));
        assert_eq!((lanes.called(), lanes.len()), (0, 3));
        let mut run = lanes.take(2);
        assert_eq!(positions(&run), [2, 3]);
        // Something that waits came meanwhile, so that there are lanes.
        lanes.push(key("b"), pending(9), Some(Timestamp(9)));
        lanes.take_back(run.split_off(1));
        lanes.done(&key("a"));
        assert_eq!((lanes.called(), lanes.len()), (0, 3));
        for position in [3, 4] {
            assert_eq!(positions(&lanes.take(1)), [position]);
            lanes.done(&key("a"));
        }
    }
}
