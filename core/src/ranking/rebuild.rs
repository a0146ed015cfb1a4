//! Counting the log anew, into measures of their own, while the old ones serve.

use std::time::Duration;

use super::keep::KEPT;
use super::live::{Item, Ranking};
use crate::bus::{Bus, spawn};
use crate::error::Error;
use crate::listener::StartAt;
use crate::transaction::Tx;

/// How often a rebuild looks whether it has caught up.
const LOOK: Duration = Duration::from_millis(20);

impl<K: Item> Ranking<K> {
    /// Builds the ranking anew from the log while the old one serves, as it was when this began, then puts the new one in its place.
    ///
    /// Its listeners go back to the beginning of the log, one after the other, and count into measures of their own; once all have
    /// caught up with where the log ended when they began, those measures serve and the old ones are removed.
    /// What the log does not hold any more is not counted: events that must be are declared `logged`.
    /// It looks whether they have caught up every 20 ms of the bus's clock.
    ///
    /// After a process was killed meanwhile the old measures serve, and the bus goes on with this when it starts again.
    ///
    /// # Errors
    /// Those of [`Bus::reset`] and of the store. The old measures serve then, and the next call goes on.
    ///
    /// # Cancel safety
    /// As when the process is killed; the next call, or the next start, goes on.
    pub async fn rebuild(&self, bus: &Bus) -> Result<(), Error> {
        let _one = self.0.rebuilding.lock().await;
        let next = self.begin_building();
        for (place, source) in self.0.sources.iter().enumerate() {
            if self.0.generations.lock().sources[place] == next {
                continue;
            }
            let mut kept = self.kept();
            kept.sources.insert(source.name.to_owned(), next);
            let ranking = self.clone();
            bus.reset(&self.id(place), StartAt::Beginning, async move |tx: &mut Tx| {
                KEPT.put(tx, &ranking.0.name.to_owned(), &kept)?;
                tx.once_committed(move || ranking.0.generations.lock().sources[place] = next);
                Ok::<_, Error>(())
            })
            .await?;
        }
        for place in 0..self.0.sources.len() {
            self.went_back(bus, place).await?;
        }
        self.caught_up(bus).await?;
        let mut kept = self.kept();
        kept.serving = next;
        let (ranking, name) = (self.clone(), self.0.name.to_owned());
        let swapped = bus.transaction(async move |tx: &mut Tx| {
            KEPT.put(tx, &name, &kept)?;
            tx.once_committed(move || ranking.swap(next));
            Ok::<_, Error>(())
        });
        swapped.await?;
        self.tidy(bus).await
    }

    /// Whether a rebuild was begun and has not ended.
    pub fn is_rebuilding(&self) -> bool {
        self.0.tally.read().building.is_some()
    }

    /// Makes room for what a rebuild counts; answers its generation.
    fn begin_building(&self) -> u32 {
        let generations = self.0.generations.lock();
        let next = generations.sources.iter().copied().find(|generation| *generation != generations.serving);
        let next = next.unwrap_or(generations.serving + 1);
        drop(generations);
        let mut state = self.0.tally.write();
        if state.building.is_none() {
            state.building = Some(state.tally.emptied());
        }
        next
    }

    fn swap(&self, next: u32) {
        self.0.generations.lock().serving = next;
        let mut state = self.0.tally.write();
        if let Some(built) = state.building.take() {
            state.tally = built;
        }
        drop(state);
        self.changed();
    }

    /// Goes on with a rebuild that a process left, in the background; what keeps it from its end, the next start meets again.
    pub(super) fn go_on(&self, bus: &Bus) {
        // A handle that does not keep the bus running.
        let bus = Bus { core: bus.core.clone(), running: None, origin: None };
        let (ranking, core) = (self.clone(), bus.core.clone());
        drop(spawn(&core, self.0.name.into(), async move { ranking.rebuild(&bus).await.is_ok() }));
    }

    /// Waits until a listener that was put back tells its new place: it answers a question before it tells its place,
    /// and the next one after it.
    async fn went_back(&self, bus: &Bus, source: usize) -> Result<(), Error> {
        let id = self.id(source);
        for _ in 0..2 {
            bus.dead_letters(&id).counts().await?;
        }
        Ok(())
    }

    /// Waits until all listeners have come to where the log ends now.
    async fn caught_up(&self, bus: &Bus) -> Result<(), Error> {
        let end = bus.log_end();
        let ids: Vec<String> = (0..self.0.sources.len()).map(|place| self.id(place)).collect();
        loop {
            // The end is asked for first, so that a listener looks no further than it is.
            let now = bus.log_end();
            let lags = bus.lags().await?;
            let mut own = lags.iter().filter(|lag| ids.contains(&lag.listener));
            if own.all(|lag| now.0.saturating_sub(lag.behind) >= end.0) {
                return Ok(());
            }
            self.clock().sleep(LOOK).await;
        }
    }
}
