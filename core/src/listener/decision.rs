//! What a durable listener decides about a delivery, by value.

use std::time::Duration;

use super::answer::IntoAnswer;
use crate::transaction::Answered;

/// What a durable listener decides about a delivery.
///
/// It is answered as a value, or as an error (`Err(Decision::park("..").into())`), also as the cause of one.
/// Only [`Done`](Self::Done) keeps what the listener wrote through its `tx`.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "shop.paid")]
/// struct Paid { order: u64, cents: i64 }
///
/// #[listener(durable, id = "shop.book-payment")]
/// fn book_payment(event: &Paid) -> Decision {
///     match event.cents {
///         0 => Decision::skip("nothing to book"),
///         ..0 => Decision::park("a negative payment: somebody must look at it"),
///         cents if cents > 1_000_000 => Decision::redeliver_after(Duration::from_secs(3600)),
///         _ => Decision::Done,
///     }
/// }
/// # let _ = || listed![book_payment];
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Decision {
    /// It is done.
    #[error("done")]
    Done,
    /// It is called again after this time; it counts as an attempt.
    #[error("to be called again after {after:?}")]
    Redeliver {
        /// How long to wait.
        after: Duration,
    },
    /// It is given up for now: parked, without another call.
    #[error("parked: {reason}")]
    Park {
        /// Why.
        reason: String,
    },
    /// It is done without having been worked for; the observer is told.
    #[error("skipped: {reason}")]
    Skip {
        /// Why.
        reason: String,
    },
    /// The listener cannot go on with anything: it stops and tells. The event stays owed.
    #[error("fatal: {reason}")]
    Fatal {
        /// Why.
        reason: String,
    },
}

impl Decision {
    /// To be called again after `after`.
    pub fn redeliver_after(after: Duration) -> Self {
        Decision::Redeliver { after }
    }

    /// To be parked.
    pub fn park(reason: impl Into<String>) -> Self {
        Decision::Park { reason: reason.into() }
    }

    /// To be skipped.
    pub fn skip(reason: impl Into<String>) -> Self {
        Decision::Skip { reason: reason.into() }
    }

    /// The listener is to stop.
    pub fn fatal(reason: impl Into<String>) -> Self {
        Decision::Fatal { reason: reason.into() }
    }
}

impl IntoAnswer for Decision {
    const REPLIES: bool = false;
    const DECIDES: bool = true;

    fn into_answer(self) -> Answered {
        match self {
            Decision::Done => Ok(None),
            decision => Err(Box::new(decision)),
        }
    }
}
