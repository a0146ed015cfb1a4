//! What is owed to whom and what became of it, as a running bus sees it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use uuid::Uuid;

use super::Bus;
use crate::consumer::Replay;
use crate::error::{DeadLetterError, Error, StoreError};
use crate::publication::{Mark, Overview, Page, Query, Story, View};

impl Bus {
    /// Looks at publications: each event that is, or was, owed to a durable listener, and what became of it.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    ///
    /// use aftercommit::prelude::*;
    /// use aftercommit::publication::{Query, Status};
    ///
    /// # async fn look(bus: &Bus) -> Result<(), Error> {
    /// let overview = bus.publications().counts().await?;
    /// println!("{} waiting, {} running, {} dead", overview.total.waiting, overview.total.running, overview.total.dead);
    ///
    /// const PAGE: NonZeroUsize = NonZeroUsize::new(50).unwrap();
    /// let stuck = Query::new().listener("shop.mail").statuses([Status::Redelivering, Status::Dead]);
    /// let mut after = None;
    /// loop {
    ///     let page = bus.publications().page(&stuck, after.as_ref(), PAGE).await?;
    ///     for one in &page.publications {
    ///         println!("{} {}: {}", one.header.name, one.header.metadata.id, one.stage);
    ///     }
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    ///
    /// // Dead letters of one order, of whichever listener, at most 4 sequences of each at once.
    /// bus.publications().replay(&Query::new().key(&7_u32), 4).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publications(&self) -> Publications<'_> {
        Publications { bus: self }
    }

    /// As [`pause`](Self::pause), kept in the store: the listener is not called at the next starts either, until it is resumed, which
    /// [`resume`](Self::resume) and the program `aftercommit` do. The observer is warned at each start.
    ///
    /// # Errors
    /// [`DeadLetterError::NotRunning`]; the store's, in which case it is paused until the next start only.
    pub async fn pause_across_restarts(&self, listener: &str, reason: &str) -> Result<(), Error> {
        let not_running = || Error::from(DeadLetterError::NotRunning { listener: listener.to_owned() });
        let asked = self.running().and_then(|running| running.workers.pause_for_good(listener, reason));
        Ok(asked.ok_or_else(not_running)?.await.map_err(|_| not_running())??)
    }
}

/// The publications of a bus; from [`Bus::publications`].
///
/// Looking reads on a thread of the blocking pool, a page at a time, and holds nobody up. Whatever moves meanwhile is told once: as
/// what it was, or as what it became. See [`View`] for what it costs.
///
/// # Cancel safety
/// Dropped, a look goes on in the background to its end and changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Publications<'a> {
    bus: &'a Bus,
}

impl Publications<'_> {
    /// As [`View::counts`].
    ///
    /// # Errors
    /// The store's.
    pub async fn counts(&self) -> Result<Overview, Error> {
        self.look(async |view: View| view.counts().await).await
    }

    /// As [`View::counts_with_done`].
    ///
    /// # Errors
    /// The store's.
    pub async fn counts_with_done(&self) -> Result<Overview, Error> {
        self.look(async |view: View| view.counts_with_done().await).await
    }

    /// As [`View::page`].
    ///
    /// # Errors
    /// The store's.
    pub async fn page(&self, query: &Query, after: Option<&Mark>, limit: NonZeroUsize) -> Result<Page, Error> {
        let (query, after) = (query.clone(), after.cloned());
        self.look(async move |view: View| view.page(&query, after.as_ref(), limit).await).await
    }

    /// As [`View::story`].
    ///
    /// # Errors
    /// The store's.
    pub async fn story(&self, event: Uuid) -> Result<Option<Story>, Error> {
        self.look(async move |view: View| view.story(event).await).await
    }

    /// Has dead letters called again that `query` wants, whatever states it names: of each listener at most `in_flight` sequences at
    /// once; 0 is taken as 1. Answers how many sequences are looked at. [`Bus::idle`] waits for what comes of it.
    ///
    /// In order within a sequence: from its first on, up to the first that is not wanted or fails again, which stays parked with what
    /// follows it. What is running is never called a second time, and what waits is not overtaken: only dead letters are.
    ///
    /// # Errors
    /// [`DeadLetterError::NotRunning`] if the query names a listener that nobody delivers to.
    pub async fn replay(&self, query: &Query, in_flight: usize) -> Result<usize, Error> {
        let workers = self.bus.running();
        let mut listeners = workers.map_or_else(Vec::new, |running| running.workers.listeners());
        listeners.retain(|listener| query.wants_listener(listener));
        if let (Some(listener), true) = (query.one_listener(), listeners.is_empty()) {
            return Err(DeadLetterError::NotRunning { listener: listener.to_owned() }.into());
        }
        let mut sequences = 0;
        for listener in listeners {
            let query = query.clone();
            let wanted = Replay::matching(move |parked| query.wants_parked(parked)).in_flight(in_flight);
            match self.bus.dead_letters(&listener).replay(wanted).await {
                Ok(concerned) => sequences += concerned,
                // It was taken out meanwhile.
                Err(Error::DeadLetter(DeadLetterError::NotRunning { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sequences)
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl AsyncFnOnce(View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let core = &self.bus.core;
        // What runs is asked for first: see `View`.
        let desks = self.bus.running().map(|running| running.workers.desks()).unwrap_or_default();
        let view = View::new(Arc::clone(&core.store), core.clock().now()).with_desks(desks);
        if core.around.one_thread {
            return Ok(look(view).await?);
        }
        let runtime = core.around.runtime.clone();
        let looked = core.around.runtime.spawn_blocking(move || runtime.block_on(look(view))).await;
        Ok(looked.map_err(|cause| StoreError::backend("look at publications", cause))??)
    }
}
