//! Events as streams: in memory as they are committed, and from a position of the log on.

mod log;
mod memory;

use aftercommit::event::Stored;
use aftercommit::prelude::*;
use serde::{Deserialize, Serialize};

/// The price of an article, which is its key. Kept in the log for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Priced {
    article: String,
    cents: u32,
}

impl Event for Priced {
    const STORED: Option<Stored<Self>> = Some(Stored::json("streams.priced").logged());

    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.article.as_bytes());
        true
    }
}

impl StoredEvent for Priced {}

impl Priced {
    fn new(article: &str, cents: u32) -> Self {
        Self { article: article.to_owned(), cents }
    }
}

async fn price(bus: &Bus, article: &str, cents: u32) {
    bus.transaction(async |tx| tx.publish(Priced::new(article, cents))).await.expect("committed");
}
