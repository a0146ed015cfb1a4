//! One row of a log and how it is read from its columns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{BadLine, excerpt};
use crate::DecimalError;
use crate::day::Day;
use crate::money::{Money, Price, Quantity};

/// What a user did with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Looked at it.
    View,
    /// Liked it.
    Like,
    /// Put it into the cart.
    AddToCart,
    /// Bought it.
    Purchase,
    /// Took a purchase back.
    Cancel,
}

impl Kind {
    /// Every name, for messages.
    pub(super) const NAMES: &str = "view, like, addtocart, purchase, cancel";

    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Like => "like",
            Self::AddToCart => "addtocart",
            Self::Purchase => "purchase",
            Self::Cancel => "cancel",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::View, Self::Like, Self::AddToCart, Self::Purchase, Self::Cancel]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row: a user did something with an item at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Milliseconds since 1970-01-01 UTC.
    pub ts_ms: i64,
    /// The day of `ts_ms`.
    pub day: Day,
    /// Who; 0 where the shop does not know.
    pub user: u64,
    /// What was done.
    pub kind: Kind,
    /// With which item.
    pub item: u64,
    /// How many units, where the source knows.
    pub quantity: Option<Quantity>,
    /// Price of one unit, where the source knows.
    pub price: Option<Price>,
}

impl Row {
    /// Price times quantity, where the source knows both.
    pub fn amount(&self) -> Option<Money> {
        Some(self.price? * self.quantity?)
    }

    /// Reads the columns before the order number.
    pub(super) fn parse([ts_ms, user, event, item, qty, price]: [&[u8]; 6]) -> Result<Self, BadLine> {
        let ts_ms = required("ts_ms", ts_ms)?;
        let event = text("event", event)?;
        let row = Self {
            ts_ms,
            day: Day::of_millis(ts_ms).ok_or(BadLine::Time { found: ts_ms })?,
            user: required("user", user)?,
            kind: Kind::from_name(event).ok_or_else(|| BadLine::UnknownEvent { found: excerpt(event.as_bytes()) })?,
            item: required("item", item)?,
            quantity: optional("qty", qty)?,
            price: optional("price", price)?,
        };
        if row.kind == Kind::Purchase && row.price.is_some() && row.quantity.is_none() {
            return Err(BadLine::NoQuantity);
        }
        Ok(row)
    }
}

fn text<'a>(column: &'static str, bytes: &'a [u8]) -> Result<&'a str, BadLine> {
    std::str::from_utf8(bytes).map_err(|_| BadLine::NotText { column })
}

fn required<N: FromStr>(column: &'static str, bytes: &[u8]) -> Result<N, BadLine> {
    let text = text(column, bytes)?;
    if text.is_empty() {
        return Err(BadLine::Missing { column });
    }
    text.parse().map_err(|_| BadLine::Number { column, found: excerpt(bytes) })
}

fn optional<D: FromStr<Err = DecimalError>>(column: &'static str, bytes: &[u8]) -> Result<Option<D>, BadLine> {
    let text = text(column, bytes)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|cause| BadLine::Decimal { column, found: excerpt(bytes), cause })
}
