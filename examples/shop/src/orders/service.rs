//! What is done to orders.

use aftercommit::prelude::*;

use super::events::{OrderCancelled, OrderPlaced};
use super::{OrderId, Part};

/// Every order's parts, in the order of the units of work that brought them.
pub const ORDERS: Table<(OrderId, u64), Part> = Table::new("shop.orders");

/// How many lines one event tells of at most, so that what follows from it is a small unit of work, whatever the order's size.
const LINES_PER_EVENT: usize = 40;

/// Appends to an order what the unit of work numbered `unit` brought of it, and says so.
///
/// # Errors
/// If the part or its events cannot be stored.
pub fn append(tx: &mut Tx, order: OrderId, unit: u64, part: &Part) -> Result<(), Error> {
    ORDERS.put(tx, &(order.clone(), unit), part)?;
    for lines in part.bought.chunks(LINES_PER_EVENT) {
        tx.publish(OrderPlaced { order: order.clone(), lines: lines.to_vec() })?;
    }
    for lines in part.cancelled.chunks(LINES_PER_EVENT) {
        tx.publish(OrderCancelled { order: order.clone(), lines: lines.to_vec() })?;
    }
    Ok(())
}
