//! One call on its way through a pipeline: in from the outermost policy, and out again with what it came to.
//!
//! The policies are a list, and what a call holds of each stands beside it in a fixed place, so that a call that is let through,
//! does not wait and succeeds allocates nothing. Dropped on the way, it gives back what it holds.

use std::any::Any;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;

use super::circuit_breaker::Admission;
use super::circuit_breaker::machine::Permit;
use super::event::Happened;
use super::judge::Came;
use super::pipeline::{CallError, LEVELS, Plan, Policy};
use super::retry::Next;
use crate::clock::pause;
use crate::error::PolicyError;

/// Calls `call` through the policies of `plan`.
pub(super) async fn call<T, E, C>(plan: &Plan, mut call: impl FnMut() -> C) -> Result<T, CallError<E>>
where
    T: 'static,
    E: 'static,
    C: Future<Output = Result<T, E>>,
{
    let mut run = Run::new(plan);
    loop {
        let entered = match run.enter() {
            Step::In => Ok(()),
            Step::Refused(error) => Err(error),
            Step::Wait(need) => run.wait_in(need).await,
        };
        let mut came = match entered {
            Ok(()) => {
                // The call is gone before anything is given back of what it held.
                let made = {
                    let running = pin!(call());
                    run.watch(running).await
                };
                match made {
                    Ok(answer) => answer.map_err(CallError::Call),
                    Err(cut) => Err(CallError::Policy(run.cut(cut))),
                }
            }
            Err(refused) => Err(CallError::Policy(refused)),
        };
        loop {
            let Some(wait) = run.leave(&mut came) else { return came };
            match run.pause(wait).await {
                Ok(()) => break,
                Err(cut) => came = Err(CallError::Policy(run.cut(cut))),
            }
        }
    }
}

/// As [`call`], waiting on the calling thread.
pub(super) fn call_blocking<T: 'static, E: 'static>(
    plan: &Plan,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, CallError<E>> {
    for level in &plan.levels {
        if let Policy::TimeLimiter(limiter) = level {
            return Err(CallError::Policy(PolicyError::CannotStop { limiter: limiter.name().into() }));
        }
    }
    let mut run = Run::new(plan);
    loop {
        let entered = match run.enter() {
            Step::In => Ok(()),
            Step::Refused(error) => Err(error),
            Step::Wait(need) => run.block_in(need),
        };
        let mut came = match entered {
            Ok(()) => call().map_err(CallError::Call),
            Err(refused) => Err(CallError::Policy(refused)),
        };
        let Some(wait) = run.leave(&mut came) else { return came };
        if !wait.is_zero() {
            pause(&*plan.clock, wait);
        }
        run.pausing = false;
    }
}

/// What a call holds.
struct Run<'a> {
    plan: &'a Plan,
    /// How many levels it is in.
    depth: usize,
    held: [Held; LEVELS],
    /// The limits that are running, by level; none until a call waits.
    timers: Vec<Timer>,
    /// Whether it waits for its next attempt.
    pausing: bool,
}

/// What is held of one level: of a breaker the permit and when it was given, of a retry how many attempts and since when.
#[derive(Clone, Copy)]
struct Held(u64, u64);

struct Timer {
    level: usize,
    limit: Duration,
    due: BoxFuture<'static, ()>,
}

enum Step {
    In,
    Wait(Need),
    Refused(PolicyError),
}

/// What a level must be waited for.
enum Need {
    /// A permit that is there in so many nanoseconds.
    Permit(u64),
    /// A place among those at once.
    Place,
}

/// A time limiter's time is over.
struct Cut {
    level: usize,
    limit: Duration,
}

impl<'a> Run<'a> {
    #[inline]
    fn new(plan: &'a Plan) -> Self {
        Self { plan, depth: 0, held: [Held(0, 0); LEVELS], timers: Vec::new(), pausing: false }
    }

    /// Goes in as far as it can without waiting.
    #[inline]
    fn enter(&mut self) -> Step {
        while let Some(level) = self.plan.levels.get(self.depth) {
            match level {
                Policy::Fallback(_) | Policy::TimeLimiter(_) => {}
                Policy::Retry(_) => self.held[self.depth] = Held(1, 0),
                Policy::CircuitBreaker(breaker) => match breaker.admit() {
                    Ok(admission) => self.held[self.depth] = Held(admission.permit.0, admission.began),
                    Err(error) => return Step::Refused(error),
                },
                Policy::RateLimiter(limiter) => match limiter.reserve(1) {
                    Ok(0) => {}
                    Ok(wait) => return Step::Wait(Need::Permit(wait)),
                    Err(error) => return Step::Refused(error),
                },
                Policy::Bulkhead(bulkhead) => {
                    if !bulkhead.try_take() {
                        return Step::Wait(Need::Place);
                    }
                }
            }
            self.depth += 1;
        }
        Step::In
    }

    /// Waits for what is needed, and goes in all the way.
    #[cold]
    async fn wait_in(&mut self, mut need: Need) -> Result<(), PolicyError> {
        loop {
            let plan = self.plan;
            let waited = match (&plan.levels[self.depth], need) {
                (Policy::RateLimiter(limiter), Need::Permit(wait)) => {
                    let waiting = pin!(limiter.wait(1, wait));
                    self.watch(waiting).await.map(Ok)
                }
                (Policy::Bulkhead(bulkhead), _) => {
                    let waiting = pin!(bulkhead.wait());
                    self.watch(waiting).await
                }
                _ => Ok(Ok(())),
            };
            match waited {
                Ok(came_in) => came_in?,
                Err(cut) => return Err(self.cut(cut)),
            }
            self.depth += 1;
            need = match self.enter() {
                Step::In => return Ok(()),
                Step::Refused(error) => return Err(error),
                Step::Wait(need) => need,
            };
        }
    }

    #[cold]
    fn block_in(&mut self, mut need: Need) -> Result<(), PolicyError> {
        loop {
            match (&self.plan.levels[self.depth], need) {
                (Policy::RateLimiter(limiter), Need::Permit(wait)) => limiter.block(1, wait),
                (Policy::Bulkhead(bulkhead), _) => bulkhead.block()?,
                _ => {}
            }
            self.depth += 1;
            need = match self.enter() {
                Step::In => return Ok(()),
                Step::Refused(error) => return Err(error),
                Step::Wait(need) => need,
            };
        }
    }

    /// Waits for `running`, as long as the time limiters it is in allow.
    #[inline]
    async fn watch<X>(&mut self, mut running: Pin<&mut impl Future<Output = X>>) -> Result<X, Cut> {
        poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => self.poll_limits(context).map(Err),
        })
        .await
    }

    /// Arms the limits that it is in, and asks whether one of them is over.
    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<Cut> {
        for (level, policy) in self.plan.levels[..self.depth].iter().enumerate() {
            if let Policy::TimeLimiter(limiter) = policy
                && !self.timers.iter().any(|timer| timer.level == level)
            {
                let (limit, due) = limiter.arm();
                self.timers.push(Timer { level, limit, due });
            }
        }
        let over = self.timers.iter_mut().find_map(|timer| match timer.due.as_mut().poll(context) {
            Poll::Ready(()) => Some(Cut { level: timer.level, limit: timer.limit }),
            Poll::Pending => None,
        });
        over.map_or(Poll::Pending, Poll::Ready)
    }

    /// Leaves everything inside of the limiter whose time is over, and the limiter itself.
    #[cold]
    fn cut(&mut self, cut: Cut) -> PolicyError {
        self.give_back(cut.level);
        self.timers.retain(|timer| timer.level < cut.level);
        self.pausing = false;
        match &self.plan.levels[cut.level] {
            Policy::TimeLimiter(limiter) => limiter.expired(cut.limit),
            other => PolicyError::TimedOut { limiter: other.name().into(), limit: cut.limit },
        }
    }

    /// Goes out with what the call came to; answers how long to wait if a retry makes it again, from within that retry on.
    #[inline]
    fn leave<T: 'static, E: 'static>(&mut self, came: &mut Result<T, CallError<E>>) -> Option<Duration> {
        while self.depth > 0 {
            let level = self.depth - 1;
            match &self.plan.levels[level] {
                Policy::RateLimiter(_) => {}
                Policy::Bulkhead(bulkhead) => bulkhead.leave(),
                Policy::TimeLimiter(_) if self.timers.is_empty() => {}
                Policy::TimeLimiter(_) => self.timers.retain(|timer| timer.level != level),
                Policy::CircuitBreaker(breaker) => {
                    let admission = self.admission(level);
                    match came {
                        Ok(_) if !breaker.judges_values() => breaker.record(admission, false),
                        _ => breaker.settle(admission, seen(came)),
                    }
                }
                Policy::Retry(retry) => match came {
                    Ok(_) if !retry.judges_values() => retry.succeeded(self.held[level].0 as u32),
                    _ => match retry.next(self.held[level].0 as u32, || self.failing(level), seen(came)) {
                        Next::Keep => {}
                        Next::Exhausted(error) => *came = Err(CallError::Policy(error)),
                        Next::Again(wait) => {
                            self.held[level].0 += 1;
                            self.pausing = true;
                            return Some(wait);
                        }
                    },
                },
                Policy::Fallback(fallback) => {
                    if came.is_err() {
                        fallback.answer(came);
                    }
                }
            }
            self.depth = level;
        }
        None
    }

    /// How long ago the first attempt came back.
    fn failing(&mut self, level: usize) -> Duration {
        let now = self.plan.clock.ticks();
        let Held(_, first) = &mut self.held[level];
        if *first == 0 {
            *first = now;
        }
        Duration::from_nanos(now.saturating_sub(*first))
    }

    /// Waits for the next attempt.
    async fn pause(&mut self, wait: Duration) -> Result<(), Cut> {
        if !wait.is_zero() {
            let sleep = pin!(self.plan.clock.sleep(wait));
            self.watch(sleep).await?;
        }
        self.pausing = false;
        Ok(())
    }

    fn admission(&self, level: usize) -> Admission {
        let Held(permit, began) = self.held[level];
        Admission { permit: Permit(permit), began }
    }

    /// Goes out to `level` without an answer.
    #[cold]
    fn give_back(&mut self, level: usize) {
        let panicking = std::thread::panicking();
        while self.depth > level {
            self.depth -= 1;
            match &self.plan.levels[self.depth] {
                Policy::Bulkhead(bulkhead) => bulkhead.leave(),
                // A call that panicked failed; one that was dropped says nothing.
                Policy::CircuitBreaker(breaker) if panicking => breaker.record(self.admission(self.depth), true),
                Policy::CircuitBreaker(breaker) => breaker.release(self.admission(self.depth)),
                Policy::Retry(retry) if self.pausing => {
                    self.pausing = false;
                    retry.happened(Happened::Cancelled { attempts: self.held[self.depth].0 as u32 - 1 });
                }
                _ => {}
            }
        }
    }
}

impl Drop for Run<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.depth > 0 {
            self.give_back(0);
        }
    }
}

fn seen<T: 'static, E: 'static>(came: &Result<T, CallError<E>>) -> Came<'_> {
    match came {
        Ok(value) => Came::Value(value as &dyn Any),
        Err(CallError::Call(error)) => Came::Error(error),
        Err(CallError::Policy(error)) => Came::Policy(error),
    }
}

/// Arguments for as many attempts as there may be.
pub(super) enum Again<A> {
    /// There is a retry, so that each attempt takes a clone.
    Cloned(A),
    /// One call is all there is.
    Once(Option<A>),
}

impl<A: Clone> Again<A> {
    pub(super) fn new(plan: &Plan, arguments: A) -> Self {
        match plan.levels.iter().any(|level| matches!(level, Policy::Retry(_))) {
            true => Again::Cloned(arguments),
            false => Again::Once(Some(arguments)),
        }
    }

    pub(super) fn take(&mut self) -> A {
        match self {
            Again::Cloned(arguments) => arguments.clone(),
            Again::Once(arguments) => arguments.take().expect("without a retry a pipeline makes one call"),
        }
    }
}
