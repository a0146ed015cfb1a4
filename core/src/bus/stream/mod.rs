//! Events as a stream: in memory as they are committed, or from a position of the log on.
//!
//! Who publishes never waits for who reads. An event type that nobody reads costs its publisher nothing:
//! its table of listeners is the one it had before anybody came.

mod log;
mod mailbox;
mod subscription;

pub use log::{LogEntry, LogStream, StreamError};
pub use mailbox::Lagged;
pub(crate) use subscription::Subscribers;
pub use subscription::Subscription;
