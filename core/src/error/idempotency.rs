//! A request that runs once and could not be answered.

use super::BoxError;

/// Why a request that runs once was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// The same request came before with another body: one of them is not what its sender means.
    #[error("request {request} of `{guard}` came before with another body")]
    OtherBody {
        /// The guard's name.
        guard: &'static str,
        /// The request's id: text in quotes, other bytes in hexadecimal.
        request: String,
    },
    /// The body or the answer has no stored form.
    #[error("cannot encode the {what} of request {request} of `{guard}`")]
    Encode {
        /// `body` or `answer`.
        what: &'static str,
        /// The guard's name.
        guard: &'static str,
        /// The request's id.
        request: String,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// The stored answer is none of the type that is asked for: the program has changed since. Nothing was run.
    #[error("cannot decode the stored answer to request {request} of `{guard}`")]
    Decode {
        /// The guard's name.
        guard: &'static str,
        /// The request's id.
        request: String,
        /// Why.
        #[source]
        cause: BoxError,
    },
}
