//! Resilience: policies around a call to what may fail, be slow, or be too much.
//!
//! A policy is a value that lives where its dependency lives; clones are the same one. A [`Pipeline`] nests several around a call:
//!
//! ```text
//!  Fallback( Retry( CircuitBreaker( RateLimiter( TimeLimiter( Bulkhead( call ))))))
//!      │        │          │              │             │            └─ so many at once
//!      │        │          │              │             └─ so long per attempt
//!      │        │          │              └─ so many attempts per time
//!      │        │          └─ each attempt is an outcome; while it is open none is made
//!      │        └─ as many attempts as are worth it
//!      └─ an answer in the place of the last error
//! ```
//!
//! which is resilience4j's default nesting. With [`as_written`](PipelineBuilder::as_written) it is another, outermost first.
//! A nesting that defeats itself is refused, or warned about with the reason in numbers ([`Defeat`]).
//!
//! This module knows nothing of the bus, of listeners and of stores. Time and chance come from [`clock`](crate::clock).
//! On the way of a call that succeeds nothing is allocated, a lock is held only to note an outcome, and a clock is read only by a
//! rate limiter, and by a breaker that looks at slow calls or at the outcomes of a time.

#[doc(hidden)]
pub mod attribute;
mod bulkhead;
mod circuit_breaker;
mod defeat;
mod event;
mod fallback;
mod judge;
mod pipeline;
mod policies;
mod policy;
mod rate_limiter;
mod retry;
mod run;
mod settings;
mod shared;
mod sync;
mod time_limiter;

pub use bulkhead::{Bulkhead, BulkheadSettings, Inside};
pub use circuit_breaker::{
    BreakerLook, BreakerPermit, BreakerSettings, CircuitBreaker, OutcomeWindow, Rate, State, Totals,
};
pub use defeat::Defeat;
pub use event::{Happened, PolicyEvent, Told};
pub use fallback::Fallback;
pub use judge::Rules;
pub use pipeline::{CallError, LEVELS, Pipeline, PipelineBuilder};
pub use policies::{Health, Policies, PolicyFile, PolicyHealth};
pub use policy::{Kind, Policy};
pub use rate_limiter::{KeyedRateLimiter, RateLimiter, RateSettings};
pub use retry::{Retry, RetryBudget, RetrySettings};
pub use shared::{BreakerBoard, MemoryBoard, Post, SharedBreaker, SharedSettings};
pub use time_limiter::{TimeLimitSettings, TimeLimiter};
