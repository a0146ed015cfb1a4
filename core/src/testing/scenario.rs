//! Do something, then wait for the event that it is to bring.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::event::Event;

/// Does something to a bus and waits for an event that follows from it, at most for a time on the bus's clock.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::prelude::*;
/// use aftercommit::testing::Scenario;
///
/// #[derive(Event, Clone, Debug)]
/// struct OrderPlaced { order: u64 }
///
/// #[derive(Event, Clone, Debug)]
/// struct StockReserved { order: u64 }
///
/// #[listener(phase = AfterCommit)]
/// fn reserve(event: &OrderPlaced) -> Publish<StockReserved> {
///     Publish(StockReserved { order: event.order })
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().listeners(listed![reserve]).start().await?;
/// let place = async || bus.transaction(async |tx| tx.publish(OrderPlaced { order: 7 })).await;
/// let reserved = Scenario::on(&bus)
///     .within(Duration::from_secs(5))
///     .clean_up(|| println!("the order is taken back"))
///     .expect(place, |event: &StockReserved| event.order == 7)
///     .await?;
/// assert_eq!(reserved.order, 7);
/// # Ok(())
/// # }
/// ```
#[must_use = "a scenario does nothing until it is told what to expect"]
pub struct Scenario<'a> {
    bus: &'a Bus,
    within: Duration,
    clean_up: CleanUp,
}

/// What is done at the end, however it comes: the last first.
#[derive(Default)]
struct CleanUp(Vec<Box<dyn FnOnce() + Send>>);

impl Drop for CleanUp {
    fn drop(&mut self) {
        while let Some(clean_up) = self.0.pop() {
            clean_up();
        }
    }
}

/// Why a [`Scenario`] did not see its event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotSeen<X: std::error::Error + 'static> {
    /// What was to bring it failed.
    #[error("what was to bring the event failed")]
    Stimulus(#[source] X),
    /// None came that matches.
    #[error("no `{event}` that matches came within {within:?}; of this type came {others}")]
    InTime {
        /// The event's name.
        event: &'static str,
        /// How long was waited.
        within: Duration,
        /// How many of its type came that do not match, those that were missed included.
        others: u64,
    },
    /// The bus stopped first.
    #[error("the bus stopped before a `{event}` came that matches")]
    Stopped {
        /// The event's name.
        event: &'static str,
    },
}

impl<'a> Scenario<'a> {
    /// A scenario on `bus` that waits 10 seconds and cleans up nothing.
    pub fn on(bus: &'a Bus) -> Self {
        Self { bus, within: Duration::from_secs(10), clean_up: CleanUp::default() }
    }

    /// Waits at most so long, on the bus's clock, from when the stimulus is done.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Does this at the end, whether or not the event came, and also if the scenario is dropped; the one said last comes first.
    pub fn clean_up(mut self, clean_up: impl FnOnce() + Send + 'static) -> Self {
        self.clean_up.0.push(Box::new(clean_up));
        self
    }

    /// Does `stimulus`, and answers the first event of type `E` that `matches`, published from then on and committed.
    ///
    /// What is to be verified of it follows where this answers `Ok`.
    ///
    /// # Errors
    /// [`NotSeen`]. An event of another type is not waited for.
    pub async fn expect<E: Event + Clone, T, X: std::error::Error + 'static>(
        self,
        stimulus: impl AsyncFnOnce() -> Result<T, X>,
        matches: impl Fn(&E) -> bool,
    ) -> Result<Arc<E>, NotSeen<X>> {
        let Self { bus, within, clean_up: _clean_up } = self;
        // Before the stimulus, so that nothing it brings is missed.
        let mut events = bus.subscribe::<E>();
        stimulus().await.map_err(NotSeen::Stimulus)?;
        let timeout = bus.core.clock().sleep(within);
        let mut others = 0;
        let seen = async {
            loop {
                match events.next().await {
                    Some(Ok(event)) if matches(&event) => return Some(event),
                    Some(Ok(_)) => others += 1,
                    Some(Err(lagged)) => others += lagged.missed,
                    None => return None,
                }
            }
        };
        tokio::select! {
            // What came in time counts, also if the time has passed since.
            biased;
            seen = seen => seen.ok_or(NotSeen::Stopped { event: E::name() }),
            () = timeout => Err(NotSeen::InTime { event: E::name(), within, others }),
        }
    }
}

impl fmt::Debug for Scenario<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Scenario").field("within", &self.within).finish_non_exhaustive()
    }
}
