//! A listener that failed.

use super::BoxError;

/// A listener answered with an error, or panicked.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}` failed on `{event}`")]
#[non_exhaustive]
pub struct ListenerError {
    /// The id of the listener.
    pub listener: String,
    /// The name of the event it was called with.
    pub event: String,
    /// What it answered; [`Panicked`] if it panicked.
    #[source]
    pub cause: BoxError,
}

impl ListenerError {
    /// An error of `listener`, called with `event`.
    pub fn new(listener: impl Into<String>, event: impl Into<String>, cause: BoxError) -> Self {
        Self { listener: listener.into(), event: event.into(), cause }
    }

    /// Whether the listener panicked.
    pub fn is_panic(&self) -> bool {
        self.cause.is::<Panicked>()
    }
}

/// A listener or hook panicked; the message is the panic's own where it was text.
#[derive(Debug, Clone, thiserror::Error)]
#[error("panicked: {message}")]
#[non_exhaustive]
pub struct Panicked {
    /// What the panic said.
    pub message: String,
}

impl Panicked {
    /// The error for what `catch_unwind` caught.
    pub fn from_payload(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without text".to_owned());
        Self { message }
    }
}

/// What an after-phase listener or hook answered when it failed: the outcome of the unit of work stands all the same.
#[derive(Debug, thiserror::Error)]
#[error("{}", after(.who, .event.as_deref(), .phase))]
#[non_exhaustive]
pub struct AfterError {
    /// The id of the listener, or `hook`.
    pub who: String,
    /// The name of the event it was called with; a hook is called with none.
    pub event: Option<String>,
    /// The phase it ran in.
    pub phase: &'static str,
    /// What it answered.
    #[source]
    pub cause: BoxError,
}

impl AfterError {
    /// An error of `who` in `phase`.
    pub fn new(who: impl Into<String>, phase: &'static str, cause: BoxError) -> Self {
        Self { who: who.into(), event: None, phase, cause }
    }

    /// It was called with `event`.
    pub fn on(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }
}

fn after(who: &str, event: Option<&str>, phase: &str) -> String {
    match event {
        Some(event) => format!("listener `{who}` failed on `{event}` in {phase}"),
        None => format!("{who} failed in {phase}"),
    }
}
