//! Which answers of a call matter to a policy.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::{BoxError, Error, PolicyError};

/// Rules that tell answers apart: which errors count, and which values are none.
///
/// A rule names a type. One without a predicate meets an error of that type, and, where the call answers with a boxed error or with
/// [`aftercommit::Error`](crate::Error), one that has it among its causes; one with a predicate meets the call's own error type. Rules that say no beat rules that say yes; if there is a rule
/// that says yes, only what it meets counts. Without rules every error counts, and no value.
///
/// What the policies around a call answered is not for these rules: a call that was cut short counts, one that was never made does not.
///
/// ```
/// use aftercommit::resilience::Rules;
///
/// #[derive(Debug)]
/// enum GatewayError { Down, Declined }
///
/// let rules = Rules::new().when(|error: &GatewayError| matches!(error, GatewayError::Down));
/// # let _ = rules;
/// ```
#[derive(Clone, Default)]
pub struct Rules {
    only: Vec<Matcher>,
    never: Vec<Matcher>,
    values: Vec<Matcher>,
}

type Matcher = Arc<dyn Fn(&dyn Any) -> bool + Send + Sync>;

impl fmt::Debug for Rules {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { only, never, values } = self;
        write!(out, "Rules {{ only: {}, never: {}, values: {} }}", only.len(), never.len(), values.len())
    }
}

impl Rules {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Errors of this type count.
    pub fn on<E: StdError + 'static>(self) -> Self {
        self.only(by_type::<E>())
    }

    /// Errors of this type that meet `predicate` count.
    pub fn when<E: 'static>(self, predicate: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.only(by_predicate(predicate))
    }

    /// Errors of this type do not count, whatever else is said of them.
    pub fn never_on<E: StdError + 'static>(self) -> Self {
        self.never(by_type::<E>())
    }

    /// Errors of this type that meet `predicate` do not count, whatever else is said of them.
    pub fn never_when<E: 'static>(self, predicate: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.never(by_predicate(predicate))
    }

    /// Values of this type that meet `predicate` count as if they were errors.
    pub fn when_value<T: 'static>(mut self, predicate: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.values.push(Arc::new(move |value| value.downcast_ref().is_some_and(&predicate)));
        self
    }

    fn only(mut self, matcher: Matcher) -> Self {
        self.only.push(matcher);
        self
    }

    fn never(mut self, matcher: Matcher) -> Self {
        self.never.push(matcher);
        self
    }

    /// Whether an error of the call itself counts.
    pub(crate) fn counts(&self, error: &dyn Any) -> bool {
        let meets = |rules: &[Matcher]| rules.iter().any(|rule| rule(error));
        !meets(&self.never) && (self.only.is_empty() || meets(&self.only))
    }

    #[inline]
    pub(crate) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// Whether a value counts as an error.
    pub(crate) fn counts_value(&self, value: &dyn Any) -> bool {
        self.values.iter().any(|rule| rule(value))
    }
}

fn by_type<E: StdError + 'static>() -> Matcher {
    Arc::new(|error| find::<E>(error).is_some())
}

fn by_predicate<E: 'static>(predicate: impl Fn(&E) -> bool + Send + Sync + 'static) -> Matcher {
    Arc::new(move |error| error.downcast_ref().is_some_and(&predicate))
}

/// The error of this type that `error` is, or has among its causes where these can be asked for.
pub(crate) fn find<E: StdError + 'static>(error: &dyn Any) -> Option<&E> {
    error.downcast_ref::<E>().or_else(|| chain(error).find_map(|cause| cause.downcast_ref()))
}

/// How many causes lie between `error` and the one of this type.
pub(crate) fn depth<E: StdError + 'static>(error: &dyn Any) -> usize {
    if error.is::<E>() { 0 } else { chain(error).position(|cause| cause.is::<E>()).unwrap_or(usize::MAX) }
}

/// An error and its causes, where these can be asked for.
fn chain(error: &dyn Any) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let boxed = error.downcast_ref::<BoxError>().map(|error| &**error as &(dyn StdError + 'static));
    let ours = || error.downcast_ref::<Error>().map(|error| error as &(dyn StdError + 'static));
    std::iter::successors(boxed.or_else(ours), |error| (**error).source())
}

/// What a call came to, as policies see it.
pub(crate) enum Came<'a> {
    Value(&'a dyn Any),
    Error(&'a dyn Any),
    Policy(&'a PolicyError),
}
