//! Rankings: items in the order of scores that events add up to.
//!
//! Scores are exact ([`Score`], [`Scale`]), so that an order depends on neither the sequence of events nor the machine.
//! A [`Board`] is such an order in memory, a value like any other.
//! A [`Ranking`] is fed by events: it measures them by source, weighs what was measured, and has a board for each of its [`Windows`];
//! given to a bus it is kept across restarts, each event in it once.
//!
//! ```
//! use std::time::Duration;
//!
//! use aftercommit::prelude::*;
//! use aftercommit::ranking::{Ranking, Windows, Zone, ln_1p};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(name = "shop.viewed")]
//! struct Viewed {
//!     product: u64,
//! }
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(name = "shop.sold")]
//! struct Sold {
//!     product: u64,
//!     price: f64,
//!     units: f64,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let daily = Ranking::<u64>::declare("shop.daily")
//!     .windows(Windows::daily(Zone::named("Europe/London")?).keep(30))
//!     .carry("0.5") // a new day begins with half of yesterday's scores
//!     .source("view", "0.1", |event: &Viewed, credits| credits.one(event.product))
//!     .source("sale", "0.7", |event: &Sold, credits| credits.points(event.product, ln_1p(event.price * event.units)))
//!     .build()?;
//! let bus = Bus::builder().ranking(&daily).start().await?;
//!
//! bus.transaction(async |tx| {
//!     tx.publish(Viewed { product: 1 })?;
//!     tx.publish(Sold { product: 2, price: 2.5, units: 4.0 })
//! })
//! .await?;
//! bus.idle().await;
//!
//! let top = daily.top(10);
//! assert_eq!((top[0].item, top[1].item), (2, 1));
//! assert_eq!(daily.scale().show(top[0].score).to_string(), "1.678527"); // 0.7 * ln 11
//! assert_eq!(daily.current(|board| board.rank(&1)), Some(Some(1)));
//! daily.reweigh([("view", "20")])?;
//! assert_eq!(daily.top(1)[0].item, 1);
//! # Ok(())
//! # }
//! ```

mod board;
mod changes;
mod credit;
mod declare;
mod keep;
mod live;
mod rebuild;
mod score;
mod tally;
mod window;

pub use crate::error::RankingError;
#[cfg(feature = "macros")]
pub use aftercommit_macros::Ranked;
pub use board::{Board, Entry, Ties};
pub use changes::Changes;
pub use credit::Credits;
pub use declare::{Ranked, RankingBuilder};
pub(crate) use keep::Keeps;
pub use live::{Item, Moved, Parts, Ranking};
pub use score::{Scale, Score, ln, ln_1p};
pub use window::{Windows, Zone};
