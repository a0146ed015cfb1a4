//! Giving up: events that park, and what parks behind them.

use std::sync::Arc;

use super::{Called, Worker};
use crate::consumer::lane::LaneKey;
use crate::consumer::record::record_each;
use crate::error::StoreError;
use crate::event::{Envelope, EventHeader};
use crate::listener::{Followers, WhenFull};
use crate::observe::Notice;
use crate::store::{CursorChange, Ending, GivenUp, Parked, ParkedCause, Position};

impl Worker {
    /// Parks a delivery that is being called, and what follows it, as was declared.
    pub(super) async fn give_up(
        &mut self,
        called: Called,
        attempts: u32,
        cause: ParkedCause,
    ) -> Result<(), StoreError> {
        let position = called.pending.position;
        if called.pending.parked {
            return self.give_up_again(called, attempts, cause).await;
        }
        if self.known.is_done(position.0) {
            // Parked behind another of its batch, or erased.
            self.lanes.let_go(&called.key, position);
            return Ok(());
        }
        let followers = self.job.durable.parking.followers;
        if followers == Followers::Stop {
            self.lanes.give_back(&called.key);
            self.halt(position, &cause.to_string());
            return Ok(());
        }
        let change = match self.park_or_say_why_not(position, &called.envelope, attempts, cause.clone()) {
            Ok(change) => change,
            Err(reason) => {
                self.lanes.give_back(&called.key);
                self.halt(position, &reason);
                return Ok(());
            }
        };
        self.window_bytes = self.window_bytes.saturating_sub(called.envelope.weight());
        self.tell_parked(position, &cause);
        if !self.record(vec![change], self.ground.durability).await? {
            // Settled by a call whose answer was cut off: what follows may go on.
            self.dead.remove(position);
            self.lanes.done(&called.key);
            return Ok(());
        }
        match followers {
            Followers::Park if self.dead.key_of(position).is_some() => self.park_followers(&called.key, position).await,
            _ => {
                self.lanes.done(&called.key);
                Ok(())
            }
        }
    }

    /// It was parked, and called again in vain: it stays, and nothing more of its sequence is called.
    async fn give_up_again(&mut self, called: Called, attempts: u32, cause: ParkedCause) -> Result<(), StoreError> {
        let Called { key, pending, envelope, .. } = called;
        self.tell_parked(pending.position, &cause);
        let change = CursorChange::StillParked(self.parked_copy(pending.position, &envelope, attempts, cause));
        if !self.record(vec![change], self.ground.durability).await? {
            return self.close(&key, &pending, None).await;
        }
        self.lanes.done(&key);
        match self.job.durable.parking.followers {
            Followers::Pass => self.replay_on(&key, pending.position).await,
            _ => {
                self.replays.end(&key);
                Ok(())
            }
        }
    }

    async fn park_followers(&mut self, key: &LaneKey, first: Position) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        let mut pending = self.lanes.close(key);
        pending.retain(|one| one.position != first);
        for follower in pending {
            let Some(envelope) = self.load_event(&follower).await? else {
                self.known.settle(follower.position.0..follower.position.0 + 1);
                continue;
            };
            self.window_bytes = self.window_bytes.saturating_sub(envelope.weight());
            match self.park_or_say_why_not(follower.position, &envelope, 0, ParkedCause::Behind(first)) {
                Ok(change) => changes.push(change),
                Err(reason) => {
                    if !self.halted {
                        self.halt(follower.position, &reason);
                    }
                    // Met again in the log, once there is room.
                    self.stale = true;
                }
            }
        }
        self.park_all(changes).await
    }

    /// Records parked events in their order, in commits of bounded size.
    pub(super) async fn park_all(&mut self, changes: Vec<CursorChange>) -> Result<(), StoreError> {
        let settled = record_each(&self.ground, &self.job.listener, changes, self.ground.durability).await?;
        for change in settled {
            if let CursorChange::Park { parked, .. } = change {
                self.dead.remove(parked.position);
            }
        }
        Ok(())
    }

    /// The change that parks an event of the log, known as parked from now on; or that discards it where there is no room.
    pub(super) fn park_or_say_why_not(
        &mut self,
        position: Position,
        envelope: &Arc<Envelope>,
        attempts: u32,
        cause: ParkedCause,
    ) -> Result<CursorChange, String> {
        let parking = self.job.durable.parking;
        let key = LaneKey::of(self.job.durable.sequence, position, envelope);
        let covers = position.0..position.0 + 1;
        if self.dead.has_room(&key, &parking) {
            let covers = if self.job.durable.ack.gathers() { covers } else { self.known.stretch(position.0) };
            let parked = self.parked_copy(position, envelope, attempts, cause);
            self.known.settle(position.0..position.0 + 1);
            self.dead.insert(key, position);
            return Ok(CursorChange::Park { parked, covers });
        }
        let reason = format!("there is no room for another dead letter: {cause}");
        match parking.full {
            WhenFull::Stop => Err(reason),
            WhenFull::Discard => {
                self.known.settle(covers.clone());
                self.ground.watch.tell(&Notice::Discarded { listener: &self.job.listener, position, reason: &reason });
                let header = envelope.header.clone();
                Ok(self.give_up_for_good(position, header, attempts, Ending::Discarded, &reason))
            }
        }
    }

    /// The change that gives a delivery up for good.
    pub(super) fn give_up_for_good(
        &self,
        position: Position,
        header: EventHeader,
        attempts: u32,
        how: Ending,
        reason: &str,
    ) -> CursorChange {
        let (listener, reason) = (self.job.listener.to_string(), reason.to_owned());
        let given_up = GivenUp { listener, position, attempts, how, reason, at: self.ground.clock.now(), header };
        CursorChange::GiveUp { given_up, covers: position.0..position.0 + 1 }
    }

    /// The event at `position` is erased: it is settled, and nothing waits behind it any more.
    pub(super) fn erased(&mut self, position: Position) {
        self.known.settle(position.0..position.next().0);
        self.redeliveries.remove(&position);
        self.suspicion.acquit(position);
        if let Some(weight) = self.lanes.empty(position) {
            self.window_bytes = self.window_bytes.saturating_sub(weight);
        }
        // If it is being called again, its own call, which is refused as settled, takes it out of its lane.
        self.dead.remove(position);
    }

    fn tell_parked(&self, position: Position, cause: &ParkedCause) {
        if self.dead.key_of(position).is_some() {
            self.ground.watch.tell(&Notice::Parked { listener: &self.job.listener, position, cause });
        }
    }

    fn parked_copy(&self, position: Position, envelope: &Arc<Envelope>, attempts: u32, cause: ParkedCause) -> Parked {
        Parked {
            listener: self.job.listener.to_string(),
            position,
            attempts,
            cause,
            parked_at: self.ground.clock.now(),
            asked: None,
            envelope: (**envelope).clone(),
        }
    }
}
