//! What a bus does with its store from time to time, if it has an archive or orphans to forget: archives what may go, and lets it go.

use std::sync::Arc;
use std::time::Duration;

use super::orphans;
use crate::bus::Core;
use crate::error::StoreError;
use crate::observe::Notice;

/// How long between two looks.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks until the bus stops. Keeps neither the bus nor its store.
pub(super) fn start(core: &Arc<Core>) {
    let (clock, mut stop, weak) = (core.clock().clone(), core.stopper.signal(), Arc::downgrade(core));
    core.around.runtime.spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = clock.sleep(PAUSE) => {}
            }
            let Some(core) = weak.upgrade() else { return };
            match tidy(&core).await {
                Err(StoreError::Closed) => return,
                // What it could not archive stays in the log; the next look tries again.
                Err(cause) => core.watch().tell(&Notice::ArchiveFailed { cause: &cause }),
                Ok(()) => {}
            }
        }
    });
}

/// Forgets orphans whose time has come, archives what may go, and lets it go.
pub(super) async fn tidy(core: &Core) -> Result<(), StoreError> {
    orphans::forget_due(core).await?;
    if let Some(archiving) = &core.archiving {
        archiving.advance(&*core.store, &core.around).await?;
    }
    match core.store.as_embedded() {
        Some(store) => store.tidy().await,
        None => Ok(()),
    }
}
