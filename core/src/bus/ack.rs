//! A delivery that its listener acknowledges when it likes.

use std::time::Duration;

use tokio::sync::oneshot;

use super::DeliveryId;
use crate::error::BoxError;
use crate::listener::{Call, Decision, FromCall};

/// The acknowledgment of a delivery to a listener that said `ack = Manual` or `ack = ManualImmediate`.
///
/// It may be taken elsewhere and used later, in any order with those of other deliveries. Until then the delivery holds its
/// sequence, and its place in the listener's concurrency. Dropped unused, the delivery has failed.
///
/// ```
/// use aftercommit::prelude::*;
/// use serde::{Deserialize, Serialize};
/// use tokio::sync::mpsc;
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "shop.paid")]
/// struct Paid { order: u64 }
///
/// /// Somebody else works it off, and calls `ack.done()`.
/// #[listener(durable, id = "shop.export", ack = Manual, concurrency = 100)]
/// fn export(event: &Paid, ack: Ack, queue: State<mpsc::UnboundedSender<(u64, Ack)>>) -> Result<(), &'static str> {
///     queue.send((event.order, ack)).map_err(|_| "nobody exports any more")
/// }
/// # let _ = || listed![export];
/// ```
#[derive(Debug)]
#[must_use = "a delivery that is not acknowledged is called again"]
pub struct Ack {
    id: DeliveryId,
    attempt: u32,
    answer: oneshot::Sender<Decision>,
}

impl Ack {
    pub(super) fn new(id: DeliveryId, attempt: u32) -> (Self, oneshot::Receiver<Decision>) {
        let (answer, decided) = oneshot::channel();
        (Self { id, attempt, answer }, decided)
    }

    /// The delivery's identity, the same at each attempt.
    pub fn id(&self) -> &DeliveryId {
        &self.id
    }

    /// Which call this is; 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// It is done.
    pub fn done(self) {
        self.decide(Decision::Done);
    }

    /// It is not done, and is to be called again after `after`; it counts as an attempt.
    pub fn nack(self, after: Duration) {
        self.decide(Decision::redeliver_after(after));
    }

    /// What was decided about it.
    pub fn decide(self, decision: Decision) {
        // Nobody waits for it any more if the call failed or was cut off: then the delivery is called again.
        let _ = self.answer.send(decision);
    }
}

impl FromCall for Ack {
    fn from_call(call: &mut Call<'_>) -> Result<Self, BoxError> {
        let ack = call.delivery.as_deref_mut().and_then(|ack| ack.downcast_mut::<Option<Ack>>());
        ack.and_then(Option::take).ok_or_else(|| {
            "this call has no acknowledgment: declare the listener durable, `ack = Manual` and with `.takes_ack()`"
                .into()
        })
    }
}
