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
use super::pipeline::{CallError, LEVELS, Plan};
use super::policy::Policy;
use super::retry::Next;
use crate::clock::pause;
use crate::error::PolicyError;

/// Calls `call` through the policies of `plan`; `finish` turns what it came to into the answer.
pub(super) async fn call<T, E, C, R>(
    plan: &Plan,
    mut call: impl FnMut() -> C,
    finish: impl Fn(Result<T, CallError<E>>) -> R,
) -> R
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
                    Ok(Ok(value)) if !plan.judges_values => {
                        run.leave_well();
                        return finish(Ok(value));
                    }
                    Ok(answer) => answer.map_err(CallError::Call),
                    Err(cut) => Err(CallError::Policy(run.cut(cut))),
                }
            }
            Err(refused) => Err(CallError::Policy(refused)),
        };
        loop {
            let Some(wait) = run.leave(&mut came) else { return finish(came) };
            match run.pause(wait).await {
                Ok(()) => break,
                Err(cut) => came = Err(CallError::Policy(run.cut(cut))),
            }
        }
    }
}

/// As [`call`], waiting on the calling thread.
pub(super) fn call_blocking<T: 'static, E: 'static, R>(
    plan: &Plan,
    mut call: impl FnMut() -> Result<T, E>,
    finish: impl Fn(Result<T, CallError<E>>) -> R,
) -> R {
    if let Some(limiter) = &plan.limiter {
        return finish(Err(CallError::Policy(PolicyError::CannotStop { limiter: limiter.clone() })));
    }
    let mut run = Run::new(plan);
    loop {
        let entered = match run.enter() {
            Step::In => Ok(()),
            Step::Refused(error) => Err(error),
            Step::Wait(need) => run.block_in(need),
        };
        let mut came = match entered {
            Ok(()) => match call() {
                Ok(value) if !plan.judges_values => {
                    run.leave_well();
                    return finish(Ok(value));
                }
                answer => answer.map_err(CallError::Call),
            },
            Err(refused) => Err(CallError::Policy(refused)),
        };
        let Some(wait) = run.leave(&mut came) else { return finish(came) };
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
    /// The limits that are running, by level; none until a call waits. In a box, as most calls have none and look only for that.
    #[allow(clippy::box_collection)]
    timers: Option<Box<Vec<Timer>>>,
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
        Self { plan, depth: 0, held: [Held(0, 0); LEVELS], timers: None, pausing: false }
    }

    /// Goes in as far as it can without waiting. Inlined, as is the way out: a call that meets nothing costs little more than they do.
    #[inline(always)]
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

    #[inline(never)]
    fn enter_on(&mut self) -> Step {
        self.enter()
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
            need = match self.enter_on() {
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
            need = match self.enter_on() {
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
                && !self.timers.iter().flat_map(|timers| timers.iter()).any(|timer| timer.level == level)
            {
                let (limit, due) = limiter.arm();
                self.timers.get_or_insert_default().push(Timer { level, limit, due });
            }
        }
        let mut timers = self.timers.iter_mut().flat_map(|timers| timers.iter_mut());
        let over = timers.find_map(|timer| match timer.due.as_mut().poll(context) {
            Poll::Ready(()) => Some(Cut { level: timer.level, limit: timer.limit }),
            Poll::Pending => None,
        });
        over.map_or(Poll::Pending, Poll::Ready)
    }

    /// Stops the limits of `level` and of all inside of it.
    fn disarm(&mut self, level: usize) {
        if let Some(timers) = &mut self.timers {
            timers.retain(|timer| timer.level < level);
        }
    }

    /// Leaves everything inside of the limiter whose time is over, and the limiter itself.
    #[cold]
    fn cut(&mut self, cut: Cut) -> PolicyError {
        self.give_back(cut.level);
        self.disarm(cut.level);
        self.pausing = false;
        match &self.plan.levels[cut.level] {
            Policy::TimeLimiter(limiter) => limiter.expired(cut.limit),
            other => PolicyError::TimedOut { limiter: other.name().into(), limit: cut.limit },
        }
    }

    /// Goes out with a value that no policy looks at: all the way.
    #[inline(always)]
    fn leave_well(&mut self) {
        while self.depth > 0 {
            self.depth -= 1;
            match &self.plan.levels[self.depth] {
                Policy::Fallback(_) | Policy::RateLimiter(_) | Policy::TimeLimiter(_) => {}
                Policy::Bulkhead(bulkhead) => bulkhead.leave(),
                Policy::CircuitBreaker(breaker) => breaker.record(self.admission(self.depth), false),
                Policy::Retry(retry) => retry.succeeded(self.held[self.depth].0 as u32),
            }
        }
    }

    /// Goes out with what the call came to; answers how long to wait if a retry makes it again, from within that retry on.
    fn leave<T: 'static, E: 'static>(&mut self, came: &mut Result<T, CallError<E>>) -> Option<Duration> {
        while self.depth > 0 {
            let level = self.depth - 1;
            match &self.plan.levels[level] {
                Policy::RateLimiter(_) => {}
                Policy::Bulkhead(bulkhead) => bulkhead.leave(),
                Policy::TimeLimiter(_) => self.disarm(level),
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
    #[inline]
    pub(super) fn new(plan: &Plan, arguments: A) -> Self {
        match plan.retries {
            true => Again::Cloned(arguments),
            false => Again::Once(Some(arguments)),
        }
    }

    #[inline]
    pub(super) fn take(&mut self) -> A {
        match self {
            Again::Cloned(arguments) => arguments.clone(),
            Again::Once(arguments) => arguments.take().expect("without a retry a pipeline makes one call"),
        }
    }
}
