//! What an application's own tests need: a clock they move, a record of what was published and told, a store that fails where told.
//!
//! Tests never sleep: they move the [`MovedClock`] and wait with `bus.idle()`, or with `bus.quiet()` while deliveries wait for their time.

mod clock;
mod faults;
mod recorder;

pub use clock::MovedClock;
pub use faults::{FailingStore, Fault, Step};
pub use recorder::Recorder;
