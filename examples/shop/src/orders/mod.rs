//! Orders: what was bought and taken back under one number.
//!
//! An order is stored in parts, one for each unit of work that brought some of it, so that appending to it reads nothing.
//! What its lines mean for items and rankings is left to those who listen.

pub mod events;
pub mod service;

use aftercommit::Key;
use serde::{Deserialize, Serialize};

use crate::day::Day;
use crate::money::{Money, Price, Quantity};

/// Which order: the one of a number, or one without.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Key)]
pub struct OrderId {
    number: Option<String>,
    unit: Option<u64>,
}

impl OrderId {
    /// The order of this number, whichever units bring it.
    pub fn numbered(number: String) -> Self {
        Self { number: Some(number), unit: None }
    }

    /// The order that one unit of a log is, without a number.
    pub fn alone(unit: u64) -> Self {
        Self { number: None, unit: Some(unit) }
    }
}

/// So many units of an item, bought or taken back on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The day in UTC.
    pub day: Day,
    /// The item.
    pub item: u64,
    /// How many units, where the shop knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Quantity>,
    /// Price of one unit, where the shop knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

impl Line {
    /// How many units, 0 where the shop does not know.
    pub fn units(&self) -> i64 {
        self.quantity.map_or(0, |quantity| quantity.get().into())
    }

    /// Price times quantity, where the shop knows both.
    pub fn amount(&self) -> Option<Money> {
        Some(self.price? * self.quantity?)
    }
}

/// What one unit of work brought of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub ts_ms: i64,
    /// Who; 0 where the shop does not know.
    pub user: u64,
    /// What was bought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bought: Vec<Line>,
    /// What was taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<Line>,
}
