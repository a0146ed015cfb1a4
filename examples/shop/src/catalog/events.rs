//! What is said of items before anybody buys them.
//!
//! These events have no key: nothing depends on which of two views came first.

use aftercommit::prelude::*;
use serde::{Deserialize, Serialize};

use crate::day::Day;

/// Somebody looked at an item.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "shop.item-viewed", version = 1)]
pub struct ItemViewed {
    /// The item.
    pub item: u64,
    /// On which day in UTC.
    pub day: Day,
}

/// Somebody liked an item.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "shop.item-liked", version = 1)]
pub struct ItemLiked {
    /// The item.
    pub item: u64,
    /// On which day in UTC.
    pub day: Day,
}

/// Somebody put an item into a cart.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "shop.item-added-to-cart", version = 1)]
pub struct ItemAddedToCart {
    /// The item.
    pub item: u64,
    /// On which day in UTC.
    pub day: Day,
}
