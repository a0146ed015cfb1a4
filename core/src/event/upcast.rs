//! One step of an event's evolution: a body of one version becomes one of the next.
//!
//! A step is a function from what the old body was to what the new one is: of an old struct that is kept for this, or of a
//! `serde_json::Value` that is changed in place. It runs when an old event is read, and never touches what is stored.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;

/// A step from one version of an event's stored form to the next.
#[derive(Debug, Clone, Copy)]
pub struct Upcast {
    /// The version it takes; what it gives is one more.
    pub from: u32,
    /// Makes a body of the next version: `|body| upcast(body, in_cents)`, or a function of the codec's bytes.
    pub step: fn(&[u8]) -> Result<Vec<u8>, BoxError>,
}

/// Brings a JSON body to its next version with `step`, a function from the old form to the new one or to a `Result` of it.
///
/// Either form is any type with serde's traits; `serde_json::Value` is one.
///
/// # Errors
/// If the body is not of the old form, or `step` says no.
///
/// ```
/// use aftercommit::event::upcast;
/// use serde_json::{Value, json};
///
/// fn with_currency(mut old: Value) -> Value {
///     old["currency"] = json!("EUR");
///     old
/// }
///
/// let body = upcast(br#"{"cents":5}"#, with_currency)?;
/// assert_eq!(serde_json::from_slice::<Value>(&body)?, json!({"cents": 5, "currency": "EUR"}));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn upcast<Old, New, Form>(body: &[u8], step: impl FnOnce(Old) -> New) -> Result<Vec<u8>, BoxError>
where
    Old: DeserializeOwned,
    New: Upcasted<Form>,
{
    step(serde_json::from_slice(body)?).into_body()
}

/// What a step may answer: the new form, or a `Result` of it with an error that is no stored form itself.
#[diagnostic::on_unimplemented(
    message = "a step to the next version cannot answer `{Self}`",
    label = "not the next version of an event",
    note = "it answers what the next version is stored as, with serde's `Serialize` and `Deserialize`, or a `Result` of it whose error is no stored form"
)]
pub trait Upcasted<Form> {
    /// The body of the next version.
    ///
    /// # Errors
    /// The step's own, or that it cannot be written.
    fn into_body(self) -> Result<Vec<u8>, BoxError>;
}

/// The answer of a step that always succeeds.
#[derive(Debug)]
pub enum Plain {}

/// The answer of a step that may fail.
#[derive(Debug)]
pub enum Fallible {}

impl<New: Serialize + DeserializeOwned> Upcasted<Plain> for New {
    fn into_body(self) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(&self)?)
    }
}

impl<New: Serialize, Error: Into<BoxError>> Upcasted<Fallible> for Result<New, Error> {
    fn into_body(self) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(&self.map_err(Into::into)?)?)
    }
}
