//! Technologies: one folder each, one feature each. Nothing outside names them.

#[cfg(feature = "archive")]
pub mod archive;
#[cfg(any(feature = "sled", feature = "redb", feature = "archive"))]
mod disk;
#[cfg(any(feature = "sled", feature = "redb"))]
mod folder;
#[cfg(any(feature = "sled", feature = "redb", feature = "archive"))]
mod hold;
#[cfg(any(feature = "sled", feature = "redb"))]
mod kind;
pub mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "sled")]
pub mod sled;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(any(feature = "sled", feature = "redb"))]
pub use kind::Kind;
