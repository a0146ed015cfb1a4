//! The running shop: a store, the listeners linked into it, and the run its data belongs to.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::ranking::Ranking;
use aftercommit::store::{ParkedCause, Store};
use aftercommit::table::Reader;
use serde::{Deserialize, Serialize};

use crate::error::{Events, ShopError, told};
use crate::ranking;
use crate::run::RunId;
use crate::score::Scoring;

/// Its one row says which run the data belongs to.
const RUN: Table<u8, StoredRun> = Table::new("shop.run");
const THE_RUN: u8 = 0;

/// How long a stop waits for what still runs.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A running shop.
pub struct Shop {
    bus: Bus,
    ranking: Ranking<u64>,
    broken: Arc<OnceLock<Broken>>,
}

/// A durable listener that met a storage error and stopped.
struct Broken {
    listener: String,
    cause: String,
}

/// The run that data belongs to, and how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredRun {
    /// Which run.
    pub id: RunId,
    /// Whether its log was worked off to the end.
    pub finished: bool,
}

/// The run that a store's data belongs to, if it has any.
///
/// # Errors
/// If the store cannot be read.
pub fn stored_run(store: &dyn Store) -> Result<Option<StoredRun>, aftercommit::Error> {
    RUN.get(&mut Reader::new(store.reader()?), &THE_RUN)
}

impl Shop {
    /// Starts the shop on the data of a run, new or begun before; what its listeners are owed is taken up at once.
    ///
    /// # Errors
    /// If the data is of another run, in which case nothing is touched; or if the bus does not start.
    pub async fn start(store: Arc<dyn Store>, run: &RunId) -> Result<Self, ShopError> {
        let stored = stored_run(&*store)?;
        if let Some(stored) = &stored
            && let Err(mismatch) = stored.id.admits(run)
        {
            store.close().await.map_err(aftercommit::Error::from)?;
            return Err(mismatch.into());
        }
        let shop = Self::wire(store, run.scoring()).await?;
        if stored.is_none() {
            shop.store_run(run, false).await?;
        }
        Ok(shop)
    }

    /// Says with the data that the run's log was worked off to the end.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn finish(&self, run: &RunId) -> Result<(), ShopError> {
        self.store_run(run, true).await
    }

    async fn store_run(&self, run: &RunId, finished: bool) -> Result<(), ShopError> {
        let stored = StoredRun { id: run.clone(), finished };
        self.bus.transaction(async |tx| RUN.put(tx, &THE_RUN, &stored)).await?;
        Ok(())
    }

    async fn wire(store: Arc<dyn Store>, scoring: Scoring) -> Result<Self, ShopError> {
        let ranking = ranking::declare(scoring).build().map_err(aftercommit::Error::from)?;
        let broken: Arc<OnceLock<Broken>> = Arc::default();
        let watched = broken.clone();
        let bus = Bus::builder()
            .shared_store(store)
            .ranking(&ranking)
            .linked()
            .require_module("shop::catalog")
            // A listener that adds numbers cannot take the process with it: whatever killed it, call again.
            .crash_limit(0)
            .observer(move |notice: &Notice<'_>| {
                if let Notice::WorkerStopped { listener, cause } = notice {
                    let broken = Broken { listener: (*listener).to_owned(), cause: told(*cause) };
                    // The first cause counts.
                    let _ = watched.set(broken);
                }
            })
            .start()
            .await?;
        Ok(Self { bus, ranking, broken })
    }

    /// The shop's bus.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The ranking that it keeps.
    pub fn ranking(&self) -> &Ranking<u64> {
        &self.ranking
    }

    /// Waits until the durable listeners have done everything they are owed.
    ///
    /// # Errors
    /// If one gave up an event or could not go on: the sums are not whole then.
    pub async fn settled(&self) -> Result<(), ShopError> {
        self.bus.idle().await;
        if let Some(Broken { listener, cause }) = self.broken.get() {
            return Err(ShopError::ListenerStopped { listener: listener.clone(), cause: cause.clone() });
        }
        let parked = self.bus.parked().await?;
        let Some(first) = parked.first() else { return Ok(()) };
        let events = parked.iter().filter(|one| one.listener == first.listener).count();
        let cause = match &first.cause {
            ParkedCause::Failed(cause) | ParkedCause::Undecodable(cause) => cause.clone(),
            other => format!("{other:?}"),
        };
        Err(ShopError::Parked { listener: first.listener.clone(), events: Events(events), cause })
    }

    /// Stops in good order.
    ///
    /// # Errors
    /// If something had to be cut off, or the store could not be closed.
    pub async fn stop(self) -> Result<(), ShopError> {
        Ok(self.bus.shutdown(STOP_WITHIN).await?)
    }
}
