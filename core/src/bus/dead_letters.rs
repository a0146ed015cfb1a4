//! What a durable listener gave up: looking at it, calling it again, and letting it go.

use super::Bus;
use crate::consumer::{ParkedCounts, Replay};
use crate::error::{DeadLetterError, Error};
use crate::store::{Parked, Position};

impl Bus {
    /// The dead letters of a durable listener.
    ///
    /// ```
    /// use aftercommit::bus::Replay;
    /// use aftercommit::prelude::*;
    /// use aftercommit::store::{ParkedCause, Position};
    ///
    /// # async fn repair(bus: &Bus) -> Result<(), Error> {
    /// let letters = bus.dead_letters("shop.mail");
    /// for parked in letters.page(Position(0), 20).await? {
    ///     println!("{}: {}", parked.position.0, parked.cause);
    /// }
    /// letters.replay(Replay::matching(|parked| !matches!(parked.cause, ParkedCause::Undecodable(_))).in_flight(4)).await?;
    /// bus.idle().await;
    /// letters.discard(Position(7), "a test order").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn dead_letters<'a>(&'a self, listener: &'a str) -> DeadLetters<'a> {
        DeadLetters { bus: self, listener }
    }
}

/// The dead letters of a durable listener; from [`Bus::dead_letters`].
#[derive(Debug, Clone, Copy)]
pub struct DeadLetters<'a> {
    bus: &'a Bus,
    listener: &'a str,
}

impl DeadLetters<'_> {
    /// At most `limit` of them, from log position `from` on, in the order of the log.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(&self, from: Position, limit: usize) -> Result<Vec<Parked>, Error> {
        Ok(self.bus.core.store.parked_from(self.listener, from, limit).await?)
    }

    /// The one at `position`, if it is parked.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, position: Position) -> Result<Option<Parked>, Error> {
        let found = self.page(position, 1).await?.pop();
        Ok(found.filter(|one| one.position == position))
    }

    /// How many there are, and whether there is room for more.
    ///
    /// # Errors
    /// [`DeadLetterError::NotRunning`].
    pub async fn counts(&self) -> Result<ParkedCounts, Error> {
        let asked = self.bus.running().and_then(|running| running.workers.count_parked(self.listener));
        match asked {
            Some(answer) => answer.await.map_err(|_| self.not_running()),
            None => Err(self.not_running()),
        }
    }

    /// Has them called again; answers how many sequences are concerned. [`Bus::idle`] waits for what comes of it.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`] if the one named is not parked; [`DeadLetterError::Behind`] if it is not the first of its
    /// sequence; [`DeadLetterError::NotRunning`].
    pub async fn replay(&self, replay: Replay) -> Result<usize, Error> {
        let asked = self.bus.running().and_then(|running| running.workers.replay(self.listener, replay));
        match asked {
            Some(answer) => answer.await.map_err(|_| self.not_running())?,
            None => Err(self.not_running()),
        }
    }

    /// Removes the one at `position` for good; the observer is told why. Answers whether it was parked.
    ///
    /// What is parked behind it stays parked.
    ///
    /// # Errors
    /// [`DeadLetterError::Replayed`] while its sequence is being called again; [`DeadLetterError::NotRunning`].
    pub async fn discard(&self, position: Position, reason: &str) -> Result<bool, Error> {
        let asked = self.bus.running().and_then(|running| running.workers.discard(self.listener, position, reason));
        match asked {
            Some(answer) => answer.await.map_err(|_| self.not_running())?,
            None => Err(self.not_running()),
        }
    }

    fn not_running(&self) -> Error {
        DeadLetterError::NotRunning { listener: self.listener.to_owned() }.into()
    }
}
