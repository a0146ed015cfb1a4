//! Which errors of a durable listener are worth another call.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::decision::Decision;
use super::redeliver::Redeliver;

/// Rules that tell errors apart. Without any, every error is worth another call.
///
/// A rule for a type matches an error of that type, and one that has it among its causes (`source()`).
/// Of the rules that match, the first of these kinds decides, in whatever order they were declared:
/// [`stop_on`](Self::stop_on), [`never_on`](Self::never_on), [`redeliver_as`](Self::redeliver_as),
/// [`redeliver_on`](Self::redeliver_on) and [`redeliver_if`](Self::redeliver_if).
/// If there are rules of the last kind and none matches, the error is worth no other call.
///
/// The rules of a listener are asked first, then those of the bus.
///
/// ```
/// use std::time::Duration;
/// use aftercommit::listener::{ErrorRules, Redeliver, fixed};
///
/// let rules = ErrorRules::new()
///     .redeliver_as::<std::io::Error>(Redeliver::new().attempts(3).backoff(fixed(Duration::from_secs(1))))
///     .never_on::<std::num::ParseIntError>();
/// # let _ = rules;
/// ```
#[derive(Debug, Clone, Default)]
pub struct ErrorRules {
    stop: Vec<Kind>,
    never: Vec<Kind>,
    special: Vec<(Kind, Redeliver)>,
    only: Vec<Kind>,
    restart_on_change: bool,
}

/// Errors of one kind.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    matches: Arc<Matches>,
}

type Matches = dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync;

impl fmt::Debug for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

impl Kind {
    fn of<E: StdError + 'static>() -> Self {
        let matches = |error: &(dyn StdError + 'static)| chain(error).any(|one| one.is::<E>());
        Self { name: std::any::type_name::<E>(), matches: Arc::new(matches) }
    }
}

/// An error and its causes.
pub(crate) fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// What the rules say of an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Class {
    /// It is called again, by the listener's own policy.
    Redeliver,
    /// It is called again, by the policy of its kind.
    As(&'static str, Redeliver),
    /// Another call is of no use.
    Never,
    /// The listener must stop.
    Stop(&'static str),
}

impl ErrorRules {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only errors of this type, and of the other types and predicates said so, are worth another call.
    pub fn redeliver_on<E: StdError + 'static>(mut self) -> Self {
        self.only.push(Kind::of::<E>());
        self
    }

    /// Only errors that meet `predicate`, and those of the types said so, are worth another call.
    pub fn redeliver_if(
        mut self,
        predicate: impl Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.only.push(Kind { name: "a predicate", matches: Arc::new(predicate) });
        self
    }

    /// Errors of this type are worth no other call, whatever else is said of them.
    pub fn never_on<E: StdError + 'static>(mut self) -> Self {
        self.never.push(Kind::of::<E>());
        self
    }

    /// After an error of this type the listener stops and tells: nothing is parked, the event stays owed.
    pub fn stop_on<E: StdError + 'static>(mut self) -> Self {
        self.stop.push(Kind::of::<E>());
        self
    }

    /// Errors of this type are called again by a policy of their own.
    pub fn redeliver_as<E: StdError + 'static>(mut self, policy: Redeliver) -> Self {
        self.special.push((Kind::of::<E>(), policy));
        self
    }

    /// Counts attempts anew when the policy changes with the kind of the error.
    ///
    /// Left out, the count goes on, so that errors that alternate come to an end.
    pub fn restart_on_change(mut self) -> Self {
        self.restart_on_change = true;
        self
    }

    pub(crate) fn restarts_on_change(&self) -> bool {
        self.restart_on_change
    }

    /// The first policy that cannot work, with the reason.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.special.iter().try_for_each(|(_, policy)| policy.check())
    }

    fn matching(&self, error: &(dyn StdError + 'static)) -> Option<Class> {
        let is = |kind: &&Kind| (kind.matches)(error);
        if let Some(kind) = self.stop.iter().find(is) {
            return Some(Class::Stop(kind.name));
        }
        if self.never.iter().any(|kind| is(&kind)) {
            return Some(Class::Never);
        }
        if let Some((kind, policy)) = self.special.iter().find(|(kind, _)| is(&kind)) {
            return Some(Class::As(kind.name, *policy));
        }
        self.only.iter().any(|kind| is(&kind)).then_some(Class::Redeliver)
    }
}

/// What `own` rules, then those of `all` listeners, say of `error`.
pub(crate) fn classify(own: &ErrorRules, all: &ErrorRules, error: &(dyn StdError + 'static)) -> Class {
    let otherwise = if own.only.is_empty() && all.only.is_empty() { Class::Redeliver } else { Class::Never };
    own.matching(error).or_else(|| all.matching(error)).unwrap_or(otherwise)
}

/// The decision that a listener answered with as an error, or wrapped in one of its own.
pub(crate) fn decision<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Decision> {
    chain(error).find_map(|one| one.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a")]
    struct A;

    #[derive(Debug, thiserror::Error)]
    #[error("b")]
    struct B(#[source] A);

    fn says(own: ErrorRules, all: ErrorRules, error: impl StdError + 'static) -> Class {
        classify(&own, &all, &error)
    }

    #[test]
    fn the_stricter_kind_of_rule_decides_also_by_a_cause() {
        let rules = ErrorRules::new;
        assert_eq!(says(rules(), rules(), A), Class::Redeliver, "without rules all are called again");
        assert_eq!(says(rules().redeliver_on::<A>(), rules(), B(A)), Class::Redeliver);
        assert_eq!(says(rules().redeliver_on::<B>(), rules(), A), Class::Never);
        assert_eq!(says(rules().redeliver_on::<B>().never_on::<A>(), rules(), B(A)), Class::Never);
        assert_eq!(
            says(rules().redeliver_on::<B>().redeliver_if(|error| error.to_string() == "a"), rules(), A),
            Class::Redeliver
        );
        assert!(matches!(says(rules().never_on::<B>().stop_on::<A>(), rules(), B(A)), Class::Stop(_)));
        let once = Redeliver::new().attempts(1);
        assert!(matches!(says(rules().redeliver_as::<A>(once), rules(), B(A)), Class::As(_, policy) if policy == once));
    }

    #[test]
    fn a_listeners_own_rules_come_before_those_of_the_bus() {
        let rules = ErrorRules::new;
        assert_eq!(says(rules().redeliver_on::<A>(), rules().never_on::<A>(), A), Class::Redeliver);
        assert_eq!(says(rules().redeliver_on::<B>(), rules().redeliver_on::<A>(), A), Class::Redeliver);
        assert_eq!(says(rules(), rules().never_on::<A>(), B(A)), Class::Never);
    }
}
