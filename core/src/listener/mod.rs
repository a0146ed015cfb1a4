//! A listener: a function that is called with an event, and how it wants to be called.
//!
//! [`on`] declares one by hand; `#[listener]` writes the same. What it asks for stands in its [`Descriptor`].
//! Every call of a listener goes through one place, `invoke`; when it is called is decided elsewhere.

mod answer;
mod batch;
mod call;
mod decision;
mod declare;
mod deliver;
mod descriptor;
mod durable;
mod fallback;
mod invoke;
mod list;
mod listeners;
mod redeliver;
mod registry;
mod rules;
mod versions;

pub use crate::clock::{Backoff, exponential, fixed, linear};
pub use answer::{IntoAnswer, Publish, Settled, SettlesDelivery};
pub use batch::{Delivered, FailedAt};
pub use call::{Call, FromCall, State, StopSignal};
pub use decision::Decision;
#[doc(hidden)]
pub use declare::must_settle;
pub use declare::{Declaration, Declared, Linked, Registration, on};
pub use descriptor::{Descriptor, Mode, Need, WithoutTx};
pub use durable::{AckMode, Batch, Durable, Followers, Parking, Sequence, StartAt, WhenFull};
pub use fallback::GivenUp;
pub use redeliver::Redeliver;
pub use rules::ErrorRules;

pub(crate) use call::{About, CallAround, States, Stopper};
pub(crate) use declare::ErasedListener;
pub(crate) use deliver::Deliver;
pub(crate) use invoke::{Bare, BareList, Listener, Observing, lock_for};
pub(crate) use listeners::Listeners;
pub(crate) use registry::{Registry, wire};
pub(crate) use rules::{Class, chain, classify, decision};
