//! One unit of a log as one unit of work.

use aftercommit::prelude::*;

use super::markers;
use crate::catalog::events::{ItemAddedToCart, ItemLiked, ItemViewed};
use crate::log::{Kind, Row, Unit};
use crate::orders::{Line, OrderId, Part, service};

/// Writes the order and publishes what happened; the mark of the unit stands with it or not at all.
pub(super) fn apply(tx: &mut Tx, unit: Unit) -> Result<(), Error> {
    markers::mark(tx, unit.number)?;
    let mut part = Part::default();
    for row in &unit.rows {
        let Row { day, item, quantity, price, .. } = *row;
        let line = Line { day, item, quantity, price };
        match row.kind {
            Kind::View => tx.publish(ItemViewed { item, day })?,
            Kind::Like => tx.publish(ItemLiked { item, day })?,
            Kind::AddToCart => tx.publish(ItemAddedToCart { item, day })?,
            Kind::Purchase => part.bought.push(line),
            Kind::Cancel => part.cancelled.push(line),
        }
    }
    if let Some(first) = unit.rows.first() {
        (part.ts_ms, part.user) = (first.ts_ms, first.user);
    }
    if part.bought.is_empty() && part.cancelled.is_empty() {
        return Ok(());
    }
    let order = unit.order.map_or(OrderId::alone(unit.number), OrderId::numbered);
    service::append(tx, order, unit.number, &part)
}
