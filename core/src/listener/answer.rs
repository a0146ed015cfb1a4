//! What a listener may answer.

use crate::error::BoxError;
use crate::transaction::{Answered, Reply};

/// A listener's answer: nothing, a settled delivery, or events to publish.
///
/// Events are published once all siblings of the listener ran: in the same unit of work where there is one, else in one of their own.
#[diagnostic::on_unimplemented(
    message = "a listener cannot answer `{Self}`",
    label = "not an answer",
    note = "a listener answers `()`, `Settled`, `Decision`, `Publish<E>`, an `Option` or `Vec` of `Publish<E>`, or a `Result` of one of these whose error converts into `Box<dyn Error + Send + Sync>`: any `std::error::Error`, `String` or `&str`"
)]
pub trait IntoAnswer {
    /// Whether the answer can bring events.
    const REPLIES: bool;

    /// Whether the answer can be an error.
    const CAN_FAIL: bool = true;

    /// Whether the answer decides about a delivery, which only a durable listener has.
    const DECIDES: bool = false;

    /// The answer in its common form.
    fn into_answer(self) -> Answered;
}

/// An event that a listener answers with, to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<E>(pub E);

/// The proof that a delivery has been settled; `Delivery` gives it.
#[derive(Debug)]
#[must_use = "a listener with a `Delivery` answers with this"]
pub struct Settled {
    pub(crate) _given_by_delivery: (),
}

/// What a listener with a `Delivery` must answer.
#[diagnostic::on_unimplemented(
    message = "a listener with a `Delivery` must answer `Settled`, not `{Self}`",
    label = "does not say that the delivery is settled",
    note = "answer `Settled` or `Result<Settled, _>`, with what `delivery.settle(async |tx| ..)` or `delivery.done()` gives"
)]
pub trait SettlesDelivery: IntoAnswer {}

impl SettlesDelivery for Settled {}
impl<E> SettlesDelivery for Result<Settled, E> where E: Into<BoxError> {}

impl IntoAnswer for () {
    const REPLIES: bool = false;
    const CAN_FAIL: bool = false;

    #[inline]
    fn into_answer(self) -> Answered {
        Ok(None)
    }
}

impl IntoAnswer for Settled {
    const REPLIES: bool = false;

    fn into_answer(self) -> Answered {
        Ok(None)
    }
}

impl<A: IntoAnswer, E: Into<BoxError>> IntoAnswer for Result<A, E> {
    const REPLIES: bool = A::REPLIES;
    const DECIDES: bool = A::DECIDES;

    #[inline]
    fn into_answer(self) -> Answered {
        match self {
            Ok(answer) => answer.into_answer(),
            Err(error) => Err(error.into()),
        }
    }
}

impl<E> IntoAnswer for Option<Publish<E>>
where
    Publish<E>: IntoAnswer,
{
    const REPLIES: bool = true;

    fn into_answer(self) -> Answered {
        self.map_or(Ok(None), IntoAnswer::into_answer)
    }
}

/// What an answer came to is an answer: a wrapper around a listener can hand it on.
impl IntoAnswer for Option<Box<dyn Reply>> {
    const REPLIES: bool = true;

    fn into_answer(self) -> Answered {
        Ok(self)
    }
}
