//! Fallback: an answer in the place of an error.
//!
//! A value with rules for the errors and values of one kind of call. `#[resilient(fallback = ..)]` needs none: there a function is named.

use std::any::{Any, TypeId, type_name};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::event::{Happened, Hearers, Told};
use super::judge::find;
use super::pipeline::CallError;
use super::policy::Kind;
use crate::error::InvalidPolicy;

/// What to answer in the place of an error; clones are the same one.
///
/// Of the rules that meet an error the one whose type stands nearest to it decides: one for the error itself before one for its cause.
/// Among those that stand equally near the first decides. An error that no rule meets stays what it is.
///
/// ```
/// use aftercommit::error::PolicyError;
/// use aftercommit::resilience::{BreakerSettings, Fallback, Pipeline};
///
/// type Failed = Box<dyn std::error::Error + Send + Sync>;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Failed> {
/// let prices = Pipeline::named("prices")
///     .fallback(Fallback::new("last-price").on(|_: &PolicyError| Ok::<u32, Failed>(100)))
///     .circuit_breaker(BreakerSettings::new())
///     .build()?;
/// prices.breaker("prices").expect("it has one").force_open();
/// assert_eq!(prices.call(async || Ok::<u32, Failed>(90)).await?, 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Fallback(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    rules: Vec<Rule>,
    /// The types of the errors and of the calls that rules were written for.
    types: Vec<(TypeId, TypeId)>,
    /// A type of errors for which there are two rules.
    twice: Option<&'static str>,
    hearers: Hearers,
}

/// How near the rule stands to what a call came to, and its answer; `None` if it does not meet it.
type Rule = Arc<dyn Fn(&dyn Any) -> Option<(usize, Answer)> + Send + Sync>;

/// Puts itself where the error was.
type Answer = Box<dyn FnOnce(&mut dyn Any)>;

impl Fallback {
    /// A fallback without rules: every error stays what it is.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            rules: Vec::new(),
            types: Vec::new(),
            twice: None,
            hearers: Hearers::default(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Answers in the place of an error of type `C`, of one that has it among its causes, or of what a policy answered if that is `C`.
    pub fn on<C, T, E>(self, answer: impl Fn(&C) -> Result<T, E> + Send + Sync + 'static) -> Self
    where
        C: StdError + 'static,
        T: 'static,
        E: 'static,
    {
        let types = (TypeId::of::<C>(), TypeId::of::<Result<T, E>>());
        self.rule(Some((types, type_name::<C>())), move |came| {
            let Err(error) = came.downcast_ref::<Result<T, CallError<E>>>()? else { return None };
            let found: &C = match error {
                CallError::Policy(error) => (error as &dyn Any).downcast_ref()?,
                CallError::Call(error) => find(error)?,
            };
            Some((depth::<C, E>(error), boxed(answer(found))))
        })
    }

    /// Answers in the place of an error of the call that meets `predicate`.
    pub fn when<T, E>(
        self,
        predicate: impl Fn(&E) -> bool + Send + Sync + 'static,
        answer: impl Fn(&E) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        T: 'static,
        E: 'static,
    {
        self.rule(None, move |came| match came.downcast_ref::<Result<T, CallError<E>>>()? {
            Err(CallError::Call(error)) if predicate(error) => Some((0, boxed(answer(error)))),
            _ => None,
        })
    }

    fn rule(
        self,
        types: Option<((TypeId, TypeId), &'static str)>,
        rule: impl Fn(&dyn Any) -> Option<(usize, Answer)> + Send + Sync + 'static,
    ) -> Self {
        let (mut rules, mut known, mut twice) = (self.0.rules.clone(), self.0.types.clone(), self.0.twice);
        rules.push(Arc::new(rule));
        if let Some((types, name)) = types {
            if known.contains(&types) {
                twice = twice.or(Some(name));
            }
            known.push(types);
        }
        Self(Arc::new(Inner { name: self.0.name.clone(), rules, types: known, twice, hearers: Hearers::default() }))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn check(&self) -> Result<(), InvalidPolicy> {
        match self.0.twice {
            None => Ok(()),
            Some(name) => Err(InvalidPolicy::new(
                format!("fallback `{}`", self.0.name),
                format!("it has two answers to errors of type `{name}` in one kind of call: leave one of them out"),
            )),
        }
    }

    /// Tells `told` what happens in it out of the ordinary from now on.
    pub fn hear(&self, told: Told) {
        self.0.hearers.add(told, false);
    }

    /// Puts the answer of the nearest rule in the place of an error.
    #[cold]
    pub(crate) fn answer<T: 'static, E: 'static>(&self, came: &mut Result<T, CallError<E>>) {
        let met = self.0.rules.iter().filter_map(|rule| rule(came));
        let nearest = met.min_by_key(|(depth, _)| *depth);
        if let Some((_, answer)) = nearest {
            answer(came);
            self.0.hearers.tell(Kind::Fallback, &self.0.name, || Happened::FellBack);
        }
    }
}

/// How many causes lie between what a call came to and its cause of type `C`.
fn depth<C: StdError + 'static, E: 'static>(error: &CallError<E>) -> usize {
    match error {
        CallError::Policy(_) => 0,
        CallError::Call(error) => super::judge::depth::<C>(error),
    }
}

fn boxed<T: 'static, E: 'static>(answer: Result<T, E>) -> Answer {
    Box::new(move |place| {
        if let Some(place) = place.downcast_mut::<Result<T, CallError<E>>>() {
            *place = answer.map_err(CallError::Call);
        }
    })
}

impl fmt::Debug for Fallback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fallback").field("name", &self.0.name).field("rules", &self.0.rules.len()).finish()
    }
}
