//! Why a stored event cannot be read.

use super::BoxError;

/// Why this program cannot read a stored event. The event stays stored: it parks, or a stream tells of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is stored under a name that its listener's event does not have, and never had as far as was said.
    #[error(
        "it is stored as `{name}`, which is no name of `{known}`: if that was its name before, say `formerly = [\"{name}\"]`"
    )]
    UnknownName {
        /// The stored name.
        name: String,
        /// The name of the event that its listener takes.
        known: &'static str,
    },
    /// A newer program stored it.
    #[error("`{name}` is stored in version {version}, newer than the {known} this program knows")]
    Newer {
        /// The stored name.
        name: String,
        /// The stored version.
        version: u32,
        /// The newest version that is known.
        known: u32,
    },
    /// It is older than everything this program still reads.
    #[error("`{name}` is stored in version {version}, older than the {oldest} this program reads")]
    TooOld {
        /// The stored name.
        name: String,
        /// The stored version.
        version: u32,
        /// The oldest version that is read.
        oldest: u32,
    },
    /// Its body is written in a way this program does not know.
    #[error("`{name}` is stored with codec {codec}, which this program does not know")]
    Codec {
        /// The stored name.
        name: String,
        /// The codec's number.
        codec: u8,
    },
    /// No step leads on from its version.
    #[error("no step brings `{name}` from version {from} to the next")]
    NoUpcast {
        /// The stored name.
        name: String,
        /// Where the chain ends.
        from: u32,
    },
    /// A step to the next version failed.
    #[error("`{name}` cannot be brought from version {from} to the next")]
    Upcast {
        /// The stored name.
        name: String,
        /// The version it could not be brought on from.
        from: u32,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// Its body is not what its version says.
    #[error("the body of `{name}`, stored in version {version}, cannot be read")]
    Body {
        /// The stored name.
        name: String,
        /// The stored version.
        version: u32,
        /// Why.
        #[source]
        cause: BoxError,
    },
}
