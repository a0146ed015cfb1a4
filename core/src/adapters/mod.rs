//! Technologies: one folder each, one feature each. Nothing outside names them.

#[cfg(any(feature = "sled", feature = "redb"))]
mod folder;
#[cfg(any(feature = "sled", feature = "redb"))]
mod kind;
pub mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "sled")]
pub mod sled;

#[cfg(any(feature = "sled", feature = "redb"))]
pub use kind::Kind;
