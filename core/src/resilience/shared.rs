//! Circuit breakers of several processes that lead to one dependency, and what they tell each other.
//!
//! Each breaker goes by its own outcomes first: whoever sees the dependency fail opens, alone. Through a [`BreakerBoard`] the
//! processes post whether they have opened by their own outcomes. When enough of those who are alive have, the others open too, before
//! each of them has paid for it with failures of its own. A process counts once it has posted. One process never opens another's breaker: its network may be what is bad.
//! Who was opened by the others lets trials through after its own time, as ever, and goes by what they come to.
//!
//! The port is for a store that the processes share. If it cannot be reached, nothing changes: each goes by its own outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::circuit_breaker::{CircuitBreaker, State};
use super::event::Happened;
use crate::clock::{Clock, Timestamp};
use crate::error::{BoxError, InvalidPolicy};

/// Where processes tell each other how their circuit breakers are: one post for each breaker and process, the last one.
pub trait BreakerBoard: Send + Sync + 'static {
    /// Puts `post` in the place of what its process posted of its breaker before.
    fn post(&self, post: Post) -> BoxFuture<'_, Result<(), BoxError>>;

    /// What all processes posted of `breaker`, old posts too.
    fn posts<'a>(&'a self, breaker: &'a str) -> BoxFuture<'a, Result<Vec<Post>, BoxError>>;
}

/// What one process says of its breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The breaker's name.
    pub breaker: String,
    /// The process.
    pub node: String,
    /// When its own outcomes last opened it, until they close it; `None` if it is closed, or was opened by the others.
    pub opened_at: Option<Timestamp>,
    /// When this was said; the process counts as alive for a while from then on.
    pub at: Timestamp,
}

/// A board in memory: the readable reference, and for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryBoard(Arc<Mutex<BTreeMap<(String, String), Post>>>);

impl BreakerBoard for MemoryBoard {
    fn post(&self, post: Post) -> BoxFuture<'_, Result<(), BoxError>> {
        self.0.lock().insert((post.breaker.clone(), post.node.clone()), post);
        Box::pin(std::future::ready(Ok(())))
    }

    fn posts<'a>(&'a self, breaker: &'a str) -> BoxFuture<'a, Result<Vec<Post>, BoxError>> {
        let posts = self.0.lock().values().filter(|post| post.breaker == breaker).cloned().collect();
        Box::pin(std::future::ready(Ok(posts)))
    }
}

/// When the breakers of others open this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SharedSettings {
    /// This process's name, which no other has.
    pub node: String,
    /// Which share of the processes that are alive must have opened theirs, this one counted; more than it. 0.5 by default.
    pub share: f64,
    /// How many processes must have opened theirs in any case; 2 by default, and never fewer.
    pub at_least: usize,
    /// For how long a process counts as alive after its last post; 30 s by default.
    #[serde(with = "crate::clock::span")]
    pub alive_for: Duration,
}

impl SharedSettings {
    /// The defaults, for the process of this name.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), share: 0.5, at_least: 2, alive_for: Duration::from_secs(30) }
    }

    /// More than this share of the living must have opened theirs.
    pub fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// So many must have opened theirs in any case.
    pub fn at_least(mut self, count: usize) -> Self {
        self.at_least = count;
        self
    }

    /// A process counts as alive for so long after its last post.
    pub fn alive_for(mut self, time: Duration) -> Self {
        self.alive_for = time;
        self
    }

    fn check(&self) -> Result<(), String> {
        if self.node.is_empty() {
            return Err("its process has no name: give it one that no other has".to_owned());
        }
        if !(0.0..1.0).contains(&self.share) {
            return Err("its share is a fraction: give it one from 0.0 to below 1.0".to_owned());
        }
        if self.at_least < 2 {
            return Err("one process alone would open all others: let it be 2 or more".to_owned());
        }
        if self.alive_for.is_zero() {
            return Err("no process is alive for no time: give it some".to_owned());
        }
        Ok(())
    }
}

/// A circuit breaker whose state is shared with those of other processes.
///
/// ```
/// use aftercommit::resilience::{BreakerSettings, CircuitBreaker, MemoryBoard, SharedBreaker, SharedSettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let gateway = CircuitBreaker::new("gateway", BreakerSettings::new())?;
/// let board = MemoryBoard::default(); // your own, on what the processes share
/// let shared = SharedBreaker::new(gateway, board, SharedSettings::new("shop-1"))?;
/// shared.exchange().await?; // or `tokio::spawn(shared.run(Duration::from_secs(1)))`
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedBreaker {
    breaker: CircuitBreaker,
    board: Arc<dyn BreakerBoard>,
    settings: SharedSettings,
    seen: Arc<Mutex<Seen>>,
}

/// What became of the breaker so far.
#[derive(Debug, Default)]
struct Seen {
    /// When its own outcomes last opened it, until they close it.
    opened_at: Option<Timestamp>,
    /// When its own outcomes last closed it: who opened before that tells nothing new.
    closed_at: Option<Timestamp>,
    /// The others are opening it right now.
    outvoted: bool,
}

impl SharedBreaker {
    /// Shares `breaker` with those of its name in other processes. Nothing is exchanged before it is asked for.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(
        breaker: CircuitBreaker,
        board: impl BreakerBoard,
        settings: SharedSettings,
    ) -> Result<Self, InvalidPolicy> {
        settings
            .check()
            .map_err(|reason| InvalidPolicy::new(format!("shared circuit breaker `{}`", breaker.name()), reason))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (watched, clock) = (Arc::downgrade(&seen), breaker.clock().clone());
        breaker.hear(Arc::new(move |event| {
            if let (Happened::Moved { from, to }, Some(seen)) = (&event.what, watched.upgrade()) {
                seen.lock().moved(*from, *to, clock.now());
            }
        }));
        Ok(Self { breaker, board: Arc::new(board), settings, seen })
    }

    /// The breaker.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// Says how it is and hears how the others are: opens it if enough of them are open. Answers whether that opened it.
    ///
    /// # Errors
    /// The board's; then nothing has changed.
    pub async fn exchange(&self) -> Result<bool, BoxError> {
        let now = self.clock().now();
        let opened_at = self.seen.lock().opened_at;
        let (breaker, node) = (self.breaker.name().to_owned(), self.settings.node.clone());
        self.board.post(Post { breaker, node, opened_at, at: now }).await?;
        let posts = self.board.posts(self.breaker.name()).await?;
        let alive: Vec<&Post> = posts.iter().filter(|post| now.since(post.at) < self.settings.alive_for).collect();
        let mut seen = self.seen.lock();
        let is_news = |opened: Timestamp| seen.closed_at.is_none_or(|closed| opened > closed);
        let open = alive.iter().filter(|post| post.opened_at.is_some_and(is_news)).count();
        let enough = open >= self.settings.at_least && open as f64 > alive.len() as f64 * self.settings.share;
        if !enough {
            return Ok(false);
        }
        // One step: what it came to by itself or was told meanwhile stays.
        let Some(moved) = self.breaker.open_if_closed() else { return Ok(false) };
        seen.outvoted = true;
        drop(seen);
        self.breaker.happened(Happened::Outvoted { open, of: alive.len() });
        self.breaker.tell(Some(moved));
        self.seen.lock().outvoted = false;
        Ok(true)
    }

    /// Exchanges without end, so often; what the board fails with changes nothing. Ends when it is dropped.
    pub async fn run(self, every: Duration) {
        loop {
            // Each goes by its own outcomes while the board cannot be reached.
            let _ = self.exchange().await;
            self.clock().sleep(every).await;
        }
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.breaker.clock()
    }
}

impl Seen {
    fn moved(&mut self, from: State, to: State, now: Timestamp) {
        match (from, to) {
            (_, State::Closed) => (self.opened_at, self.closed_at) = (None, Some(now)),
            (_, State::Open) if self.outvoted => {}
            // Its trials failed, or its calls did.
            (_, State::Open) => self.opened_at = Some(now),
            (State::Open, State::HalfOpen) => {}
            _ => self.opened_at = None,
        }
    }
}

impl std::fmt::Debug for SharedBreaker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SharedBreaker").field("breaker", &self.breaker).field("settings", &self.settings).finish()
    }
}
