//! Retention: what the log keeps of what nobody is owed any more, and who else holds a part of it.

use std::sync::Arc;

use super::EmbeddedStore;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::embedded::log::{end_of_log, packs_from};
use crate::store::{LogEvent, LogHold, Position, Retention};

/// What the log is about to give up.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Expired {
    /// The events, ascending; erased ones left out.
    pub events: Vec<LogEvent>,
    /// The position behind them: everything between the hold and here is among them, or a gap.
    pub to: Position,
}

/// How many packs are read at once.
const PACKS: usize = 16;

impl EmbeddedStore {
    /// From now on the log gives up what nobody is owed as `retention` says, by `clock`. A bus says this when it starts;
    /// until then a store gives up nothing.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Poisoned`].
    pub async fn retain(&self, retention: Retention, clock: Arc<dyn Clock>) -> Result<(), StoreError> {
        let told = self.inner.hand.turn(move |core| {
            core.retain(retention, clock);
            Ok(())
        });
        told.await
    }

    /// Removes what may go by now, in steps between which units commit. This also happens with each group of commits;
    /// what becomes of age while nothing is committed goes when this is called, which a bus does from time to time.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Poisoned`].
    pub async fn tidy(&self) -> Result<(), StoreError> {
        while self.inner.hand.turn(|core| Ok(core.prune())).await? {}
        Ok(())
    }

    /// Keeps the log from `from` on, whatever its retention says, as long as the answer lives. What was removed before is gone:
    /// [`pruned_to`](crate::store::Store::pruned_to), asked afterwards, says what may be.
    pub fn hold_log(&self, from: Position) -> LogHold {
        self.inner.shared.holds.hold(from)
    }

    /// About how many bytes of events the log holds from `from` on.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`].
    pub fn log_bytes_from(&self, from: Position) -> Result<u64, StoreError> {
        let first =
            packs_from(&self.inner.shared, from, Position(u64::MAX), 1)?.first().map(|pack| pack.known().before);
        Ok(end_of_log(&self.inner.shared)?.1.saturating_sub(first.unwrap_or(u64::MAX)))
    }

    /// What the log would give up now if it were not for `hold`: whole packs from there on, about `max_bytes` of events.
    /// Nothing, until it was told what to [`retain`](Self::retain). What is told survives a power cut, and so does that it is done.
    ///
    /// # Errors
    /// The engine's, and [`StoreError::Damaged`].
    pub async fn expired(&self, hold: Arc<LogHold>, max_bytes: usize) -> Result<Expired, StoreError> {
        let mut expired = Expired { events: Vec::new(), to: hold.position() };
        let asked = self.inner.hand.turn(move |core| {
            // Nothing is told that a power cut could take back.
            core.sync_all()?;
            Ok(core.rule_without(&hold))
        });
        let rule = asked.await?;
        let (Some(rule), shared) = (rule, &self.inner.shared) else { return Ok(expired) };
        let mut bytes = 0;
        while expired.to < rule.low && bytes < max_bytes {
            let packs = packs_from(shared, expired.to, rule.low, PACKS)?;
            if packs.is_empty() {
                expired.to = rule.low;
            }
            for pack in packs {
                if !rule.lets_go(&pack.known()) {
                    return Ok(expired);
                }
                for index in 0..pack.len() {
                    if let Some(event) = pack.event(index, shared)?.filter(|event| event.position >= expired.to) {
                        bytes += event.envelope.weight();
                        expired.events.push(event);
                    }
                }
                expired.to = pack.end();
                if bytes >= max_bytes {
                    break;
                }
            }
        }
        Ok(expired)
    }
}
