//! What somebody asks of a worker, and what comes of it.

use tokio::sync::oneshot;

use super::Worker;
use crate::consumer::dead_letter::{ParkedCounts, Replay};
use crate::error::{Error, StoreError};
use crate::store::{CursorChange, ListenerRecord, Paused, Position};

/// What somebody asks of a worker; it answers once it has taken it up.
pub(in crate::consumer) enum Command {
    Replay(Replay, oneshot::Sender<Result<usize, Error>>),
    Discard(Position, String, oneshot::Sender<Result<bool, Error>>),
    Count(oneshot::Sender<ParkedCounts>),
    /// With a reason and an answer, also at the next starts.
    Pause(Option<(String, oneshot::Sender<Result<(), StoreError>>)>),
    Resume,
    Hold(Hold),
    /// The event is erased: what is held of it in memory goes too.
    Erased(Position),
}

/// Somebody changes what the store knows of the listener: the worker says when nothing runs, waits, and loads it anew.
pub(in crate::consumer) struct Hold {
    pub(in crate::consumer) ready: oneshot::Sender<()>,
    /// Ends when whoever asked is done, or gone.
    pub(in crate::consumer) release: oneshot::Receiver<()>,
}

impl Worker {
    pub(super) async fn obey(&mut self, command: Command) -> Result<(), StoreError> {
        self.asked = true;
        self.progress.interrupt();
        // Whoever asked may be gone.
        match command {
            Command::Replay(replay, answer) => drop(answer.send(self.replay(&replay))),
            Command::Discard(position, reason, answer) => {
                drop(answer.send(self.discard(position, &reason).await));
            }
            Command::Count(answer) => drop(answer.send(self.dead.counts(&self.job.durable.parking))),
            Command::Pause(None) => self.halted = true,
            Command::Pause(Some((reason, answer))) => {
                self.halted = true;
                let paused = Paused { since: self.ground.clock.now(), reason };
                drop(answer.send(self.describe_paused(Some(paused)).await));
            }
            Command::Resume => {
                if self.described.paused.is_some() {
                    self.describe_paused(None).await?;
                }
                self.halted = false;
            }
            Command::Hold(hold) => self.hold = Some(hold),
            Command::Erased(position) => self.erased(position),
        }
        self.publish_progress(*self.ground.store.delivered_up_to().borrow());
        self.progress.take_back();
        self.ground.activity.touch();
        Ok(())
    }

    /// Has the store know that nobody is to call the listener, or that somebody is again.
    async fn describe_paused(&mut self, paused: Option<Paused>) -> Result<(), StoreError> {
        let described = ListenerRecord { paused, ..self.described.clone() };
        self.record(vec![CursorChange::Describe(described.clone())], self.ground.durability).await?;
        self.described = described;
        Ok(())
    }
}
