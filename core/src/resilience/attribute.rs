//! What `#[resilient]` writes calls of; the same can be written by hand with [`Pipeline::call_with`].

use std::future::Future;

use super::pipeline::Pipeline;
use crate::error::PolicyError;

/// An error type that can hold what a policy answers in the place of a call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold what a policy answers in the place of a call",
    label = "there is no `From<PolicyError>` for this error",
    note = "give it a variant for that: `#[error(transparent)] Policy(#[from] aftercommit::error::PolicyError)`"
)]
pub trait HoldsPolicyErrors: From<PolicyError> + 'static {}

impl<E: From<PolicyError> + 'static> HoldsPolicyErrors for E {}

/// What a resilient function answers.
#[diagnostic::on_unimplemented(
    message = "a resilient function answers with a `Result`, and `{Self}` is none",
    label = "a policy may have to answer with an error in its place",
    note = "write `Result<T, E>`, where `E` can hold a `PolicyError`"
)]
pub trait ResilientAnswer {
    /// What it fails with.
    type Error;
}

impl<T: 'static, E: 'static> ResilientAnswer for Result<T, E> {
    type Error = E;
}

/// An argument that another attempt can take again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is taken by value, and another attempt would need it again",
    label = "cannot be cloned",
    note = "take it by reference, or derive `Clone` for it"
)]
pub trait Repeatable: Clone {}

impl<A: Clone> Repeatable for A {}

/// Holds at compile time that `R` is what a resilient function answers.
pub const fn answers<R>()
where
    R: ResilientAnswer,
    R::Error: HoldsPolicyErrors,
{
}

/// Holds at compile time that another attempt can take `A` again.
pub const fn repeatable<A: Repeatable>() {}

/// A fallback that takes the error alone.
pub struct OfError;

/// A fallback that takes the function's arguments and its error.
pub struct OfArguments;

/// A function that answers in the place of a resilient `fn`.
#[diagnostic::on_unimplemented(
    message = "this is no fallback of the function: `{Self}`",
    label = "it must be a `fn` that takes `{Arguments}` and then `{E}`, or `{E}` alone, and answers `{Answer}`",
    note = "a fallback takes what the function takes, `self` included, and then its error; or the error alone"
)]
pub trait FallbackOf<Form, Arguments, E, Answer> {
    /// Answers in its place.
    fn answer(&self, arguments: Arguments, error: E) -> Answer;
}

/// A function that answers in the place of a resilient `async fn`.
#[diagnostic::on_unimplemented(
    message = "this is no fallback of the async function: `{Self}`",
    label = "it must be an `async fn` that takes `{Arguments}` and then `{E}`, or `{E}` alone, and answers `{Answer}`",
    note = "a fallback takes what the function takes, `self` included, and then its error; or the error alone"
)]
pub trait AsyncFallbackOf<Form, Arguments, E, Answer> {
    /// What it waits for.
    type Answering: Future<Output = Answer>;

    /// Answers in its place.
    fn answer(&self, arguments: Arguments, error: E) -> Self::Answering;
}

impl<F, Arguments, E, Answer> FallbackOf<OfError, Arguments, E, Answer> for F
where
    F: Fn(E) -> Answer,
{
    fn answer(&self, _arguments: Arguments, error: E) -> Answer {
        self(error)
    }
}

impl<F, Arguments, E, Answer, Answering> AsyncFallbackOf<OfError, Arguments, E, Answer> for F
where
    F: Fn(E) -> Answering,
    Answering: Future<Output = Answer>,
{
    type Answering = Answering;

    fn answer(&self, _arguments: Arguments, error: E) -> Answering {
        self(error)
    }
}

macro_rules! of_arguments {
    ($($argument:ident)+) => {
        impl<F, $($argument,)+ E, Answer> FallbackOf<OfArguments, ($($argument,)+), E, Answer> for F
        where
            F: Fn($($argument,)+ E) -> Answer,
        {
            #[allow(non_snake_case)]
            fn answer(&self, ($($argument,)+): ($($argument,)+), error: E) -> Answer {
                self($($argument,)+ error)
            }
        }

        impl<F, $($argument,)+ E, Answer, Answering> AsyncFallbackOf<OfArguments, ($($argument,)+), E, Answer> for F
        where
            F: Fn($($argument,)+ E) -> Answering,
            Answering: Future<Output = Answer>,
        {
            type Answering = Answering;

            #[allow(non_snake_case)]
            fn answer(&self, ($($argument,)+): ($($argument,)+), error: E) -> Answering {
                self($($argument,)+ error)
            }
        }
    };
}

of_arguments!(A1);
of_arguments!(A1 A2);
of_arguments!(A1 A2 A3);
of_arguments!(A1 A2 A3 A4);
of_arguments!(A1 A2 A3 A4 A5);
of_arguments!(A1 A2 A3 A4 A5 A6);
of_arguments!(A1 A2 A3 A4 A5 A6 A7);
of_arguments!(A1 A2 A3 A4 A5 A6 A7 A8);

/// The body of a resilient `async fn`.
pub async fn call<A, T, E, C>(pipeline: &Pipeline, arguments: A, call: impl FnMut(A) -> C) -> Result<T, E>
where
    A: Clone,
    T: 'static,
    E: HoldsPolicyErrors,
    C: Future<Output = Result<T, E>>,
{
    pipeline.call_with(arguments, call).await
}

/// The body of a resilient `fn`.
pub fn call_blocking<A, T, E>(pipeline: &Pipeline, arguments: A, call: impl FnMut(A) -> Result<T, E>) -> Result<T, E>
where
    A: Clone,
    T: 'static,
    E: HoldsPolicyErrors,
{
    pipeline.call_blocking_with(arguments, call)
}

/// The answer of a fallback of a `fn`. The fallback comes last, so that what it must take is known when it is looked at.
pub fn fall_back<Answer, Form, A, E, F>(arguments: A, error: E, fallback: F) -> Answer
where
    F: FallbackOf<Form, A, E, Answer>,
{
    fallback.answer(arguments, error)
}

/// The answer of a fallback of an `async fn`.
pub fn fall_back_async<Answer, Form, A, E, F>(arguments: A, error: E, fallback: F) -> F::Answering
where
    F: AsyncFallbackOf<Form, A, E, Answer>,
{
    fallback.answer(arguments, error)
}
