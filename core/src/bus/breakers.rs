//! Circuit breakers of several processes over one store: the board that they post on is a table.

use std::time::Duration;

use futures::future::BoxFuture;

use super::Bus;
use crate::error::{BoxError, Error};
use crate::resilience::{BreakerBoard, Post};
use crate::store::Durability;
use crate::table::Table;

/// For how long the last post of a process that is gone is kept.
const KEPT: Duration = Duration::from_secs(86_400);

/// The board of shared circuit breakers, as a table of the bus's store: for processes whose buses have one store.
///
/// A post is one small unit of work, which need not be durable: a board that forgets is one that nobody has posted on.
/// Posts that are older than a day are removed as others are read.
///
/// ```
/// use std::time::Duration;
///
/// use aftercommit::bus::StoreBoard;
/// use aftercommit::prelude::*;
/// use aftercommit::resilience::{BreakerSettings, CircuitBreaker, SharedBreaker, SharedSettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let bus = Bus::builder().start().await?;
/// let gateway = CircuitBreaker::new("gateway", BreakerSettings::new())?;
/// let board = StoreBoard::new(&bus, "shop.breakers");
/// let shared = SharedBreaker::new(gateway, board, SharedSettings::new("shop-1"))?;
/// tokio::spawn(shared.run(Duration::from_secs(1)));
/// # Ok(())
/// # }
/// ```
pub struct StoreBoard {
    bus: Bus,
    posts: Table<(String, String), Post>,
}

impl StoreBoard {
    /// The board in the table of this name, the same in each process. It does not keep the bus running; once that is gone, it
    /// cannot be reached.
    ///
    /// # Panics
    /// If the name is empty.
    pub fn new(bus: &Bus, table: &'static str) -> Self {
        Self { bus: Bus { core: bus.core.clone(), running: None, origin: None }, posts: Table::new(table) }
    }

    async fn put(&self, post: Post) -> Result<(), Error> {
        let put = self.bus.transaction(async |tx| {
            tx.set_durability(Durability::Buffered);
            self.posts.put(tx, &(post.breaker.clone(), post.node.clone()), &post)
        });
        put.await.map(drop)
    }

    async fn read(&self, breaker: &str) -> Result<Vec<Post>, Error> {
        let mut reader = self.bus.reader()?;
        let rows: Result<Vec<_>, Error> = self.posts.prefix(&mut reader, &breaker.to_owned()).collect();
        let posts = rows?.into_iter().map(|(_, post)| post);
        let now = self.bus.core.clock().now();
        let (present, past): (Vec<Post>, Vec<Post>) = posts.partition(|post| now.since(post.at) < KEPT);
        if !past.is_empty() {
            let remove = self.bus.transaction(async |tx| {
                tx.set_durability(Durability::Buffered);
                past.into_iter().try_for_each(|post| self.posts.remove(tx, &(post.breaker, post.node)))
            });
            remove.await?;
        }
        Ok(present)
    }
}

impl BreakerBoard for StoreBoard {
    fn post(&self, post: Post) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { self.put(post).await.map_err(BoxError::from) })
    }

    fn posts<'a>(&'a self, breaker: &'a str) -> BoxFuture<'a, Result<Vec<Post>, BoxError>> {
        Box::pin(async move { self.read(breaker).await.map_err(BoxError::from) })
    }
}

impl std::fmt::Debug for StoreBoard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("StoreBoard").field("table", &self.posts.spec().name).finish_non_exhaustive()
    }
}
