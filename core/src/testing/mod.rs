//! What an application's own tests need: a clock they move, a record of what was published and told, a wait
//! for the event that something brings, a store that fails where told.
//!
//! And [`sim`]: whole applications whose runs a seed decides.
//!
//! Tests never sleep: they move the [`MovedClock`] and wait with `bus.idle()`, or with `bus.quiet()` while deliveries wait for their time.

mod clock;
mod faults;
mod recorder;
mod scenario;
pub mod sim;

pub use clock::MovedClock;
pub use faults::{FailingStore, Fault, Stalled, Step};
pub use recorder::Recorder;
pub use scenario::{NotSeen, Scenario};
